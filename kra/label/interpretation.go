package label

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
)

const interpretationContext = "kra/interpretation/v1"

// A Meaning is a platform's statement of interpretation: what its label stands for at this platform, for one challenge on one channel. The
// label key signs SHA-256(Bytes), which no other statement has.
type Meaning struct {
	Context     string `json:"context"` // "kra/interpretation/v1"
	Domain      string `json:"domain"`
	Name        string `json:"name"` // of the platform
	Label       ID     `json:"label"`
	Description string `json:"description"` // ni://DOMAIN/sha-256;HASH: of the document that the domain signed for the label
	Nonce       []byte `json:"nonce"`
	Channel     []byte `json:"channel"`
}

// Mean is what a holder's label stands for there, with a description as its label certificate refers to it.
func (h Holder) Mean(description string, nonce, channel []byte) (Meaning, error) {
	m := Meaning{interpretationContext, h.Domain, h.Name, h.Label, description, nonce, channel}
	return m, m.check()
}

func (m Meaning) check() error {
	switch {
	case m.Context != interpretationContext:
		return errors.New("interpretation: the statement is of another kind")
	case !hostName(m.Domain) || !namePattern.MatchString(m.Name) || !namePattern.MatchString(string(m.Label)):
		return errors.New("interpretation: a name is not one")
	case len(m.Nonce) != NonceSize || len(m.Channel) != NonceSize:
		return fmt.Errorf("interpretation: nonce and channel are of %d bytes", NonceSize)
	}
	_, err := parseDescription(m.Description)
	return err
}

// Bytes is the one JSON form.
func (m Meaning) Bytes() []byte { return encode(m) }

// An Interpretation is a meaning with the label key's signature, r and s of 32 bytes each.
type Interpretation struct {
	Meaning   Meaning `json:"meaning"`
	Signature []byte  `json:"signature"`
}

// Sign has a label key that no TPM holds sign a meaning; a TPM's signs what package tpm makes.
func (m Meaning) Sign(key crypto.Signer) (Interpretation, error) {
	if err := m.check(); err != nil {
		return Interpretation{}, err
	}
	sig, err := signDigest(key, sha256.Sum256(m.Bytes()))
	if err != nil {
		return Interpretation{}, fmt.Errorf("sign interpretation: %w", err)
	}
	return Interpretation{m, sig}, nil
}

func (i Interpretation) check() error {
	if len(i.Signature) != signatureSize {
		return fmt.Errorf("interpretation: signature of %d bytes, want %d", len(i.Signature), signatureSize)
	}
	return i.Meaning.check()
}

// Verify checks that the holder of a label certificate, which the caller has verified, says here and now what its label means, and
// that this is what the document with this hash describes, in the domain's word, which is in the certificate, and in its own.
func (i Interpretation) Verify(h Holder, certificate *x509.Certificate, document Digest, nonce, channel []byte) error {
	if err := i.check(); err != nil {
		return fmt.Errorf("verify interpretation: %w", err)
	}
	m := i.Meaning
	uri, certified, err := Description(certificate)
	if err != nil {
		return fmt.Errorf("verify interpretation: %w", err)
	}
	own, err := parseDescription(m.Description)
	switch {
	case err != nil:
		return fmt.Errorf("verify interpretation: %w", err)
	case len(nonce) != NonceSize || !bytes.Equal(m.Nonce, nonce):
		return errors.New("verify interpretation: it answers another challenge")
	case len(channel) != NonceSize || !bytes.Equal(m.Channel, channel):
		return errors.New("verify interpretation: it was made for another channel: somebody relays it")
	case m.Domain != h.Domain || m.Name != h.Name || m.Label != h.Label:
		return fmt.Errorf("verify interpretation: it is of label %q of %s of %s", m.Label, m.Name, m.Domain)
	case certified != document || own != document:
		return fmt.Errorf("verify interpretation: label %q means something else there: the domain signed %s, the platform says %s, wanted is %s", h.Label, uri, m.Description, document)
	}
	pub, ok := certificate.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return errors.New("verify interpretation: not an ECDSA key")
	}
	key, err := NewKey(pub)
	if err != nil {
		return fmt.Errorf("verify interpretation: %w", err)
	}
	if !key.Verify(sha256.Sum256(m.Bytes()), i.Signature) {
		return errors.New("verify interpretation: not signed by the label key")
	}
	return nil
}
