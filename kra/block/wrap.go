package block

import (
	"bytes"
	"crypto/mlkem"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"filippo.io/age"
)

// A Wrap is a key wrapped to one key-release key: a stanza of an age header, or a recipient of another format. Only
// NewWrap, Seal, WrapFileKey and the header parser make one; the zero Wrap opens nothing.
//
//	-> kra p256 KEY-ID ENC      -> kra rsa-oaep KEY-ID      -> p256tag TAG ENC
//	BODY                        BODY                        BODY
type Wrap struct {
	suite   Suite
	ref     Ref    // how the header names the key
	key     KeyID  // zero until the name is resolved
	enc     []byte // the encapsulated key: a point, a ML-KEM ciphertext and a point, or empty for RSA
	body    []byte // the ciphertext
	context []byte // shared info of the ECDH suites, else empty
}

var (
	errWrapShape = errors.New("wrap has the wrong length for its suite")
	errWrapRef   = errors.New("wrap does not name its key in the way of its suite")
)

// NewWrap returns the wrap with these parts, which it copies. Shapes that no encryptor makes are refused: wrong lengths,
// a point that is not on the curve, shared info where the suite has none. A wrap that names its key by the id needs no
// Named.
func NewWrap(s Suite, ref Ref, enc, body, context []byte) (Wrap, error) {
	w := Wrap{suite: s, ref: ref, enc: bytes.Clone(enc), body: bytes.Clone(body), context: bytes.Clone(context)}
	w.key, _ = ref.KeyID()
	if err := w.check(); err != nil {
		return Wrap{}, err
	}
	return w, nil
}

func (w Wrap) check() error {
	if w.suite.home() == 0 {
		return fmt.Errorf("%v is not known", w.suite)
	}
	if err := w.checkRef(); err != nil {
		return err
	}
	if len(w.enc) != w.suite.encSize() || !w.bodyFits() {
		return errWrapShape
	}
	if len(w.enc) > 0 {
		if _, err := w.suite.curve().NewPublicKey(w.point()); err != nil {
			return fmt.Errorf("read encapsulated key: %w", err)
		}
	}
	if w.suite.agrees() {
		_, err := kekSize(w.context)
		return err
	}
	if len(w.context) != 0 {
		return errWrapShape
	}
	return nil
}

func (w Wrap) checkRef() error {
	switch {
	case w.ref == KeyIDRef(KeyID{}):
		return errKeyIDZero
	case !w.ref.valid():
		return errWrapRef
	case w.suite.ours() && w.ref.kind != RefKeyID:
		return errWrapRef
	case w.suite == SuiteP256Tag || w.suite == SuiteHybridTag:
		if w.ref.kind != RefTag && w.ref.kind != RefKeyID {
			return errWrapRef
		}
	case w.ref.kind == RefTag:
		return errWrapRef
	}
	return nil
}

func (w Wrap) bodyFits() bool {
	switch {
	case w.suite.home() == SuiteRSAOAEP:
		return rsaSize(len(w.body))
	case w.suite.agrees():
		return slices.Contains(w.suite.KeySizes(), len(w.body)-wrapBlock)
	}
	return len(w.body) == hpkeBodySize
}

// point is the classical part of the encapsulated key.
func (w Wrap) point() []byte {
	if w.suite.home() == SuiteHybrid {
		return w.enc[mlkem.CiphertextSize768:]
	}
	return w.enc
}

// Suite returns how the key is wrapped.
func (w Wrap) Suite() Suite { return w.suite }

// Ref returns how the header names the key that opens the wrap.
func (w Wrap) Ref() Ref { return w.ref }

// KeyID returns the id of the key that opens the wrap; zero where the header names it otherwise and nobody has said
// which key that is.
func (w Wrap) KeyID() KeyID { return w.key }

// Named returns the wrap with the id of the key that its Ref was found to be. One that names its key by the id stays as
// it is.
func (w Wrap) Named(id KeyID) Wrap {
	if w.ref.kind != RefKeyID {
		w.key = id
	}
	return w
}

