package kra

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/keyrelease/krabox/kra/block"
)

// sealedContext begins the context of every sealed key:
//
//	info = "kra/delivery/v1" 0 DOMAIN "/" BOX
//	aad  = SHA-256(body of the request) || index of the result, two bytes, most significant first || digest of what a platform showed, if one did
const sealedContext = "kra/delivery/v1"

// The suites of sealed keys, by the kind of key sealed to.
const (
	sealedP256 = "p256"     // RFC 9180 base mode: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM
	sealedRSA  = "rsa-oaep" // RFC 8017 section 7.1 with SHA-256 for both hashes, label = info || 0 || aad

	minSealRSA, maxSealRSA = 2048, 8192 // bits
)

// answerContext begins what a receipt says of a key that was sealed within the HSM, see Binding.Answer.
const answerContext = "kra/answer/v1"

var (
	errNotSealable = errors.New("message keys are sealed to P-256 and to RSA of 2048 to 8192 bits only")
	errUnseal      = errors.New("open sealed key: it is for another key, box or request, or was changed")
)

// Sealed is a message key that only the holder of one private key can open. The zero Sealed opens with none.
type Sealed struct {
	suite     string
	enc, body []byte
}

// A Binding ties sealed keys to the box that answers and to the very request that they answer.
type Binding struct {
	info, request, shown []byte
}

// NewBinding binds to the box and to the body of a request, byte for byte.
func NewBinding(domain, box string, body []byte) Binding {
	sum := sha256.Sum256(body)
	return Binding{info: append(append([]byte(sealedContext), 0), domain+"/"+box...), request: sum[:]}
}

// On also binds to what a platform showed on the channel of the request, by its digest.
func (b Binding) On(shown [32]byte) Binding {
	b.shown = shown[:]
	return b
}

func (b Binding) aad(result int) []byte {
	return append(binary.BigEndian.AppendUint16(append([]byte(nil), b.request...), uint16(result)), b.shown...)
}

func (b Binding) label(result int) []byte {
	return append(append(append([]byte(nil), b.info...), 0), b.aad(result)...)
}

// Sealable returns the key of a certificate if message keys can be sealed to it: by its kind, and by what its issuer says
// that it is for.
func Sealable(cert *x509.Certificate) (crypto.PublicKey, error) {
	want := x509.KeyUsageKeyAgreement
	switch k := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, errNotSealable
		}
	case *rsa.PublicKey:
		if k.N.BitLen() < minSealRSA || k.N.BitLen() > maxSealRSA {
			return nil, errNotSealable
		}
		want = x509.KeyUsageKeyEncipherment
	default:
		return nil, errNotSealable
	}
	if cert.KeyUsage != 0 && cert.KeyUsage&want == 0 {
		return nil, errors.New("the certificate's key is not for encryption")
	}
	return cert.PublicKey, nil
}

// Seal uses up a message key and seals it, as the result with that index, to a key that Sealable returned or that a
// Delivery has.
func (b Binding) Seal(to crypto.PublicKey, result int, key MessageKey) (s Sealed, err error) {
	if ec, ok := to.(*ecdsa.PublicKey); ok {
		if to, err = ec.ECDH(); err != nil {
			return Sealed{}, errNotSealable
		}
	}
	used := key.Use(func(plain []byte) error {
		switch k := to.(type) {
		case *ecdh.PublicKey:
			s, err = b.sealP256(k, result, plain)
		case *rsa.PublicKey:
			s.suite = sealedRSA
			s.body, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, k, plain, b.label(result))
		default:
			err = errNotSealable
		}
		return err
	})
	if used != nil {
		return Sealed{}, fmt.Errorf("seal message key: %w", used)
	}
	return s, nil
}

func (b Binding) sealP256(to *ecdh.PublicKey, result int, plain []byte) (Sealed, error) {
	if to.Curve() != ecdh.P256() {
		return Sealed{}, errNotSealable
	}
	pub, err := hpke.NewDHKEMPublicKey(to)
	if err != nil {
		return Sealed{}, err
	}
	enc, sender, err := hpke.NewSender(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), b.info)
	if err != nil {
		return Sealed{}, err
	}
	body, err := sender.Seal(b.aad(result), plain)
	return Sealed{sealedP256, enc, body}, err
}

// Open opens the sealed key of the result with that index. private is an *ecdsa.PrivateKey, an ecdh.KeyExchanger or a
// crypto.Decrypter of RSA; the last two may live in a token.
func (b Binding) Open(private any, result int, s Sealed) (MessageKey, error) {
	if k, ok := private.(*ecdsa.PrivateKey); ok {
		own, err := k.ECDH()
		if err != nil {
			return MessageKey{}, errNotSealable
		}
		private = own
	}
	var plain []byte
	err := errUnseal
	switch k := private.(type) {
	case ecdh.KeyExchanger:
		if s.suite == sealedP256 {
			plain, err = b.openP256(k, result, s)
		}
	case crypto.Decrypter:
		if s.suite == sealedRSA {
			plain, err = k.Decrypt(rand.Reader, s.body, &rsa.OAEPOptions{Hash: crypto.SHA256, Label: b.label(result)})
		} else if suite, ok := s.Inside(); ok {
			plain, err = k.Decrypt(rand.Reader, s.body, &rsa.OAEPOptions{Hash: suite.OAEPHash()})
		}
	}
	if err != nil {
		return MessageKey{}, errUnseal // which of its causes it was, the key's owner cannot tell either
	}
	return block.NewFileKey(plain)
}

func (b Binding) openP256(private ecdh.KeyExchanger, result int, s Sealed) ([]byte, error) {
	key, err := hpke.NewDHKEMPrivateKey(private)
	if err != nil {
		return nil, err
	}
	r, err := hpke.NewRecipient(s.enc, key, hpke.HKDFSHA256(), hpke.AES256GCM(), b.info)
	if err != nil {
		return nil, err
	}
	return r.Open(b.aad(result), s.body)
}

func (s Sealed) append(b []byte) []byte {
	b = append(append(append(b, `{"suite":"`...), s.suite...), '"')
	if len(s.enc) > 0 {
		b = append(base64.StdEncoding.AppendEncode(append(b, `,"enc":"`...), s.enc), '"')
	}
	return append(base64.StdEncoding.AppendEncode(append(b, `,"body":"`...), s.body), `"}`...)
}

// wireSealed is Sealed as encoding/json sees it. Its encoding is the one that append writes.
type wireSealed struct {
	Suite string `json:"suite"`
	Enc   []byte `json:"enc,omitempty"`
	Body  []byte `json:"body"`
}

const (
	sealedEnc     = 65 // bytes: an uncompressed point
	sealedTag     = 16 // bytes: of GCM
	maxMessageKey = 32 // bytes
)

func (w wireSealed) close() (Sealed, error) {
	switch w.Suite {
	case sealedP256:
		if len(w.Enc) != sealedEnc || len(w.Body) <= sealedTag || len(w.Body) > maxMessageKey+sealedTag {
			return Sealed{}, errors.New("a sealed key of the wrong length")
		}
	case sealedRSA:
		if len(w.Enc) != 0 || len(w.Body) < minSealRSA/8 || len(w.Body) > maxSealRSA/8 {
			return Sealed{}, errors.New("a sealed key of the wrong length")
		}
	default:
		suite, err := block.ParseSuite(w.Suite)
		if err != nil || len(w.Enc) != 0 {
			return Sealed{}, fmt.Errorf("unknown suite %q", clip(w.Suite))
		}
		return SealedInside(suite, w.Body)
	}
	return Sealed{w.Suite, w.Enc, w.Body}, nil
}
