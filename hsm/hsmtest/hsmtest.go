// Package hsmtest gives a test a fresh SoftHSM token, in this process or behind an hsmd of its own.
package hsmtest

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"testing"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/wire"
)

// Module is the PKCS#11 library of the tests.
const Module = "/usr/lib/softhsm/libsofthsm2.so"

// Config returns the configuration of a new token folder, on a tmpfs where there is one.
func Config(t testing.TB) hsm.Config {
	t.Helper()
	if _, err := os.Stat(Module); err != nil {
		t.Fatalf("find SoftHSM: %v (apt-get install libsofthsm2)", err)
	}
	return hsm.Config{Module: Module, Dir: Dir(t), Label: "kra", Domain: Domain(t), Box: Box}
}

// Dir returns a new folder, on a tmpfs where there is one, that goes with the test.
func Dir(t testing.TB) string {
	t.Helper()
	base := "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "kra-hsm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Token returns random PINs and no files: what makes a new token.
func Token() wire.Token { return wire.Token{PIN: pin(), SOPIN: pin()} }

func pin() []byte {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return []byte(hex.EncodeToString(b))
}

// Again returns the token that opens files with the PINs of t.
func Again(t wire.Token, files wire.Files) wire.Token {
	return wire.Token{Files: files, PIN: append([]byte{}, t.PIN...), SOPIN: append([]byte{}, t.SOPIN...)}
}

// New returns a custodian in this process with a new token open, and what opens it again.
func New(t testing.TB) (*hsm.Custodian, wire.Token) {
	t.Helper()
	c, err := hsm.New(Config(t), [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	token := Token()
	i, err := c.Open(Again(token, nil))
	if err != nil {
		t.Fatalf("open new token: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, Again(token, i.Files)
}
