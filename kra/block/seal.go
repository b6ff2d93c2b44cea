package block

import (
	"crypto"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // of SuiteOAEPSHA1
	_ "crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"filippo.io/age"
)

var (
	errFileKey  = errors.New("file key is not 16 bytes")
	errKeySize  = errors.New("key is not of a size that a message key has here")
	errWrongKey = errors.New("wrap is for another key")
	errSuiteKey = errors.New("suite does not wrap to this kind of key")
	errOpen     = errors.New("wrap does not open")
)

// WrapFileKey wraps fileKey to pub, a key of one of the kinds that SuiteOf names, as a stanza of ours.
func WrapFileKey(pub crypto.PublicKey, fileKey []byte) (Wrap, error) {
	s, err := SuiteOf(pub)
	if err != nil {
		return Wrap{}, err
	}
	return Seal(s, pub, fileKey, nil)
}

// Seal wraps key to pub by a suite for its kind of key. The suites of age headers take 16 bytes, the others what KeySizes
// lists; context is the shared info of an ECDH suite. The wrap names its key by tag for stock age, and else by id.
func Seal(s Suite, pub crypto.PublicKey, key, context []byte) (Wrap, error) {
	if s.stanza() && len(key) != FileKeySize {
		return Wrap{}, errFileKey
	}
	if !slices.Contains(s.KeySizes(), len(key)) {
		return Wrap{}, errKeySize
	}
	if kind, err := SuiteOf(pub); err != nil || !kind.Opens(s) {
		return Wrap{}, errors.Join(err, errSuiteKey)
	}
	id, err := KeyIDOf(pub)
	if err != nil {
		return Wrap{}, err
	}
	enc, body, err := s.seal(pub, id, key, context)
	if err != nil {
		return Wrap{}, fmt.Errorf("encrypt file key: %w", err)
	}
	ref := KeyIDRef(id)
	if s == SuiteP256Tag || s == SuiteHybridTag {
		t, err := NewTagged(pub)
		if err != nil {
			return Wrap{}, err
		}
		ref = Ref{RefTag, string(endTag(beginTag(s, enc), t.hint))}
	}
	w, err := NewWrap(s, ref, enc, body, context)
	return w.Named(id), err
}

func (s Suite) seal(pub crypto.PublicKey, id KeyID, key, context []byte) (enc, body []byte, err error) {
	switch {
	case s.home() == SuiteRSAOAEP:
		body, err = rsa.EncryptOAEP(s.OAEPHash().New(), rand.Reader, pub.(*rsa.PublicKey), key, s.info(id))
		return nil, body, err
	case s.agrees():
		p, _ := pointOf(pub)
		return sealAgreed(s, p, key, context)
	}
	var to hpke.PublicKey
	if k, ok := pub.(*HybridKey); ok {
		to = k.kem
	} else {
		p, _ := pointOf(pub)
		if to, err = hpke.NewDHKEMPublicKey(p); err != nil {
			return nil, nil, err
		}
	}
	ct, err := hpke.Seal(to, s.kdf(), s.aead(), s.info(id), key)
	if err != nil {
		return nil, nil, err
	}
	return ct[:s.encSize()], ct[s.encSize():], nil
}

// info is HPKE's info, or the label of RSA-OAEP.
func (s Suite) info(id KeyID) []byte {
	switch s {
	case SuiteOAEP, SuiteOAEPSHA1:
		return nil
	case SuiteP256Tag, SuiteHybridTag:
		return []byte(tagContext + s.String())
	}
	return Info(id)
}

// kdf has the hash of the curve: RFC 9180 section 7.1 has its KEM use the same.
func (s Suite) kdf() hpke.KDF {
	if s == SuiteP384 {
		return hpke.HKDFSHA384()
	}
	return hpke.HKDFSHA256()
}

func (s Suite) aead() hpke.AEAD {
	if s.ours() {
		return hpke.AES256GCM()
	}
	return hpke.ChaCha20Poly1305()
}

// OAEPLabel returns the label of an RSA wrap.
func (w Wrap) OAEPLabel() []byte { return w.suite.info(w.key) }

// OpenEC opens a wrap of a suite for keys on P-256 or P-384 with the private key kx, which may live in a token. The wrap must name
// the key: see Wrap.Named. The caller clears what it returns.
func OpenEC(kx ecdh.KeyExchanger, w Wrap) ([]byte, error) {
	id, err := KeyIDOf(kx.PublicKey())
	if err != nil {
		return nil, errWrongKey
	}
	return OpenECAs(id, kx, w)
}

// OpenECAs is OpenEC where the id of kx's public key is known already. It asks kx for one exchange.
func OpenECAs(id KeyID, kx ecdh.KeyExchanger, w Wrap) ([]byte, error) {
	if home := w.suite.home(); home != SuiteP256 && home != SuiteP384 || kx.Curve() != w.suite.curve() || id != w.key {
		return nil, errWrongKey
	}
	if w.suite.agrees() {
		return openAgreed(kx, w)
	}
	key, err := hpke.NewDHKEMPrivateKey(kx)
	if err != nil {
		return nil, fmt.Errorf("use private key: %w", err)
	}
	return openHPKE(key, w)
}

// OpenHybridAs opens a wrap of a suite for hybrid keys with the two halves of the one whose id is given: pq is an
// ML-KEM-768 decapsulation key, and kx, which may live in a token, is asked for one exchange.
func OpenHybridAs(id KeyID, pq crypto.Decapsulator, kx ecdh.KeyExchanger, w Wrap) ([]byte, error) {
	if w.suite.home() != SuiteHybrid || kx.Curve() != ecdh.P256() || id != w.key {
		return nil, errWrongKey
	}
	key, err := hpke.NewHybridPrivateKey(pq, kx)
	if err != nil {
		return nil, fmt.Errorf("use private key: %w", err)
	}
	return openHPKE(key, w)
}

func openHPKE(key hpke.PrivateKey, w Wrap) ([]byte, error) {
	r, err := hpke.NewRecipient(w.enc, key, w.suite.kdf(), w.suite.aead(), w.suite.info(w.key))
	if err != nil {
		return nil, fmt.Errorf("decapsulate: %w", err)
	}
	fileKey, err := r.Open(nil, w.body)
	if err != nil || len(fileKey) != FileKeySize {
		return nil, errOpen
	}
	return fileKey, nil
}

// A Recipient wraps file keys to one key-release key. It is an age.Recipient.
type Recipient struct {
	pub   crypto.PublicKey
	id    KeyID
	suite Suite
}

var _ age.RecipientWithLabels = Recipient{}

// NewRecipient returns the recipient of the key pub, of a kind that SuiteOf names.
func NewRecipient(pub crypto.PublicKey) (Recipient, error) {
	s, err := SuiteOf(pub)
	if err != nil {
		return Recipient{}, err
	}
	id, err := KeyIDOf(pub)
	if err != nil {
		return Recipient{}, err
	}
	return Recipient{pub: pub, id: id, suite: s}, nil
}

// KeyID returns the id of the recipient's key.
func (r Recipient) KeyID() KeyID { return r.id }

// Wrap implements age.Recipient.
func (r Recipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	w, err := WrapFileKey(r.pub, fileKey)
	if err != nil {
		return nil, err
	}
	return []*age.Stanza{w.Stanza()}, nil
}

// WrapWithLabels implements age.RecipientWithLabels. A hybrid key asks, as age's own do, that no recipient beside it
// gives the file key to a quantum computer.
func (r Recipient) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	s, err := r.Wrap(fileKey)
	if r.suite == SuiteHybrid {
		return s, []string{"postquantum"}, err
	}
	return s, nil, err
}
