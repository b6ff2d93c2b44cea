package selftest

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/keyrelease/krabox/appliance/account"
	"github.com/keyrelease/krabox/kra/noise"
)

var errAnswer = errors.New("the answer is not the known one")

// known are all tests. Standards are named where the answer is from one.
var known = []test{
	{"SHA-256 (FIPS 180-4)", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", computes(func() ([]byte, error) {
		sum := sha256.Sum256([]byte("abc"))
		return sum[:], nil
	})},
	{"SHA-384 (FIPS 180-4)", "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
		computes(func() ([]byte, error) {
			sum := sha512.Sum384([]byte("abc"))
			return sum[:], nil
		})},
	{"HMAC-SHA-256 (RFC 4231)", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", computes(func() ([]byte, error) {
		m := hmac.New(sha256.New, []byte("Jefe"))
		m.Write([]byte("what do ya want for nothing?"))
		return m.Sum(nil), nil
	})},
	{"HKDF-SHA-256 (RFC 5869)", "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865", computes(func() ([]byte, error) {
		return hkdf.Key(sha256.New, bytes.Repeat([]byte{0x0b}, 22), unhex("000102030405060708090a0b0c"), string(unhex("f0f1f2f3f4f5f6f7f8f9")), 42)
	})},
	{"AES-256-GCM", "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" +
		"76fc6ece0f4e1768cddf8853bb2d551b", aeads(func() (cipher.AEAD, error) {
		b, err := aes.NewCipher(unhex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"))
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(b)
	}, "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
		"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39")},
	{"ChaCha20-Poly1305 (RFC 8439)", "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b6" +
		"7ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691", aeads(
		func() (cipher.AEAD, error) {
			return chacha20poly1305.New(unhex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"))
		}, "070000004041424344454647", "50515253c0c1c2c3c4c5c6c7", hex.EncodeToString([]byte("Ladies and Gentlemen of the class of '99: "+
			"If I could offer you only one tip for the future, sunscreen would be it.")))},
	{"ECDH P-256", p256Secret, computes(func() ([]byte, error) { return agree(p256Key, p256Peer) })},
	{"ECDH P-384", p384Secret, computes(func() ([]byte, error) { return agree(p384Key, p384Peer) })},
	{"ECDSA P-256", p256Sig, signs(p256Key, crypto.SHA256)},
	{"ECDSA P-384", p384Sig, signs(p384Key, crypto.SHA384)},
	{"Ed25519 (RFC 8032)", "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00", checkEd25519},
	{"RSA PKCS #1 v1.5", rsaSig, func(answer []byte) error {
		k, err := privateOf[*rsa.PrivateKey](rsaKey)
		if err != nil {
			return err
		}
		return rsa.VerifyPKCS1v15(&k.PublicKey, crypto.SHA256, digest(crypto.SHA256), answer)
	}},
	{"RSA-PSS", pssSig, func(answer []byte) error {
		k, err := privateOf[*rsa.PrivateKey](rsaKey)
		if err != nil {
			return err
		}
		return rsa.VerifyPSS(&k.PublicKey, crypto.SHA256, digest(crypto.SHA256), answer, &rsa.PSSOptions{SaltLength: 32})
	}},
	{"RSA-OAEP", oaepText, func(answer []byte) error {
		k, err := privateOf[*rsa.PrivateKey](rsaKey)
		if err != nil {
			return err
		}
		got, err := rsa.DecryptOAEP(sha256.New(), nil, k, answer, nil)
		if err == nil && string(got) != knownMessage {
			err = errAnswer
		}
		return err
	}},
	{"ML-KEM-768 rejection (FIPS 203)", "138927246f2708acfbf9f58938a09e61260dc8dad0f341c6f4ebd953ba58771a", computes(rejectMLKEM)},
	{"HPKE ML-KEM-768 with P-256", hpkePlain, computes(openHPKE)},
	{"Argon2id", hex.EncodeToString([]byte("$argon2id$v=19$m=19456,t=2,p=1$a3JhL2tub3duL2Fuc3dlcg$DswmN1KXLFLCuQYjCpAX5zjT8Oqa/CCJGWKG1DOLgN4")), func(answer []byte) error {
		if !account.Check(string(answer), []byte("a known passphrase")) {
			return errAnswer
		}
		return nil
	}},
	{"random generator (SP 800-90B section 4.4)", "0614", computes(fitGenerator)},
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("selftest: " + err.Error()) // a programmer's mistake: each test passes once
	}
	return b
}

