package tpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/tpmtest"
)

// makersIndex writes an index as a maker of TPMs does, while the platform hierarchy is open.
func makersIndex(t *testing.T, m *tpmtest.TPM, h tpm2.TPMHandle, data []byte) {
	t.Helper()
	m.Do(t, func(d transport.TPM) error {
		pub := tpm2.TPMSNVPublic{NVIndex: h, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(data)),
			Attributes: tpm2.TPMANV{PlatformCreate: true, PPWrite: true, PPRead: true, AuthRead: true, OwnerRead: true, NoDA: true, NT: tpm2.TPMNTOrdinary}}
		platform := tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}
		if _, err := (tpm2.NVDefineSpace{AuthHandle: platform, PublicInfo: tpm2.New2B(pub)}).Execute(d); err != nil {
			return err
		}
		r, err := tpm2.NVReadPublic{NVIndex: h}.Execute(d)
		if err != nil {
			return err
		}
		name := r.NVName
		for at := 0; at < len(data); at += nvChunk {
			part := data[at:min(len(data), at+nvChunk)]
			if _, err := (tpm2.NVWrite{AuthHandle: platform, NVIndex: tpm2.NamedHandle{Handle: h, Name: name},
				Data: tpm2.TPM2BMaxNVBuffer{Buffer: part}, Offset: uint16(at)}).Execute(d); err != nil {
				return err
			}
			if r, err = (tpm2.NVReadPublic{NVIndex: h}).Execute(d); err != nil {
				return err
			}
			name = r.NVName // it was never written before
		}
		return nil
	})
}

// makersChain is a root, an issuer and a certificate for a key.
func makersChain(t *testing.T, key *ecdsa.PublicKey) (leaf, issuer, root []byte) {
	t.Helper()
	sign := func(serial int64, name string, pub any, by *ecdsa.PrivateKey, issuer *x509.Certificate) []byte {
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().AddDate(1, 0, 0),
			IsCA: serial > 1, BasicConstraintsValid: true}
		if issuer == nil {
			issuer = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, issuer, pub, by)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	rootKey, issuerKey := newKey(t), newKey(t)
	root = sign(3, "root", rootKey.Public(), rootKey, nil)
	r, err := x509.ParseCertificate(root)
	if err != nil {
		t.Fatal(err)
	}
	issuer = sign(2, "issuer", issuerKey.Public(), rootKey, r)
	i, err := x509.ParseCertificate(issuer)
	if err != nil {
		t.Fatal(err)
	}
	return sign(1, "EK", key, issuerKey, i), issuer, root
}

// The request brings what the maker left in the TPM: the certificate of the P-256 key without its padding, and its issuers, which run on
// from one index to the next.
func TestEndorsementInTheTPM(t *testing.T) {
	b := asking(t, newAuthority(t, "example"))
	bare := b.request()
	if len(bare.EK.Certificate) != 0 || len(bare.EK.Chain) != 0 {
		t.Errorf("control: a TPM without certificates brings %d and %d", len(bare.EK.Certificate), len(bare.EK.Chain))
	}
	public, err := publicOf(bare.EK.Public)
	if err != nil {
		t.Fatal(err)
	}
	leaf, issuer, root := makersChain(t, public.(*ecdsa.PublicKey))
	chain := append(bytes.Clone(issuer), root...)
	b.down()
	b.tpm.Restart(t)
	b.measure(v1)
	makersIndex(t, b.tpm, ekCertificateECC, append(bytes.Clone(leaf), make([]byte, 700)...))
	makersIndex(t, b.tpm, ekChainFirst, chain[:300])
	makersIndex(t, b.tpm, ekChainFirst+1, chain[300:])
	b.open()
	b.stage(label.Running)
	r := b.request()
	if !bytes.Equal(r.EK.Public, bare.EK.Public) || !bytes.Equal(r.EK.Certificate, leaf) {
		t.Errorf("the request brings another key, or a certificate of %d bytes; want %d", len(r.EK.Certificate), len(leaf))
	}
	if len(r.EK.Chain) != 2 || !bytes.Equal(r.EK.Chain[0], issuer) || !bytes.Equal(r.EK.Chain[1], root) {
		t.Errorf("the request brings %d issuers", len(r.EK.Chain))
	}
	if err := b.install(b.signed(b.bundle(r, v1))); err != nil {
		t.Error(err)
	}
}

// Padding alone is no certificate. What is none is brought as it is: the desk says so, and can still enrol on an officer's word.
func TestEndorsementDamaged(t *testing.T) {
	for name, c := range map[string]struct{ data, want []byte }{
		"another structure": {[]byte{0x30, 3, 2, 1, 0}, []byte{0x30, 3, 2, 1, 0}},
		"cut off":           {[]byte{0x30, 9, 2, 1, 0}, []byte{}},
		"padding":           {make([]byte, 2000), []byte{}},
		"erased":            {bytes.Repeat([]byte{0xff}, 64), []byte{}},
	} {
		b := newBench(t, newAuthority(t, "example"))
		b.measure(v1)
		makersIndex(t, b.tpm, ekCertificateECC, c.data)
		b.open()
		b.stage(label.Running)
		if r := b.request(); !bytes.Equal(r.EK.Certificate, c.want) {
			t.Errorf("%s: certificate %x; want %x", name, r.EK.Certificate, c.want)
		}
	}
}
