package jwe

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"strings"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/keyrelease/krabox/kra/block"
)

// Encrypt returns a message to all of to: A256GCM in JSON, each key encrypted by RSA-OAEP-256 or ECDH-ES+A256KW and named
// by its thumbprint.
func Encrypt(payload []byte, to ...crypto.PublicKey) ([]byte, error) {
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("encrypt: %w: content has %d bytes, at most %d fit", errTooLarge, len(payload), MaxPayload)
	}
	if len(to) == 0 || len(to) > MaxRecipients {
		return nil, fmt.Errorf("encrypt: %d recipients, want 1 to %d", len(to), MaxRecipients)
	}
	var recipients []jose.Recipient
	for _, pub := range to {
		r, err := recipientFor(pub)
		if err != nil {
			return nil, fmt.Errorf("encrypt: %w", err)
		}
		recipients = append(recipients, r)
	}
	e, err := jose.NewMultiEncrypter(jose.A256GCM, recipients, nil)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	m, err := e.Encrypt(payload)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return tidy(m.FullSerialize())
}

// tidy takes out what go-jose writes twice where there are several recipients, RFC 7516 section 7.2.1.
func tidy(text string) ([]byte, error) {
	o, err := parseObject([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	if _, ok := o["recipients"]; ok {
		delete(o, "encrypted_key")
	}
	return o.encode()
}

func recipientFor(pub crypto.PublicKey) (jose.Recipient, error) {
	kind, err := block.SuiteOf(pub)
	if err != nil {
		return jose.Recipient{}, err
	}
	r := jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: pub}
	switch {
	case kind.Opens(block.SuiteECDHES), kind.Opens(block.SuiteECDHESP384):
		r.Algorithm = jose.ECDH_ES_A256KW
		curve := elliptic.P256()
		if kind == block.SuiteP384 {
			curve = elliptic.P384()
		}
		if k, ok := pub.(*ecdh.PublicKey); ok {
			if r.Key, err = ecdsa.ParseUncompressedPublicKey(curve, k.Bytes()); err != nil {
				return jose.Recipient{}, err
			}
		}
	case !kind.Opens(block.SuiteOAEP):
		return jose.Recipient{}, fmt.Errorf("JWE does not encrypt to a key of suite %v", kind)
	}
	spki, err := block.MarshalPublicKey(pub)
	if err != nil {
		return jose.Recipient{}, err
	}
	refs, err := block.RefsOf(spki)
	if err != nil {
		return jose.Recipient{}, err
	}
	for _, ref := range refs {
		if ref.Kind() == block.RefThumbprint {
			_, r.KeyID, _ = strings.Cut(ref.String(), ":")
		}
	}
	return r, nil
}

// All that go-jose knows: which algorithms other recipients use is their business, and the encryption of the content was
// looked at before.
var (
	keyAlgorithms = []jose.KeyAlgorithm{
		jose.RSA1_5, jose.RSA_OAEP, jose.RSA_OAEP_256, jose.A128KW, jose.A192KW, jose.A256KW, jose.DIRECT, jose.ECDH_ES,
		jose.ECDH_ES_A128KW, jose.ECDH_ES_A192KW, jose.ECDH_ES_A256KW, jose.A128GCMKW, jose.A192GCMKW, jose.A256GCMKW,
		jose.PBES2_HS256_A128KW, jose.PBES2_HS384_A192KW, jose.PBES2_HS512_A256KW,
	}
	contentEncryptions = []jose.ContentEncryption{jose.A128GCM, jose.A192GCM, jose.A256GCM, jose.A128CBC_HS256, jose.A192CBC_HS384, jose.A256CBC_HS512}
)

// Open decrypts the content under key, the one that all recipients' encrypted keys hold.
func (m Message) Open(key []byte) ([]byte, error) {
	parse := jose.ParseEncryptedJSON
	if m.compact {
		parse = jose.ParseEncryptedCompact
	}
	j, err := parse(m.text, keyAlgorithms, contentEncryptions)
	if err != nil {
		return nil, fmt.Errorf("open JWE: %w", err)
	}
	_, _, out, err := j.DecryptMulti(released(key))
	if err != nil {
		return nil, fmt.Errorf("open JWE: %w", errors.Join(ErrContent, err))
	}
	return out, nil
}

// A released key stands for a private key: whatever is to be decrypted with that, it is the answer.
type released []byte

// DecryptKey implements jose.OpaqueKeyDecrypter.
func (r released) DecryptKey([]byte, jose.Header) ([]byte, error) {
	return append([]byte(nil), r...), nil
}
