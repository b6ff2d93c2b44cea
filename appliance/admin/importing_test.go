package admin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
	"github.com/keyrelease/krabox/kra/wrapped"
)

// shownKey is the import key that the console shows, by its certificate.
func shownKey(t *testing.T, shown string) *rsa.PublicKey {
	t.Helper()
	b, _ := pem.Decode([]byte(shown))
	if b == nil || b.Type != "CERTIFICATE" {
		t.Fatalf("no certificate is shown:\n%s", shown)
	}
	leaf, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if id := block.KeyIDOfSPKI(leaf.RawSubjectPublicKeyInfo).String(); !strings.Contains(shown, id) {
		t.Errorf("its number %s is not shown:\n%s", id, shown)
	}
	return leaf.PublicKey.(*rsa.PublicKey)
}

func wrapFor(t *testing.T, to *rsa.PublicKey, key any) wrapped.Key {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	w, err := wrapped.Seal(to, der)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestKeyImportWrapped: a key comes in wrapped, in either mode, is shown and kept as such, and opens nothing on its way. What is not for this box, whole and
// a key is refused for its reason, and nothing of it stays.
func TestKeyImportWrapped(t *testing.T) {
	w := enrolled(t)
	w.do("access add old-mail")
	var keys []*ecdsa.PrivateKey
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P256(), elliptic.P521()} {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	other, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	stranger := wrapFor(t, &other.PublicKey, keys[0])
	w.fail("key import for old-mail", []string{string(stranger.PEM())}, "no import key yet", "nothing was imported")

	shown := w.do("key import-key")
	to := shownKey(t, shown)
	if !strings.Contains(shown, "/import/box1") || !strings.Contains(shown, "kra wrap-key") {
		t.Errorf("key import-key shows:\n%s", shown)
	}
	if again := shownKey(t, w.do("key import-key")); !again.Equal(to) {
		t.Error("the import key is another when it is shown again")
	}
	w.has("system secrets", "1: import key")
	first, second, third := wrapFor(t, to, keys[0]), wrapFor(t, to, keys[1]), wrapFor(t, to, keys[2])
	idOf := func(k *ecdsa.PrivateKey) string {
		id, err := block.KeyIDOf(&k.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		return short(id)
	}
	w.do("key import bound for old-mail", string(first.PEM()))
	w.do("key mode vault", "yes")
	w.do("key import for old-mail", "Old mail's key:\n"+string(pem.EncodeToMemory(&pem.Block{Type: "KRA WRAPPED KEY", Bytes: second.Bytes()})))
	list := strings.Join(strings.Fields(w.do("key list")), " ")
	for _, want := range []string{idOf(keys[0]) + " p256 bound imported wrapped old", idOf(keys[1]) + " p384 vault, replicable imported wrapped current"} {
		if !strings.Contains(list, want) {
			t.Errorf("key list lacks %q: %s", want, list)
		}
	}
	plain := func(k string) string { return strings.Join(strings.Fields(w.do("key show "+k)), " ") }
	if out := plain(idOf(keys[0])); !strings.Contains(out, "came wrapped, and was opened in the HSM; cannot leave since") {
		t.Error(out)
	}
	if out := plain(idOf(keys[1])); !strings.Contains(out, "came wrapped, and was opened in the HSM; may leave") {
		t.Error(out)
	}
	n := len(w.store.State().Keys())
	text := string(third.PEM())
	for name, x := range map[string]struct{ text, why string }{
		"the same again":    {string(first.PEM()), "in the token already"},
		"another box's":     {string(stranger.PEM()), "was wrapped to import key"},
		"without its name":  {string(pem.EncodeToMemory(&pem.Block{Type: "KRA WRAPPED KEY", Bytes: stranger.Bytes()})), "does not open"},
		"altered":           {string(pem.EncodeToMemory(&pem.Block{Type: "KRA WRAPPED KEY", Bytes: append([]byte{third.Bytes()[0] ^ 1}, third.Bytes()[1:]...)})), "does not open"},
		"cut":               {string(pem.EncodeToMemory(&pem.Block{Type: "KRA WRAPPED KEY", Bytes: third.Bytes()[:480]})), "does not open"},
		"cut short":         {string(pem.EncodeToMemory(&pem.Block{Type: "KRA WRAPPED KEY", Bytes: third.Bytes()[:372]})), "is cut"},
		"cut text":          {text[:len(text)-60], "not one whole block"},
		"two":               {text + text, "not one whole block"},
		"too large":         {string(pem.EncodeToMemory(&pem.Block{Type: "KRA WRAPPED KEY", Bytes: make([]byte, 5000)})), "at most 4480"},
		"far too large":     {text + strings.Repeat(" ", wrapped.MaxText), "bytes of text"},
		"with another line": {strings.Replace(text, "Import-Key", "Custody", 1), "has a line"},
		"another curve":     {string(wrapFor(t, to, keys[3]).PEM()), "ey is not P-256"},
	} {
		if e := w.fail("key import for old-mail", []string{x.text}, x.why); !strings.Contains(strings.Join(strings.Fields(e), " "), "nothing was imported") {
			t.Errorf("%s: %q does not say that nothing was imported", name, e)
		}
	}
	if len(w.store.State().Keys()) != n {
		t.Errorf("%d keys, want %d", len(w.store.State().Keys()), n)
	}
	w.has("system secrets", "1: import key") // which also compares token and state

	renewed := shownKey(t, w.do("key import-key new", "yes"))
	if renewed.Equal(to) {
		t.Error("the new import key is the old one")
	}
	w.fail("key import-key new", []string{"no"}, "nothing was done")
	w.fail("key import for old-mail", []string{text}, "was wrapped to import key")
	w.do("key import for old-mail", string(wrapFor(t, renewed, keys[2]).PEM()))
	var all strings.Builder
	if err := w.log.Records(0, 0, func(_ int64, r receipt.Record) error { all.Write(r.Private); return nil }); err != nil {
		t.Fatal(err)
	}
	if s := all.String(); !strings.Contains(s, "key import-key new") || strings.Contains(s, strings.Split(text, "\n")[4]) {
		t.Error("the log lacks a command, or has what was pasted")
	}
}

// TestDestroyedKeyIsNotImported: what was destroyed here is not taken again, in the clear, before the HSM has it, or wrapped, after which the HSM has it no more.
func TestDestroyedKeyIsNotImported(t *testing.T) {
	w := enrolled(t)
	now, trusted := time.Now(), true
	w.at(&now, &trusted)
	w.do("access add old-mail")
	to := shownKey(t, w.do("key import-key"))
	var clear, wrappedUp []string
	for range 2 {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalECPrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		clear = append(clear, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
		wrappedUp = append(wrappedUp, string(wrapFor(t, to, k).PEM()))
	}
	w.do("key import for old-mail", clear[0])
	w.do("key import for old-mail", wrappedUp[1])
	w.do("key generate p256 for old-mail")
	for _, id := range w.keysOf("old-mail")[1:] {
		w.do("key delete "+short(id), "yes")
	}
	now = now.Add(8 * 24 * time.Hour)
	w.tend()
	if n := len(w.store.State().Destroyed()); n != 2 || w.fault.destroyed != 2 {
		t.Fatalf("%d keys are destroyed, %d by the HSM", n, w.fault.destroyed)
	}
	none := func(destroyed int) {
		t.Helper()
		if keys, err := w.fault.List(t.Context()); err != nil || len(keys) != 1 || len(w.vaultFiles()) != 0 {
			t.Errorf("the HSM has %d keys and the vault %v, %v", len(keys), w.vaultFiles(), err)
		}
		if w.fault.destroyed != destroyed {
			t.Errorf("the HSM destroyed %d keys, want %d", w.fault.destroyed, destroyed)
		}
		w.has("system secrets", "1: import key") // which also compares token and state
	}
	for i := range clear {
		w.fail("key import for old-mail", []string{clear[i]}, "destroyed here, and stays so; nothing", "was imported")
	}
	none(2)
	for i := range wrappedUp {
		w.fail("key import for old-mail", []string{wrappedUp[i]}, "destroyed here, and stays so: it is not taken")
	}
	none(4)
	w.do("key mode vault", "yes")
	for i := range wrappedUp {
		w.fail("key import bound for old-mail", []string{wrappedUp[i]}, "destroyed here, and stays so: it is not taken")
	}
	none(6)
}

// TestImportKeyIsStoredFirst: an import key that cannot be certified is not shown, and is not what keys come in by.
func TestImportKeyIsStoredFirst(t *testing.T) {
	w := enrolled(t)
	w.fault.stored = func() hsm.Token {
		files, err := w.store.Files()
		if err != nil {
			t.Fatal(err)
		}
		p := w.store.State().PINs()
		return hsm.Token{PIN: p.User.Bytes(), SOPIN: p.SO.Bytes(), Files: files}
	}
	w.fault.certify = errors.New("there is no certificate")
	w.fail("key import-key", nil, "no certificate")
	w.fault.certify = nil
	kept := shownKey(t, w.do("key import-key"))
	w.fault.certify = errors.New("there is no certificate")
	w.fail("key import-key new", []string{"yes"}, "no certificate")
	w.fault.certify = nil
	if !shownKey(t, w.do("key import-key")).Equal(kept) {
		t.Error("the import key that was shown is gone")
	}
	i, err := w.fault.Status(t.Context())
	if err != nil || i.Report.ImportKeys != 1 {
		t.Errorf("%d import keys, %v", i.Report.ImportKeys, err)
	}
}
