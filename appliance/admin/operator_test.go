package admin

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/label"
)

// An operator says at the console that he is present, by the box's passphrase or by his token, and that he leaves. The label that
// wants him is confirmed in between and at no other time.
func TestOperator(t *testing.T) {
	w := factory(t)
	token, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(token.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.desk.AddOperator("olga", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})); err != nil {
		t.Fatal(err)
	}
	request, err := w.tpmd.Client.EnrolRequest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.desk.Escrow(request); err == nil {
		t.Error("the desk opened the escrow of a box that it did not enrol")
	}
	w.enrol()
	secrets, err := w.desk.Escrow(request)
	if err != nil {
		t.Fatal(err)
	}
	w.login()
	attended := func(want bool) {
		t.Helper()
		_, err := w.tpmd.Client.Confirm(t.Context(), label.Challenge{Nonce: bytes.Repeat([]byte{1}, label.NonceSize), Label: label.OperatorPresent}, make([]byte, label.NonceSize))
		if (err == nil) != want {
			t.Errorf("Confirm(attended): %v; want ok %v", err, want)
		}
	}
	attended(false)
	if out, o := w.try("operator present attended", "guessed"); !strings.Contains(o.Error, "not the box's presence passphrase") {
		t.Errorf("%s, %+v", out, o)
	}
	attended(false)
	if out := w.do("operator present attended for 60", secrets.Presence); !strings.Contains(out, "may sign for 1m0s") || strings.Contains(out, secrets.Presence) {
		t.Errorf("operator present: %s", out)
	}
	attended(true)
	w.do("operator leave attended")
	attended(false)
	shown := w.show("operator challenge attended")
	c, err := label.ParseOperatorChallenge([]byte(shown))
	if err != nil || c.Box != "box1" || c.Seconds != 600 {
		t.Fatalf("%s: %v", shown, err)
	}
	answer, err := c.Sign(token)
	if err != nil {
		t.Fatal(err)
	}
	if out := w.do("operator answer", string(answer.PEM())); !strings.Contains(out, "the label attended may sign") {
		t.Errorf("operator answer: %s", out)
	}
	attended(true)
	if out, o := w.try("operator present root", secrets.Presence); !strings.Contains(o.Error, "wants an operator in this way") {
		t.Errorf("%s, %+v", out, o)
	}
	if out, o := w.try("epoch advance", "yes"); !strings.Contains(o.Error, "no approval to move the epoch beyond 1") {
		t.Errorf("%s, %+v", out, o)
	}
}
