package tpm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// Lifetimes of leaves. A leaf never outlives its label certificate.
const (
	tlsLife     = 24 * time.Hour
	keyLife     = 365 * 24 * time.Hour
	replicaLife = 7 * 24 * time.Hour // a statement is carried from box to box by hand
	importLife  = 30 * 24 * time.Hour
	backdate    = 5 * time.Minute // for clocks that are a little behind; counts as life
	minRSA      = 2048
	importRSA   = 3072
)

var forever = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// LeafTLS certifies a TLS server key for the names of this box and no others.
func (a *Agent) LeafTLS(ctx context.Context, spki []byte) ([][]byte, error) {
	return a.leaf(ctx, spki, func(b label.Box, pub crypto.PublicKey) (*x509.Certificate, error) {
		switch pub.(type) {
		case *ecdsa.PublicKey, ed25519.PublicKey:
		default:
			return nil, wire.Refused{Reason: "TLS leaf: want an ECDSA or Ed25519 key"}
		}
		t := &x509.Certificate{Subject: a.subject(b.Name), DNSNames: b.DNS, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		for _, ip := range b.IP {
			t.IPAddresses = append(t.IPAddresses, net.IP(ip.AsSlice()))
		}
		return a.lasting(t, tlsLife), nil
	})
}

// LeafReceipt certifies the key that signs receipts and checkpoints, for as long as the label certificate is valid: those are dated by the
// box's clock, which may be set long after its start, and one dated outside of its key's certificate would verify nowhere, nor would
// the log.
func (a *Agent) LeafReceipt(ctx context.Context, spki []byte) ([][]byte, error) {
	return a.leaf(ctx, spki, func(b label.Box, pub crypto.PublicKey) (*x509.Certificate, error) {
		if _, ok := pub.(ed25519.PublicKey); !ok {
			return nil, wire.Refused{Reason: "receipt leaf: want an Ed25519 key"}
		}
		t, err := a.named(&x509.Certificate{Subject: a.subject(b.Name + " receipts"), KeyUsage: x509.KeyUsageDigitalSignature}, a.domain.ReceiptURI(b.Name), 0)
		if err != nil {
			return nil, err
		}
		t.NotBefore, t.NotAfter = time.Time{}, forever
		return t, nil
	})
}

// LeafReplica certifies the key that signs the one statement about copies of keys with this digest.
func (a *Agent) LeafReplica(ctx context.Context, spki []byte, statement label.Digest) ([][]byte, error) {
	if statement == (label.Digest{}) {
		return nil, wire.Refused{Reason: "replica leaf: no statement"}
	}
	return a.leaf(ctx, spki, func(b label.Box, pub crypto.PublicKey) (*x509.Certificate, error) {
		if k, ok := pub.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
			return nil, wire.Refused{Reason: "replica leaf: want a P-256 key"}
		}
		return a.named(&x509.Certificate{Subject: a.subject(b.Name + " replicas"), KeyUsage: x509.KeyUsageDigitalSignature},
			a.domain.ReplicaURI(b.Name, statement), replicaLife)
	})
}

// LeafImport certifies the key to which private keys are wrapped for this box. It is no key-release key, and no name makes it one.
func (a *Agent) LeafImport(ctx context.Context, spki []byte) ([][]byte, error) {
	return a.leaf(ctx, spki, func(b label.Box, pub crypto.PublicKey) (*x509.Certificate, error) {
		if k, ok := pub.(*rsa.PublicKey); !ok || k.N.BitLen() != importRSA {
			return nil, wire.Refused{Reason: fmt.Sprintf("import leaf: want an RSA key of %d bits", importRSA)}
		}
		return a.named(&x509.Certificate{Subject: a.subject(b.Name + " import"), KeyUsage: x509.KeyUsageKeyEncipherment}, a.domain.ImportURI(b.Name), importLife)
	})
}

// LeafKeyRelease certifies a key-release key: its subject is the access identifier.
func (a *Agent) LeafKeyRelease(ctx context.Context, spki []byte, access string, u wire.Usage) ([][]byte, error) {
	if _, err := label.ParseID(access); err != nil {
		return nil, wire.Refused{Reason: "key-release leaf: not an access identifier"}
	}
	return a.leaf(ctx, spki, func(_ label.Box, pub crypto.PublicKey) (*x509.Certificate, error) {
		usage, err := keyUsage(pub, u)
		if err != nil {
			return nil, err
		}
		return a.named(&x509.Certificate{Subject: a.subject(access), KeyUsage: usage}, a.domain.KeyReleaseURI(access), keyLife)
	})
}

func keyUsage(pub crypto.PublicKey, u wire.Usage) (x509.KeyUsage, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if u == wire.Agreement && (k.Curve == elliptic.P256() || k.Curve == elliptic.P384()) {
			return x509.KeyUsageKeyAgreement, nil
		}
	case *block.HybridKey:
		if u == wire.Encipherment {
			return x509.KeyUsageKeyEncipherment, nil
		}
	case *rsa.PublicKey:
		if u == wire.Encipherment && k.N.BitLen() >= minRSA {
			return x509.KeyUsageKeyEncipherment, nil
		}
	}
	return 0, wire.Refused{Reason: fmt.Sprintf("key-release leaf: key does not serve %q: want P-256 or P-384 for agreement, hybrid or RSA of at least %d bits for encipherment", u, minRSA)}
}

