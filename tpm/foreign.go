package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/keyrelease/krabox/kra/block"
)

// crypto/x509 certifies no key of a kind that it does not know. A hybrid key's certificate is therefore made for a key
// that nobody has, signed by a key that nobody keeps, and then taken apart: with the hybrid key in its place, the label key
// signs it.
func certifyHybrid(template, issuer *x509.Certificate, key *block.HybridKey, by crypto.Signer) ([]byte, error) {
	spki, err := block.MarshalPublicKey(key)
	if err != nil {
		return nil, err
	}
	nobody, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	standIn := *issuer
	standIn.PublicKey = nobody.Public()
	raw, err := x509.CreateCertificate(rand.Reader, template, &standIn, nobody.Public(), nobody)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, err
	}
	tbs, err := exchangeKey(c, spki)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(tbs)
	sig, err := by.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	if err := issuer.CheckSignature(x509.ECDSAWithSHA256, tbs, sig); err != nil {
		return nil, err
	}
	return signedBy(tbs, sig)
}

// exchangeKey returns what is signed of c, RFC 5280 section 4.1, with another SubjectPublicKeyInfo.
func exchangeKey(c *x509.Certificate, spki []byte) ([]byte, error) {
	in, fields := cryptobyte.String(c.RawTBSCertificate), cryptobyte.String(nil)
	if !in.ReadASN1(&fields, der.SEQUENCE) || !in.Empty() {
		return nil, errors.New("read certificate")
	}
	exchanged := 0
	var out cryptobyte.Builder
	out.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		for !fields.Empty() {
			var f cryptobyte.String
			var tag der.Tag
			if !fields.ReadAnyASN1Element(&f, &tag) {
				b.SetError(errors.New("read certificate"))
				return
			}
			if bytes.Equal(f, c.RawSubjectPublicKeyInfo) {
				exchanged++
				f = spki
			}
			b.AddBytes(f)
		}
	})
	if exchanged != 1 {
		return nil, fmt.Errorf("certificate has its key %d times", exchanged)
	}
	return out.Bytes()
}

// ecdsaWithSHA256 is RFC 5758 section 3.2, DER.
var ecdsaWithSHA256 = []byte{0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02}

func signedBy(tbs, sig []byte) ([]byte, error) {
	var out cryptobyte.Builder
	out.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(ecdsaWithSHA256)
		b.AddASN1BitString(sig)
	})
	return out.Bytes()
}
