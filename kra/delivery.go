package kra

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
)

// To is where message keys are delivered to. Zero is not set and is refused.
type To uint8

// The ways of delivery.
const (
	ToChannel     To = iota + 1 // in the clear, inside the channel of an authenticated decryptor
	ToCertificate               // sealed to the key of the decryptor's certificate
	ToKey                       // sealed to a key made for this request, which the certified key signed
)

// String returns the word of a request.
func (t To) String() string {
	switch t {
	case ToChannel:
		return "channel"
	case ToCertificate:
		return "certificate"
	case ToKey:
		return "key"
	}
	return fmt.Sprintf("delivery %d", uint8(t))
}

// ParseTo reads what String writes.
func ParseTo(s string) (To, error) {
	for _, t := range []To{ToChannel, ToCertificate, ToKey} {
		if s == t.String() {
			return t, nil
		}
	}
	return 0, fmt.Errorf("delivery %q is none of channel, certificate, key", clip(s))
}

// deliveryKeyContext begins what the certified key signs:
//
//	"kra/delivery-key/v2" 0 DOMAIN "/" BOX 0 SHA-256(SPKI of the key made for the request) SHA-256(SHA-256(header 0) SHA-256(header 1) …)
const deliveryKeyContext = "kra/delivery-key/v2"

// A Delivery says how the keys of one request travel back.
type Delivery struct {
	to        To
	key       *ecdh.PublicKey // ToKey only
	spki      []byte          // of key
	signature []byte
	inside    bool // ToCertificate only
}

// To returns the way.
func (d Delivery) To() To { return d.to }

// Inside reports whether a key of a CMS or JWE head may be sealed within the HSM, where nothing but the receipt ties it to
// the request. Whoever says so opens Sealed.Inside and looks at the receipt.
func (d Delivery) Inside() bool { return d.inside }

// NewInside returns the delivery to a certificate that takes keys which were sealed within the HSM, too.
func NewInside() Delivery { return Delivery{to: ToCertificate, inside: true} }

// Key returns the key made for the request, nil unless To is ToKey. Nobody has verified who made it: VerifyKey does.
func (d Delivery) Key() *ecdh.PublicKey { return d.key }

// NewDelivery returns one that needs no key: ToChannel or ToCertificate.
func NewDelivery(t To) (Delivery, error) {
	if t != ToChannel && t != ToCertificate {
		return Delivery{}, fmt.Errorf("make delivery: not to a %v alone", t)
	}
	return Delivery{to: t}, nil
}

// SignDelivery returns the delivery to a P-256 key made for a request for headers to one box, signed by the decryptor's
// certified key: ECDSA with SHA-256 over a digest, RSA-PSS with SHA-256, or Ed25519.
func SignDelivery(domain, box string, key *ecdh.PublicKey, headers [][]byte, certified crypto.Signer) (Delivery, error) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || key.Curve() != ecdh.P256() {
		return Delivery{}, errors.New("sign delivery key: not a P-256 key")
	}
	sig, err := sign(deliveryMessage(domain, box, spki, headers), certified)
	if err != nil {
		return Delivery{}, fmt.Errorf("sign delivery key: %w", err)
	}
	return signedDelivery(spki, sig)
}

// signedDelivery closes the parts of a delivery to a key. The key has one encoding.
func signedDelivery(spki, signature []byte) (Delivery, error) {
	bad := errors.New("delivery key is no P-256 SubjectPublicKeyInfo")
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return Delivery{}, bad
	}
	ec, ok := pub.(*ecdsa.PublicKey)
	if !ok || ec.Curve != elliptic.P256() {
		return Delivery{}, bad
	}
	key, err := ec.ECDH()
	if err != nil {
		return Delivery{}, bad
	}
	again, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || !bytes.Equal(again, spki) {
		return Delivery{}, bad
	}
	if len(signature) == 0 || len(signature) > maxSignature {
		return Delivery{}, fmt.Errorf("signature of the delivery key has %d bytes, want 1 to %d", len(signature), maxSignature)
	}
	return Delivery{to: ToKey, key: key, spki: spki, signature: signature}, nil
}

func deliveryMessage(domain, box string, spki []byte, headers [][]byte) []byte {
	all := sha256.New()
	for _, h := range headers {
		sum := sha256.Sum256(h)
		all.Write(sum[:])
	}
	key := sha256.Sum256(spki)
	m := append(append([]byte(deliveryKeyContext), 0), domain+"/"+box+"\x00"...)
	return all.Sum(append(m, key[:]...))
}

// VerifyKey reports, as nil or an error, whether the holder of the certificate's private key asked this box that the keys
// of these headers be sealed to the delivery's key.
func (d Delivery) VerifyKey(domain, box string, cert *x509.Certificate, headers [][]byte) error {
	if d.to != ToKey || d.key == nil {
		return errors.New("verify delivery key: there is none")
	}
	if err := checkSigned(cert, deliveryMessage(domain, box, d.spki, headers), d.signature); err != nil {
		return fmt.Errorf("verify delivery key: %w", err)
	}
	return nil
}
