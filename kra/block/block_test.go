package block_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"io"
	"testing"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra/block"
)

func TestRoundTripP256(t *testing.T) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	to, err := block.NewRecipient(key.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "hello")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h, rest, err := block.ParseHeader(bytes.NewReader(out.Bytes()), block.MaxHeader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := block.ParseHeaderBytes(h.Bytes()); err != nil {
		t.Fatal(err)
	}
	fk, err := block.OpenP256(key, h.Wraps()[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := h.VerifyMAC(fk); err != nil {
		t.Fatal(err)
	}
	if err := h.VerifyMAC(make([]byte, 16)); !errors.Is(err, block.ErrMAC) {
		t.Fatalf("VerifyMAC(zero) = %v; want ErrMAC", err)
	}
	r, err := age.Decrypt(io.MultiReader(bytes.NewReader(h.Bytes()), rest), age.NewInjectedFileKeyIdentity(fk))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || string(got) != "hello" {
		t.Fatalf("decrypt = %q, %v", got, err)
	}
}