// computes compares what compute returns.
func computes(compute func() ([]byte, error)) func([]byte) error {
	return func(answer []byte) error {
		got, err := compute()
		if err == nil && !bytes.Equal(got, answer) {
			err = errAnswer
		}
		return err
	}
}

// aeads seals and opens.
func aeads(make func() (cipher.AEAD, error), nonce, aad, plain string) func([]byte) error {
	return func(answer []byte) error {
		a, err := make()
		if err != nil {
			return err
		}
		if !bytes.Equal(a.Seal(nil, unhex(nonce), unhex(plain), unhex(aad)), answer) {
			return errAnswer
		}
		got, err := a.Open(nil, unhex(nonce), answer, unhex(aad))
		if err == nil && !bytes.Equal(got, unhex(plain)) {
			err = errAnswer
		}
		return err
	}
}

func privateOf[K any](der string) (k K, err error) {
	parsed, err := x509.ParsePKCS8PrivateKey(unhex(der))
	if err != nil {
		return k, err
	}
	k, ok := parsed.(K)
	if !ok {
		return k, errAnswer
	}
	return k, nil
}

func digest(h crypto.Hash) []byte {
	f := h.New()
	f.Write([]byte(knownMessage))
	return f.Sum(nil)
}

func agree(key, peer string) ([]byte, error) {
	k, err := privateOf[*ecdsa.PrivateKey](key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKIXPublicKey(unhex(peer))
	if err != nil {
		return nil, err
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return nil, errAnswer
	}
	mine, err := k.ECDH()
	if err != nil {
		return nil, err
	}
	theirs, err := public.ECDH()
	if err != nil {
		return nil, err
	}
	return mine.ECDH(theirs)
}

// signs verifies the known signature, and one of its own.
func signs(key string, h crypto.Hash) func([]byte) error {
	return func(answer []byte) error {
		k, err := privateOf[*ecdsa.PrivateKey](key)
		if err != nil {
			return err
		}
		own, err := k.Sign(nil, digest(h), h)
		if err != nil {
			return err
		}
		if !ecdsa.VerifyASN1(&k.PublicKey, digest(h), answer) || !ecdsa.VerifyASN1(&k.PublicKey, digest(h), own) {
			return errAnswer
		}
		return nil
	}
}

func checkEd25519(answer []byte) error {
	k := ed25519.NewKeyFromSeed(unhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
	if !bytes.Equal(ed25519.Sign(k, []byte{0x72}), answer) || !ed25519.Verify(k.Public().(ed25519.PublicKey), []byte{0x72}, answer) {
		return errAnswer
	}
	return nil
}

// openHPKE has ML-KEM, ECDH, HKDF and AES-GCM do what a release with a hybrid key does.
func openHPKE() ([]byte, error) {
	kem := hpke.MLKEM768P256()
	k, err := kem.NewPrivateKey(unhex(hpkeKey))
	if err != nil {
		return nil, err
	}
	r, err := hpke.NewRecipient(unhex(hpkeEnc), k, hpke.HKDFSHA256(), hpke.AES128GCM(), unhex(hpkeInfo))
	if err != nil {
		return nil, err
	}
	return r.Open(unhex(hpkeAAD), unhex(hpkeText))
}

// rejectMLKEM decapsulates what is no ciphertext: SHAKE256 of z and that.
func rejectMLKEM() ([]byte, error) {
	seed := make([]byte, mlkem.SeedSize)
	for i := range seed {
		seed[i] = byte(i + 1)
	}
	k, err := mlkem.NewDecapsulationKey768(seed)
	if err != nil {
		return nil, err
	}
	return k.Decapsulate(bytes.Repeat([]byte{7}, mlkem.CiphertextSize768))
}

// fitGenerator finds the agent's generator fit, and returns what the health tests begin to refuse: how many equal bytes in a row, and how
// many in a window.
func fitGenerator() ([]byte, error) {
	if err := noise.Check(func(b []byte) error { _, err := rand.Read(b); return err }); err != nil {
		return nil, err
	}
	return []byte{refused(1), refused(2)}, nil
}

// refused is the least number of equal bytes, one in every step, that are too many.
func refused(step int) (least byte) {
	for least = 1; ; least++ {
		err := noise.Check(func(b []byte) error {
			for i := range b {
				b[i] = byte(1 + i%255)
			}
			for i := range int(least) {
				b[i*step] = 0
			}
			return nil
		})
		if err != nil || least == 0xff {
			return least
		}
	}
}
