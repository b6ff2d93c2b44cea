package block

import (
	"bytes"
	"crypto/ecdh"
	"crypto/sha256"
	"errors"
	"fmt"

	"filippo.io/age"
)

// A Wrap is a file key wrapped to one key-release key: a kra stanza. Only NewWrap,
// WrapFileKey and the header parser make one; the zero Wrap opens nothing.
//
//	-> kra p256     KEY-ID ENC        -> kra rsa-oaep KEY-ID
//	BODY                              BODY
type Wrap struct {
	suite Suite
	key   KeyID
	enc   []byte // p256: the encapsulated key, an uncompressed point; rsa-oaep: empty
	body  []byte // the ciphertext
}

var errWrapShape = errors.New("wrap has the wrong length for its suite")

// NewWrap returns the wrap with these parts, which it copies. Shapes that no
// encryptor makes are refused: wrong lengths, a point that is not on the curve.
func NewWrap(s Suite, id KeyID, enc, body []byte) (Wrap, error) {
	w := Wrap{suite: s, key: id, enc: bytes.Clone(enc), body: bytes.Clone(body)}
	if err := w.check(); err != nil {
		return Wrap{}, err
	}
	return w, nil
}

func (w Wrap) check() error {
	if w.key.IsZero() {
		return errKeyIDZero
	}
	switch w.suite {
	case SuiteP256:
		if len(w.enc) != p256EncSize || len(w.body) != p256BodySize {
			return errWrapShape
		}
		if _, err := ecdh.P256().NewPublicKey(w.enc); err != nil {
			return fmt.Errorf("read encapsulated key: %w", err)
		}
		return nil
	case SuiteRSAOAEP:
		if len(w.enc) != 0 || !rsaSize(len(w.body)) {
			return errWrapShape
		}
		return nil
	}
	return fmt.Errorf("%v is not known", w.suite)
}

// Suite returns how the file key is wrapped.
func (w Wrap) Suite() Suite { return w.suite }

// KeyID returns the id of the key that opens the wrap.
func (w Wrap) KeyID() KeyID { return w.key }

// Enc returns the encapsulated key, empty for RSA.
func (w Wrap) Enc() []byte { return bytes.Clone(w.enc) }

// Body returns the ciphertext.
func (w Wrap) Body() []byte { return bytes.Clone(w.body) }

// Hash is the SHA-256 of the whole ciphertext, Enc and then Body.
func (w Wrap) Hash() [sha256.Size]byte {
	h := sha256.New()
	h.Write(w.enc)
	h.Write(w.body)
	return [sha256.Size]byte(h.Sum(nil))
}

// Stanza returns the wrap as age writes it.
func (w Wrap) Stanza() *age.Stanza {
	args := []string{w.suite.String(), b64.EncodeToString(w.key[:])}
	if w.suite == SuiteP256 {
		args = append(args, b64.EncodeToString(w.enc))
	}
	return &age.Stanza{Type: StanzaType, Args: args, Body: w.Body()}
}

// wrapOf reads a kra stanza. ok is false where the stanza names a suite of a later
// version, which passes through as any unknown stanza does.
func wrapOf(s stanza) (w Wrap, ok bool, err error) {
	if len(s.args) < 2 {
		return Wrap{}, false, errors.New("kra stanza names no suite")
	}
	w.suite, err = ParseSuite(s.args[1])
	if err != nil {
		return Wrap{}, false, nil
	}
	want := 3
	if w.suite == SuiteP256 {
		want = 4
		if len(s.args) == want {
			if w.enc, err = decode(s.args[3]); err != nil {
				return Wrap{}, false, fmt.Errorf("decode encapsulated key: %w", err)
			}
		}
	}
	if len(s.args) != want {
		return Wrap{}, false, fmt.Errorf("%v stanza has %d words, want %d", w.suite, len(s.args), want)
	}
	id, err := decode(s.args[2])
	if err != nil || len(id) != len(w.key) {
		return Wrap{}, false, errors.New("key id of kra stanza is not 32 bytes in base64")
	}
	copy(w.key[:], id)
	w.body = s.body
	return w, true, w.check()
}
