package hsm_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
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
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA1} {
		t.Run(hash.String(), func(t *testing.T) { testUnpadOAEP(t, hash) })
	}
}

func testUnpadOAEP(t *testing.T, hash crypto.Hash) {
	k := newRSA(t, 2048)
	label := []byte("kra/block/v1")
	want := []byte("sixteen bytes ..")
	seal := func(m, label []byte) []byte {
		return raw(k, must(rsa.EncryptOAEP(hash.New(), rand.Reader, &k.PublicKey, m, label)))
	}
	em := seal(want, label)
	if got, ok := hsm.UnpadOAEP(hash, bytes.Clone(em), k.Size(), label, 16); !ok || !bytes.Equal(got, want) {
		t.Errorf("UnpadOAEP = %x, %v; want %x", got, ok, want)
	}
	if got, ok := hsm.UnpadOAEP(hash, bytes.TrimLeft(em, "\x00"), k.Size(), label, 16); !ok || !bytes.Equal(got, want) {
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
		if got, ok := hsm.UnpadOAEP(hash, em, k.Size(), label, 16); ok || bytes.Equal(got, want) {
			t.Errorf("%s: UnpadOAEP = %x, %v; want a refusal", name, got, ok)
		}
	}
	for i := range em {
		bad := bytes.Clone(em)
		bad[i] ^= 1 << (i % 8)
		// A change in the masked message alone changes the message; everything else must be noticed.
		if got, ok := hsm.UnpadOAEP(hash, bad, k.Size(), label, 16); ok && bytes.Equal(got, want) {
			t.Errorf("change in byte %d goes unnoticed", i)
		} else if ok && i < len(em)-len(want) {
			t.Errorf("change in byte %d is accepted", i)
		}
	}
	other := crypto.SHA256 + crypto.SHA1 - hash
	if got, ok := hsm.UnpadOAEP(other, seal(want, label), k.Size(), label, 16); ok || bytes.Equal(got, want) {
		t.Errorf("UnpadOAEP by another hash = %x, %v; want a refusal", got, ok)
	}
	if _, ok := hsm.UnpadOAEP(hash, make([]byte, 2*hash.Size()+16), 2*hash.Size()+16, label, 16); ok {
		t.Error("a modulus too small for a file key was accepted")
	}
}
