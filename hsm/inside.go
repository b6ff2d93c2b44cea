package hsm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A key on its way from one RSA key to another need not leave the module:
//
//	wrap --C_UnwrapKey--> session key: sensitive, of no use but to be wrapped --C_WrapKey--> ciphertext for the recipient
//	                      gone when the call returns, however it returns
//
// The module checks the padding then, and says that it is wrong in a code which the probe learns. How long the key is, not
// every module tells (SoftHSM does not): then only the recipient sees it.

var (
	errImport = errors.New("recipient's key is not taken")
	errTakeIn = errors.New("unwrap inside")
	errPassOn = errors.New("wrap inside")
	errLength = errors.New("key has a length that no message key has")
)

// Transcrypt is Unwrap for keys that go on to an RSA key: see wire.Client.Transcrypt.
func (c *Custodian) Transcrypt(to wire.Recipient, wraps []block.Wrap, done func([]wire.Result, receipt.ChainHead)) error {
	if !to.Valid() {
		return wire.Refused{Reason: "recipient is nobody"}
	}
	return c.begin(to, wraps, done)
}

// inside says whether e opens w into the module; else w is to be opened as ever.
func (s *session) inside(e *entry, w block.Wrap, to wire.Recipient) bool {
	_, can := s.token.oaep[w.Suite().OAEPHash()]
	return can && e.unwraps && to.Valid() && len(w.OAEPLabel()) == 0
}

// transcrypt opens w into the module and returns the key encrypted to the recipient. ErrUnwrap says that the wrap does not
// open; errImport and errPassOn that the module does not serve this recipient, which tells nothing of the wrap.
func (s *session) transcrypt(e *entry, w block.Wrap, to wire.Recipient) (sealed []byte, err error) {
	body := w.Body()
	if len(body) != len(e.modulus) || bytes.Compare(body, e.modulus) >= 0 {
		return nil, wire.ErrUnwrap
	}
	err = s.with(e, func(h p11.ObjectHandle) (err error) { sealed, err = s.carry(h, w.Suite(), body, to); return err })
	if err = s.token.verdict(w.Suite().OAEPHash(), err); err != nil {
		return nil, err
	}
	return sealed, nil
}

// verdict tells what is wrong with a wrap, which is ErrUnwrap, from what is wrong with the module. One code can mean either:
// SoftHSM's for bad padding is that of any fault. Only in the step that removes the padding is it the wrap's.
func (t *token) verdict(hash crypto.Hash, err error) error {
	ofWrap := isInput(err) || isCode(err, t.oaep[hash], p11.CKR_WRAPPED_KEY_INVALID, p11.CKR_WRAPPED_KEY_LEN_RANGE)
	if errors.Is(err, errLength) || errors.Is(err, errTakeIn) && ofWrap {
		return wire.ErrUnwrap
	}
	return err
}

// carry leaves no object behind: if the module does not destroy one, it goes with its session.
func (s *session) carry(from p11.ObjectHandle, suite block.Suite, body []byte, to wire.Recipient) (sealed []byte, err error) {
	var made []p11.ObjectHandle
	defer func() {
		for _, h := range made {
			if s.discard(h) != nil {
				err = errors.Join(err, s.renew())
				return
			}
		}
	}()
	hash := suite.OAEPHash()
	pub, err := s.lib.CreateObject(s.handle, recipient(to))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errImport, err)
	}
	made = append(made, pub)
	key, err := s.takeIn(from, hash, body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTakeIn, err)
	}
	made = append(made, key)
	if err := s.checkLength(key, suite.KeySizes()); err != nil {
		return nil, err
	}
	if sealed, err = s.lib.WrapKey(s.handle, oaepMechanism(hash), pub, key); err != nil {
		return nil, fmt.Errorf("%w: %w", errPassOn, err)
	}
	return sealed, nil
}

// checkLength refuses a key that is known to be of none of these lengths.
func (s *session) checkLength(key p11.ObjectHandle, sizes []int) error {
	v, err := s.read(key, p11.CKA_VALUE_LEN)
	if err != nil || ulong(v[0]) == 0 || slices.Contains(sizes, int(ulong(v[0]))) {
		return nil
	}
	return errLength
}

// takeIn opens a wrap into the module.
func (s *session) takeIn(from p11.ObjectHandle, hash crypto.Hash, body []byte) (p11.ObjectHandle, error) {
	s.token.uses.Add(1)
	return s.lib.UnwrapKey(s.handle, oaepMechanism(hash), from, body, passing())
}