// Enc returns the encapsulated key, empty for RSA.
func (w Wrap) Enc() []byte { return bytes.Clone(w.enc) }

// Body returns the ciphertext.
func (w Wrap) Body() []byte { return bytes.Clone(w.body) }

// Context returns the shared info of an ECDH suite's key derivation, empty for other suites.
func (w Wrap) Context() []byte { return bytes.Clone(w.context) }

// Hash is the SHA-256 of the whole ciphertext, Enc and then Body.
func (w Wrap) Hash() [sha256.Size]byte {
	h := sha256.New()
	h.Write(w.enc)
	h.Write(w.body)
	return [sha256.Size]byte(h.Sum(nil))
}

// Stanza returns the wrap as age writes it, or nil where that is impossible: the wrap is of another format, or a tagged
// one without its tag.
func (w Wrap) Stanza() *age.Stanza {
	switch {
	case w.suite.ours():
		args := []string{w.suite.String(), b64.EncodeToString(w.key[:])}
		if len(w.enc) > 0 {
			args = append(args, b64.EncodeToString(w.enc))
		}
		return &age.Stanza{Type: StanzaType, Args: args, Body: w.Body()}
	case w.ref.kind == RefTag:
		args := []string{b64.EncodeToString([]byte(w.ref.value)), b64.EncodeToString(w.enc)}
		return &age.Stanza{Type: w.suite.String(), Args: args, Body: w.Body()}
	}
	return nil
}

// wrapOf reads a stanza. ok is false where it is none of ours, or names a suite of a later version, which passes through
// as any unknown stanza does.
func wrapOf(s stanza) (w Wrap, ok bool, err error) {
	switch s.args[0] {
	case StanzaType:
		return kraWrap(s)
	case typeP256Tag:
		w, err = tagWrap(SuiteP256Tag, s)
		return w, true, err
	case typeHybridTag:
		w, err = tagWrap(SuiteHybridTag, s)
		return w, true, err
	}
	return Wrap{}, false, nil
}

func kraWrap(s stanza) (w Wrap, ok bool, err error) {
	if len(s.args) < 2 {
		return Wrap{}, false, errors.New("kra stanza names no suite")
	}
	suite, err := ParseSuite(s.args[1])
	if err != nil || !suite.ours() {
		return Wrap{}, false, nil
	}
	want := 3
	if suite.encSize() > 0 {
		want = 4
	}
	if len(s.args) != want {
		return Wrap{}, false, fmt.Errorf("%v stanza has %d words, want %d", suite, len(s.args), want)
	}
	id, err := decode(s.args[2])
	if err != nil || len(id) != len(w.key) {
		return Wrap{}, false, errors.New("key id of kra stanza is not 32 bytes in base64")
	}
	var enc []byte
	if want == 4 {
		if enc, err = decode(s.args[3]); err != nil {
			return Wrap{}, false, fmt.Errorf("decode encapsulated key: %w", err)
		}
	}
	w, err = NewWrap(suite, KeyIDRef(KeyID(id)), enc, s.body, nil)
	return w, true, err
}

func tagWrap(suite Suite, s stanza) (Wrap, error) {
	if len(s.args) != 3 {
		return Wrap{}, fmt.Errorf("%v stanza has %d words, want 3", suite, len(s.args))
	}
	tag, err := decode(s.args[1])
	if err != nil {
		return Wrap{}, fmt.Errorf("decode tag: %w", err)
	}
	ref, err := newRef(RefTag, tag)
	if err != nil {
		return Wrap{}, fmt.Errorf("tag of %v stanza is not %d bytes", suite, tagSize)
	}
	enc, err := decode(s.args[2])
	if err != nil {
		return Wrap{}, fmt.Errorf("decode encapsulated key: %w", err)
	}
	return NewWrap(suite, ref, enc, s.body, nil)
}
