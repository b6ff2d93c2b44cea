package hsm_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"testing"

	"github.com/keyrelease/krabox/hsm"
)

// raw is the bare RSA operation, as a token does it.
func raw(k *rsa.PrivateKey, c []byte) []byte {
	m := new(big.Int).Exp(new(big.Int).SetBytes(c), k.D, k.N)
	return m.FillBytes(make([]byte, k.Size()))
}

func TestUnpadOAEP(t *testing.T) {
	k := newRSA(t, 2048)
	label := []byte("kra/block/v1")
	want := []byte("sixteen bytes ..")
	seal := func(m, label []byte) []byte {
		return raw(k, must(rsa.EncryptOAEP(sha256.New(), rand.Reader, &k.PublicKey, m, label)))
	}
	em := seal(want, label)
	if got, ok := hsm.UnpadOAEP(bytes.Clone(em), k.Size(), label, 16); !ok || !bytes.Equal(got, want) {
		t.Errorf("UnpadOAEP = %x, %v; want %x", got, ok, want)
	}
	if got, ok := hsm.UnpadOAEP(bytes.TrimLeft(em, "\x00"), k.Size(), label, 16); !ok || !bytes.Equal(got, want) {
		t.Errorf("UnpadOAEP without leading zeros = %x, %v; want %x", got, ok, want)
	}
	for name, em := range map[string][]byte{
		"another label":  seal(want, []byte("kra/block/v2")),
		"15 bytes":       seal(want[1:], label),
		"17 bytes":       seal(append(want, 0), label),
		"starts with 01": seal(append([]byte{1}, want[1:]...), []byte("x")),
		"too long":       append([]byte{0}, em...),
		"nothing":        nil,
		"zeros":          make([]byte, k.Size()),
		"two leading":    seal(append([]byte{0, 1}, want[2:]...), nil),
	} {
		if got, ok := hsm.UnpadOAEP(em, k.Size(), label, 16); ok || bytes.Equal(got, want) {
			t.Errorf("%s: UnpadOAEP = %x, %v; want a refusal", name, got, ok)
		}
	}
	for i := range em {
		bad := bytes.Clone(em)
		bad[i] ^= 1 << (i % 8)
		// A change in the masked message alone changes the message; everything else must be noticed.
		if got, ok := hsm.UnpadOAEP(bad, k.Size(), label, 16); ok && bytes.Equal(got, want) {
			t.Errorf("change in byte %d goes unnoticed", i)
		} else if ok && i < len(em)-len(want) {
			t.Errorf("change in byte %d is accepted", i)
		}
	}
	if _, ok := hsm.UnpadOAEP(make([]byte, 80), 80, label, 16); ok {
		t.Error("a modulus too small for a file key was accepted")
	}
}
