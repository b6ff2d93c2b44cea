package hsm

import (
	"crypto/ecdh"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// Every attribute that decides what an object may do is given, though a standard default might agree: SoftHSM's
// defaults permit more than PKCS#11's. Left out are CKA_COPYABLE and CKA_DESTROYABLE: we need both true, as they are by
// default, and NSS knows neither.

const (
	p256Size   = 32
	p384Size   = 48
	rsaE       = 65537
	keyLabel   = "kra"
	cameLabel  = "kra-wrapped" // of a key that came wrapped to the import key
	kekLabel   = "kra-key-encryption-key"
	aesKeySize = 32
)

// The curves, RFC 5480 section 2.1.1.1, in DER.
var (
	p256OID = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07} // prime256v1
	p384OID = []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}                   // secp384r1
)

// A curve is what the token must be told of one.
type curve struct {
	ecdh   ecdh.Curve
	oid    []byte
	secret []*p11.Attribute // what ECDH on it makes
	size   int              // bytes of a coordinate, and of a shared secret
}

var (
	onP256 = &curve{ecdh.P256(), p256OID, sharedSecret(p256Size), p256Size}
	onP384 = &curve{ecdh.P384(), p384OID, sharedSecret(p384Size), p384Size}
)

// curveOf returns the curve of what the token has of a key, nil for RSA.
func curveOf(s wire.Suite) *curve {
	switch s {
	case wire.P256, wire.Hybrid:
		return onP256
	case wire.P384:
		return onP384
	}
	return nil
}

// isEC reports whether what the token has of a key is a private key on a curve.
func isEC(s wire.Suite) bool { return curveOf(s) != nil }

// sharedSecret is what ECDH makes: readable, for it goes on into HPKE here, and gone with the session.
func sharedSecret(size int) []*p11.Attribute {
	return []*p11.Attribute{
		attr(p11.CKA_CLASS, p11.CKO_SECRET_KEY),
		attr(p11.CKA_KEY_TYPE, p11.CKK_GENERIC_SECRET),
		attr(p11.CKA_TOKEN, false),
		attr(p11.CKA_PRIVATE, false),
		attr(p11.CKA_SENSITIVE, false),
		attr(p11.CKA_EXTRACTABLE, true),
		attr(p11.CKA_VALUE_LEN, size),
	}
}

var (
	rawRSAMechanism = []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_X_509, nil)}
	ecKeyGen        = []*p11.Mechanism{p11.NewMechanism(p11.CKM_EC_KEY_PAIR_GEN, nil)}
)

func attr(t uint, v any) *p11.Attribute { return p11.NewAttribute(t, v) }

func octetString(b []byte) []byte { return append([]byte{4, byte(len(b))}, b...) }

// private is what a key-release key may do. It is born as a session object, from which it is copied into the token:
// what lies there cannot be changed.
func private(s wire.Suite, c wire.Custody) []*p11.Attribute {
	return []*p11.Attribute{
		attr(p11.CKA_PRIVATE, true),
		attr(p11.CKA_SENSITIVE, true),
		attr(p11.CKA_EXTRACTABLE, c == wire.Replicable),
		attr(p11.CKA_WRAP_WITH_TRUSTED, true),
		attr(p11.CKA_ALWAYS_AUTHENTICATE, false),
		attr(p11.CKA_DERIVE, isEC(s)),
		attr(p11.CKA_DECRYPT, !isEC(s)),
		attr(p11.CKA_SIGN, false),
		attr(p11.CKA_SIGN_RECOVER, false),
		attr(p11.CKA_UNWRAP, !isEC(s)), // which gives nothing that decrypting does not
	}
}

// unsealed begins a key's life.
func unsealed() []*p11.Attribute {
	return []*p11.Attribute{attr(p11.CKA_TOKEN, false), attr(p11.CKA_MODIFIABLE, true)}
}

// named says which key it is.
func named(id block.KeyID, o wire.Origin) []*p11.Attribute {
	return []*p11.Attribute{attr(p11.CKA_ID, id[:]), attr(p11.CKA_LABEL, labelOf(o))}
}

// labelOf tells keys that came wrapped from others, for which no other attribute is left: SoftHSM says of all that came that they were
// not made there.
func labelOf(o wire.Origin) string {
	if o == wire.Wrapped {
		return cameLabel
	}
	return keyLabel
}

// sealed ends every change. SoftHSM copies nothing that is not modifiable, so nor can it be changed in a copy.
func sealed() []*p11.Attribute {
	return []*p11.Attribute{attr(p11.CKA_TOKEN, true), attr(p11.CKA_PRIVATE, true), attr(p11.CKA_MODIFIABLE, false)}
}

// public is the other half at birth: it is read and thrown away.
func public(s wire.Suite) []*p11.Attribute {
	a := []*p11.Attribute{
		attr(p11.CKA_TOKEN, false),
		attr(p11.CKA_PRIVATE, false),
		attr(p11.CKA_MODIFIABLE, false),
		attr(p11.CKA_ENCRYPT, !isEC(s)), // NSS tests the new pair with it
		attr(p11.CKA_VERIFY, false),
		attr(p11.CKA_VERIFY_RECOVER, false),
		attr(p11.CKA_WRAP, false),
		attr(p11.CKA_DERIVE, false),
	}
	if isEC(s) {
		return append(a, attr(p11.CKA_EC_PARAMS, curveOf(s).oid))
	}
	return append(a, attr(p11.CKA_MODULUS_BITS, rsaBits(s)), attr(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
}

// rsaOfBits returns the suite of RSA keys of that size, or 0.
func rsaOfBits(n int) wire.Suite {
	for _, s := range []wire.Suite{wire.RSA2048, wire.RSA3072, wire.RSA4096} {
		if rsaBits(s) == n {
			return s
		}
	}
	return 0
}

func rsaBits(s wire.Suite) int {
	switch s {
	case wire.RSA2048:
		return 2048
	case wire.RSA3072:
		return 3072
	case wire.RSA4096:
		return 4096
	}
	return 0
}

// secret is an AES key in the token. What it may do is the caller's.
func secret(may ...*p11.Attribute) []*p11.Attribute {
	return append([]*p11.Attribute{
		attr(p11.CKA_SENSITIVE, true),
		attr(p11.CKA_EXTRACTABLE, false),
		attr(p11.CKA_ENCRYPT, false),
		attr(p11.CKA_DECRYPT, false),
		attr(p11.CKA_SIGN, false),
		attr(p11.CKA_VERIFY, false),
		attr(p11.CKA_DERIVE, false),
		attr(p11.CKA_VALUE_LEN, aesKeySize),
	}, may...)
}