// oaepMechanism is RSAES-OAEP with that hash for both and the empty label, nil for a hash without one.
func oaepMechanism(hash crypto.Hash) []*p11.Mechanism {
	var params *p11.OAEPParams
	switch hash {
	case crypto.SHA1:
		params = p11.NewOAEPParams(p11.CKM_SHA_1, p11.CKG_MGF1_SHA1, p11.CKZ_DATA_SPECIFIED, nil)
	case crypto.SHA256:
		params = p11.NewOAEPParams(p11.CKM_SHA256, p11.CKG_MGF1_SHA256, p11.CKZ_DATA_SPECIFIED, nil)
	default:
		return nil
	}
	return []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_OAEP, params)}
}

// passing is a message key in the module. It can be wrapped, and nothing else.
func passing() []*p11.Attribute {
	a := []*p11.Attribute{
		attr(p11.CKA_CLASS, p11.CKO_SECRET_KEY),
		attr(p11.CKA_KEY_TYPE, p11.CKK_GENERIC_SECRET),
		attr(p11.CKA_TOKEN, false),
		attr(p11.CKA_PRIVATE, true),
		attr(p11.CKA_SENSITIVE, true),
		attr(p11.CKA_EXTRACTABLE, true),
	}
	for _, use := range []uint{p11.CKA_ENCRYPT, p11.CKA_DECRYPT, p11.CKA_SIGN, p11.CKA_VERIFY, p11.CKA_WRAP, p11.CKA_UNWRAP, p11.CKA_DERIVE} {
		a = append(a, attr(use, false))
	}
	return append(a, attr(p11.CKA_MODIFIABLE, false)) // last: SoftHSM sets them in this order
}

// recipient is the public key of somebody else. It wraps, and nothing else.
func recipient(to wire.Recipient) []*p11.Attribute {
	return []*p11.Attribute{
		attr(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY),
		attr(p11.CKA_KEY_TYPE, p11.CKK_RSA),
		attr(p11.CKA_TOKEN, false),
		attr(p11.CKA_PRIVATE, false),
		attr(p11.CKA_MODIFIABLE, false),
		attr(p11.CKA_ENCRYPT, false),
		attr(p11.CKA_VERIFY, false),
		attr(p11.CKA_VERIFY_RECOVER, false),
		attr(p11.CKA_DERIVE, false),
		attr(p11.CKA_WRAP, true),
		attr(p11.CKA_MODULUS, to.Modulus()),
		attr(p11.CKA_PUBLIC_EXPONENT, to.Exponent()),
	}
}

// probeInside carries a key from the known RSA key to the same, wholly in the module, and learns how it refuses.
func (s *session) probeInside(by block.Suite) error {
	parsed, err := x509.ParsePKCS8PrivateKey(katKey)
	if err != nil {
		return err
	}
	known := parsed.(*rsa.PrivateKey)
	_, suite, values, err := parts(known)
	if err != nil {
		return err
	}
	h, err := s.lib.CreateObject(s.handle, slices.Concat(values, private(suite, wire.Bound), unsealed()))
	if err != nil {
		return fmt.Errorf("create key: %w", err)
	}
	err = s.probeCarry(h, known, by)
	return errors.Join(err, s.discard(h))
}

func (s *session) probeCarry(h p11.ObjectHandle, known *rsa.PrivateKey, by block.Suite) error {
	hash := by.OAEPHash()
	to, err := wire.NewRecipient(&known.PublicKey)
	if err != nil {
		return err
	}
	body, err := rsa.EncryptOAEP(hash.New(), rand.Reader, &known.PublicKey, katFileKey, nil)
	if err != nil {
		return err
	}
	sealed, err := s.carry(h, by, body, to)
	if err != nil {
		return err
	}
	got, err := rsa.DecryptOAEP(hash.New(), nil, known, sealed, nil)
	if err != nil || !bytes.Equal(got, katFileKey) {
		return errWrong
	}
	if err := s.attackPassing(h, hash, body); err != nil {
		return err
	}
	body[len(body)-1] ^= 1
	if bytes.Compare(body, known.N.Bytes()) >= 0 {
		body[0] = 0
	}
	if _, err = s.carry(h, by, body, to); err == nil {
		return errWrong
	}
	var refusal p11.Error
	if !errors.Is(err, errTakeIn) || !errors.As(err, &refusal) {
		return err
	}
	if s.token.oaep == nil {
		s.token.oaep = map[crypto.Hash]p11.Error{}
	}
	s.token.oaep[hash] = refusal
	return nil
}

// attackPassing tries to read a key on its way.
func (s *session) attackPassing(h p11.ObjectHandle, hash crypto.Hash, body []byte) error {
	key, err := s.takeIn(h, hash, body)
	if err != nil {
		return err
	}
	v, err := s.read(key, p11.CKA_VALUE)
	if gone := s.discard(key); gone != nil {
		return gone
	}
	if err == nil && len(v[0]) > 0 {
		clear(v[0])
		return errors.New("a key on its way through the module can be read")
	}
	return nil
}