func (a *Agent) subject(name string) pkix.Name {
	return pkix.Name{Organization: []string{a.domain.Name}, CommonName: name}
}

func (a *Agent) named(t *x509.Certificate, uri string, life time.Duration) (*x509.Certificate, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("name leaf: %w", err)
	}
	t.URIs = []*url.URL{u}
	return a.lasting(t, life), nil
}

func (a *Agent) lasting(t *x509.Certificate, life time.Duration) *x509.Certificate {
	t.NotBefore = a.cfg.Now().Add(-backdate)
	t.NotAfter = t.NotBefore.Add(life)
	t.BasicConstraintsValid = true
	return t
}

// leaf builds a certificate for a foreign key and has the key of label key-release sign it, and no other label's. There is no way to have anything else
// signed: no caller of the Agent hands in what goes under the signature.
func (a *Agent) leaf(ctx context.Context, spki []byte, build func(label.Box, crypto.PublicKey) (*x509.Certificate, error)) ([][]byte, error) {
	pub, err := parseKey(spki)
	if err != nil {
		return nil, wire.Refused{Reason: "certify key: not a SubjectPublicKeyInfo"}
	}
	leave, err := a.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	srk, err := a.ready()
	if err != nil {
		return nil, err
	}
	of, ok := a.enrolment.Of(label.KeyRelease)
	if !ok {
		return nil, noLabel(label.KeyRelease)
	}
	template, err := build(a.enrolment.Box, pub)
	if err != nil {
		return nil, err
	}
	der, err := a.certify(srk, of, template, pub)
	if err != nil {
		return nil, refuse(err)
	}
	return append([][]byte{der}, of.Chain...), nil
}

// parseKey reads a key of a kind that there is a leaf for.
func parseKey(spki []byte) (crypto.PublicKey, error) {
	if pub, err := x509.ParsePKIXPublicKey(spki); err == nil {
		return pub, nil
	}
	return block.ParsePublicKey(spki)
}

func (a *Agent) certify(srk object, of label.OfLabel, template *x509.Certificate, pub crypto.PublicKey) ([]byte, error) {
	issuer, err := x509.ParseCertificate(of.Chain[0])
	if err != nil {
		return nil, fmt.Errorf("parse label certificate: %w", err)
	}
	if !template.NotAfter.After(issuer.NotBefore) {
		// The clock has lost its battery: it cannot be earlier than the certificate that lies here. The box has to open, or nobody could set
		// the clock; krad trusts it no more for that.
		life := template.NotAfter.Sub(template.NotBefore)
		template.NotBefore, template.NotAfter = issuer.NotBefore, issuer.NotBefore.Add(life)
	}
	over := a.cfg.Now().Add(-backdate).After(issuer.NotAfter)
	if template.NotAfter.After(issuer.NotAfter) {
		template.NotAfter = issuer.NotAfter
	}
	if template.NotBefore.Before(issuer.NotBefore) {
		template.NotBefore = issuer.NotBefore
	}
	if over || !template.NotBefore.Before(template.NotAfter) {
		return nil, wire.Refused{Reason: fmt.Sprintf("certify key: the clock says %s, the label certificate is valid from %s to %s",
			a.cfg.Now().UTC().Format(time.DateTime), issuer.NotBefore.UTC().Format(time.DateTime), issuer.NotAfter.UTC().Format(time.DateTime))}
	}
	by := labelSigner{a, srk, issuer.PublicKey}
	var der []byte
	if k, ok := pub.(*block.HybridKey); ok {
		der, err = certifyHybrid(template, issuer, k, by)
	} else {
		der, err = x509.CreateCertificate(rand.Reader, template, issuer, pub, by)
	}
	if err != nil {
		return nil, fmt.Errorf("certify key: %w", err)
	}
	return der, nil
}

// labelSigner is the label key as crypto/x509 wants it. It never leaves this file.
type labelSigner struct {
	agent  *Agent
	srk    object
	public crypto.PublicKey
}

// Public is the key in the label certificate.
func (s labelSigner) Public() crypto.PublicKey { return s.public }

// Sign has the TPM sign, if it is in the approved state.
func (s labelSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 {
		return nil, errors.New("sign with label key: want SHA-256")
	}
	sig, err := s.agent.signLabel(s.srk, label.KeyRelease, digest)
	if err != nil {
		return nil, err
	}
	return derSignature(sig)
}

func derSignature(sig tpm2.TPMTSignature) ([]byte, error) {
	e, err := sig.Signature.ECDSA()
	if err != nil {
		return nil, fmt.Errorf("read signature: %w", err)
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(e.SignatureR.Buffer), new(big.Int).SetBytes(e.SignatureS.Buffer)})
}
