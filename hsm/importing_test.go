package hsm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/wrapped"
)

// importKey has the token show its import key.
func importKey(t testing.TB, c *hsm.Custodian, token wire.Token) *rsa.PublicKey {
	t.Helper()
	spki, changed, err := c.ImportKey()
	if err != nil {
		t.Fatal(err)
	}
	apply(token.Files, changed)
	return must(x509.ParsePKIXPublicKey(spki)).(*rsa.PublicKey)
}

// otherwise makes the two parts of a wrapped key by hand.
func otherwise(t testing.TB, to *rsa.PublicKey, hash crypto.Hash, label []byte, ephemeral, text []byte) []byte {
	t.Helper()
	outer := must(rsa.EncryptOAEP(hash.New(), rand.Reader, to, ephemeral, label))
	return append(outer, must(block.WrapPadded(ephemeral, text))...)
}

// TestImportWrapped takes keys of each kind in, wrapped, with either custody and in either mode. They are what they were, open what is
// wrapped to them, also after a restart, and say that they came so.
func TestImportWrapped(t *testing.T) {
	c, token := hsmtest.New(t)
	to := importKey(t, c, token)
	objects, sessions := c.Objects(), c.SessionObjects()
	for name, key := range map[string]crypto.Signer{
		"P-256": newEC(t, elliptic.P256()), "P-384": newEC(t, elliptic.P384()),
		"RSA-2048": newRSA(t, 2048), "RSA-3072": newRSA(t, 3072), "RSA-4096": newRSA(t, 4096),
	} {
		w := must(wrapped.Seal(to, pkcs8(t, key)))
		id := must(block.KeyIDOf(key.Public()))
		for _, m := range []wire.Mode{wire.Resident, wire.Vault} {
			for _, custody := range []wire.Custody{wire.Bound, wire.Replicable} {
				k, changed, err := c.ImportWrapped(w.To(), w.Bytes(), custody, m)
				if err != nil {
					t.Fatalf("%s, %v, %v: %v", name, custody, m, err)
				}
				if k.ID != id || k.Custody != custody || k.Mode != m || k.Origin != wire.Wrapped {
					t.Errorf("%s, %v, %v: %+v", name, custody, m, k)
				}
				apply(token.Files, changed)
				if _, _, err := c.ImportWrapped(w.To(), w.Bytes(), custody, m); !errors.As(err, new(wire.Refused)) || !strings.Contains(err.Error(), "already") {
					t.Errorf("%s, %v, %v, twice: %v", name, custody, m, err)
				}
				if custody == wire.Bound {
					reopen(t, c, token)
				}
				checkKeys(t, c, []wire.Key{k})
				if changed, err = c.Destroy(k.ID); err != nil {
					t.Fatal(err)
				}
				apply(token.Files, changed)
			}
		}
	}
	if n, m := c.Objects(), c.SessionObjects(); n != objects || m != sessions {
		t.Errorf("%d objects stay in the token, %d in sessions", n-objects, m-sessions)
	}
}

// TestImportWrappedManyPoints: the public half of a curve's key is found whichever of its two points it is.
func TestImportWrappedManyPoints(t *testing.T) {
	c, token := hsmtest.New(t)
	to := importKey(t, c, token)
	odd := map[bool]int{}
	for n := 0; n < 40 && (n < 12 || odd[true] == 0 || odd[false] == 0); n++ {
		key := newEC(t, elliptic.P256())
		point := must(key.PublicKey.ECDH()).Bytes()
		odd[point[len(point)-1]&1 == 1]++
		w := must(wrapped.Seal(to, pkcs8(t, key)))
		k, changed, err := c.ImportWrapped(w.To(), w.Bytes(), wire.Bound, wire.Resident)
		if id := must(block.KeyIDOf(key.Public())); err != nil || k.ID != id {
			t.Fatalf("%+v, %v: want %v", k, err, id)
		}
		apply(token.Files, changed)
	}
	if odd[true] == 0 || odd[false] == 0 {
		t.Errorf("%d keys were odd, %d even: one kind was not tried", odd[true], odd[false])
	}
}

// TestImportWrappedRefused: what was wrapped to another key, cut or altered, and what is no key that is kept here, is refused for its
// reason, and leaves nothing.
func TestImportWrappedRefused(t *testing.T) {
	c, token := hsmtest.New(t)
	good := pkcs8(t, newEC(t, elliptic.P256()))
	if _, _, err := c.ImportWrapped(block.KeyID{}, make([]byte, 700), wire.Bound, wire.Resident); !errors.As(err, new(wire.Refused)) || !strings.Contains(err.Error(), "no import key yet") {
		t.Errorf("without an import key: %v", err)
	}
	to := importKey(t, c, token)
	other := &newRSA(t, 3072).PublicKey
	ephemeral := bytes.Repeat([]byte{7}, 32)
	seal := func(text []byte) []byte { return must(wrapped.Seal(to, text)).Bytes() }
	flip := func(b []byte, i int) []byte { b = bytes.Clone(b); b[i] ^= 1; return b }
	whole := seal(good)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const closed, noKey, noKind = "does not open", "not the PKCS#8", "key is not P-256"
	objects, sessions, files := c.Objects(), c.SessionObjects(), len(token.Files)
	for name, x := range map[string]struct {
		why   string
		bytes []byte
		to    block.KeyID
	}{
		"nothing":               {why: "has 0 bytes"},
		"only the outer part":   {why: "has 384 bytes", bytes: whole[:384]},
		"too large":             {why: "at most 4480", bytes: append(bytes.Clone(whole), make([]byte, wire.MaxWrappedKey)...)},
		"said to be another's":  {why: "it was wrapped to import key", bytes: whole, to: must(block.KeyIDOf(other))},
		"another's":             {why: closed, bytes: must(wrapped.Seal(other, good)).Bytes()},
		"outer part altered":    {why: closed, bytes: flip(whole, 100)},
		"outer part too large":  {why: closed, bytes: append(bytes.Repeat([]byte{0xff}, 384), whole[384:]...)},
		"inner part altered":    {why: closed, bytes: flip(whole, 384+70)},
		"inner part's head":     {why: closed, bytes: flip(whole, 384)},
		"cut":                   {why: closed, bytes: whole[:len(whole)-8]},
		"cut in a block":        {why: closed, bytes: whole[:len(whole)-3]},
		"longer":                {why: closed, bytes: append(bytes.Clone(whole), make([]byte, 8)...)},
		"little":                {why: closed, bytes: append(bytes.Clone(whole[:384]), 1)},
		"OAEP with SHA-1":       {why: closed, bytes: otherwise(t, to, crypto.SHA1, nil, ephemeral, good)},
		"OAEP with a label":     {why: closed, bytes: otherwise(t, to, crypto.SHA256, []byte("label"), ephemeral, good)},
		"under AES-128":         {why: closed, bytes: otherwise(t, to, crypto.SHA256, nil, ephemeral[:16], good)},
		"PKCS #1 v1.5":          {why: closed, bytes: append(withoutOAEP(t, to, ephemeral), must(block.WrapPadded(ephemeral, good))...)},
		"no PKCS#8":             {why: noKey, bytes: seal([]byte("a message of some length, which is no key"))},
		"PKCS#8 cut":            {why: noKey, bytes: seal(good[:len(good)-20])},
		"a key, not PKCS#8":     {why: noKey, bytes: seal(openssl(t, nil, "genpkey", "-algorithm", "RSA", "-outform", "DER"))},
		"half a key":            {why: noKey, bytes: seal(pkcs8(t, newRSA(t, 2048))[:600])},
		"Ed25519":               {why: noKey, bytes: seal(must(x509.MarshalPKCS8PrivateKey(edwards)))},
		"X25519":                {why: noKey, bytes: seal(must(x509.MarshalPKCS8PrivateKey(must(ecdh.X25519().GenerateKey(rand.Reader)))))},
		"P-521":                 {why: noKind, bytes: seal(pkcs8(t, newEC(t, elliptic.P521())))},
		"P-224":                 {why: noKind, bytes: seal(pkcs8(t, newEC(t, elliptic.P224())))},
		"RSA-1024":              {why: noKind, bytes: seal(generated(t, "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"))},
		"RSA-2560":              {why: noKind, bytes: seal(pkcs8(t, newRSA(t, 2560)))},
		"RSA with exponent 3":   {why: noKind, bytes: seal(generated(t, "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:3"))},
		"a curve by parameters": {why: noKind, bytes: seal(generated(t, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"))},
		"secp256k1":             {why: noKind, bytes: seal(generated(t, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"))},
	} {
		for _, m := range []wire.Mode{wire.Resident, wire.Vault} {
			k, changed, err := c.ImportWrapped(x.to, x.bytes, wire.Bound, m)
			if !errors.As(err, new(wire.Refused)) || !strings.Contains(err.Error(), x.why) || k.SPKI != nil || changed != nil {
				t.Errorf("%s, %v: %v with %d files, want a refusal with %q", name, m, err, len(changed), x.why)
			}
			if n, m := c.Objects(), c.SessionObjects(); n != objects || m != sessions {
				t.Fatalf("%s, %v: %d objects stay in the token, %d in sessions", name, m, n-objects, m-sessions)
			}
		}
	}
	for _, custody := range []wire.Custody{0, wire.Labelled} {
		if _, _, err := c.ImportWrapped(block.KeyID{}, whole, custody, wire.Resident); !errors.As(err, new(wire.Refused)) {
			t.Errorf("custody %v: %v", custody, err)
		}
	}
	if _, _, err := c.ImportWrapped(block.KeyID{}, whole, wire.Bound, 0); !errors.As(err, new(wire.Refused)) {
		t.Errorf("no mode: %v", err)
	}
	if _, changed, err := c.ImportWrapped(block.KeyID{}, whole, wire.Bound, wire.Resident); err != nil || len(token.Files) != files || len(changed) == 0 {
		t.Errorf("what is whole, after all that: %v", err)
	}
}

// TestImportKeyStays: it is made once, stays in the token's files, opens nothing that is wrapped to keys, and goes for a new one, which
// does not open what was wrapped to it.
func TestImportKeyStays(t *testing.T) {
	c, token := hsmtest.New(t)
	before := len(token.Files)
	to := importKey(t, c, token)
	if len(token.Files) != before+1 {
		t.Errorf("%d token files were added, want 1", len(token.Files)-before)
	}
	if keys, err := c.List(); err != nil || len(keys) != 0 {
		t.Errorf("List() = %v, %v: the import key is among the keys", keys, err)
	}
	reopen(t, c, token)
	if again := importKey(t, c, token); !again.Equal(to) || to.N.BitLen() != 3072 {
		t.Error("the import key is another after a restart, or not RSA-3072")
	}
	file := make([]byte, block.FileKeySize)
	if r, _ := unwrap(t, c, must(block.WrapFileKey(to, file))); r[0].Err != wire.ErrNoKey {
		t.Errorf("what is wrapped to the import key as to a key-release key: %v, want %v", r[0].Err, wire.ErrNoKey)
	}
	w := must(wrapped.Seal(to, pkcs8(t, newEC(t, elliptic.P256()))))
	spki, changed, err := c.NewImportKey()
	if err != nil || bytes.Equal(spki, must(x509.MarshalPKIXPublicKey(to))) {
		t.Fatalf("NewImportKey() = %v", err)
	}
	apply(token.Files, changed)
	if len(token.Files) != before+1 {
		t.Errorf("%d token files after a new import key, want %d", len(token.Files), before+1)
	}
	for range 2 {
		for _, id := range []block.KeyID{w.To(), {}} {
			if _, _, err := c.ImportWrapped(id, w.Bytes(), wire.Bound, wire.Resident); !errors.As(err, new(wire.Refused)) {
				t.Errorf("what was wrapped to the import key of before: %v", err)
			}
		}
		reopen(t, c, token)
	}
	if !bytes.Equal(must(x509.MarshalPKIXPublicKey(importKey(t, c, token))), spki) {
		t.Error("the new import key is not there after a restart")
	}
}

// TestImportKeyStaysInside attacks the import key, and the key of the inner part, as whoever has the PIN could.
func TestImportKeyStaysInside(t *testing.T) {
	c, token := hsmtest.New(t)
	to := importKey(t, c, token)
	whole := must(wrapped.Seal(to, pkcs8(t, newRSA(t, 2048)))).Bytes()
	c.Bare(block.KeyID{}, func(lib *p11.Ctx, s p11.SessionHandle, _ p11.ObjectHandle) {
		h := findImportKey(t, lib, s)
		for _, a := range []uint{p11.CKA_PRIVATE_EXPONENT, p11.CKA_PRIME_1, p11.CKA_PRIME_2, p11.CKA_EXPONENT_1, p11.CKA_EXPONENT_2, p11.CKA_COEFFICIENT} {
			if v, err := lib.GetAttributeValue(s, h, []*p11.Attribute{p11.NewAttribute(a, nil)}); err == nil && len(v[0].Value) > 0 {
				t.Errorf("attribute %#x can be read", a)
			}
		}
		for _, a := range []*p11.Attribute{p11.NewAttribute(p11.CKA_UNWRAP, true), p11.NewAttribute(p11.CKA_SIGN, true), p11.NewAttribute(p11.CKA_EXTRACTABLE, true),
			p11.NewAttribute(p11.CKA_SENSITIVE, false), p11.NewAttribute(p11.CKA_LABEL, "kra")} {
			if lib.SetAttributeValue(s, h, []*p11.Attribute{a}) == nil {
				t.Errorf("attribute %#x can be changed", a.Type)
			}
			if _, err := lib.CopyObject(s, h, []*p11.Attribute{p11.NewAttribute(p11.CKA_TOKEN, false), a}); err == nil {
				t.Errorf("a copy can have another attribute %#x", a.Type)
			}
		}
		plain := []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
			p11.NewAttribute(p11.CKA_TOKEN, false), p11.NewAttribute(p11.CKA_SENSITIVE, false), p11.NewAttribute(p11.CKA_EXTRACTABLE, true)}
		for hash, mech := range map[crypto.Hash]*p11.OAEPParams{
			crypto.SHA1:   p11.NewOAEPParams(p11.CKM_SHA_1, p11.CKG_MGF1_SHA1, p11.CKZ_DATA_SPECIFIED, nil),
			crypto.SHA256: p11.NewOAEPParams(p11.CKM_SHA256, p11.CKG_MGF1_SHA256, p11.CKZ_DATA_SPECIFIED, nil),
		} {
			body := must(rsa.EncryptOAEP(hash.New(), rand.Reader, to, make([]byte, 32), nil))
			if _, err := lib.UnwrapKey(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_OAEP, mech)}, h, body, plain); err == nil {
				t.Errorf("it unwraps a key that can be read, %v", hash)
			}
		}
		if lib.SignInit(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS, nil)}, h) == nil {
			t.Error("it signs")
		}
	})
	if err := c.AttackInner(whole, wire.Bound); err != nil {
		t.Errorf("the key of the inner part gave way: %v", err)
	}
	for _, weak := range []uint{p11.CKA_SENSITIVE, p11.CKA_WRAP_WITH_TRUSTED, p11.CKA_EXTRACTABLE} {
		if err := c.AttackInner(whole, wire.Bound, weak); err == nil || !strings.Contains(err.Error(), "can be unwrapped") {
			t.Errorf("without a demand for attribute %#x: %v, want that it is found", weak, err)
		}
	}
}

func findImportKey(t *testing.T, lib *p11.Ctx, s p11.SessionHandle) p11.ObjectHandle {
	t.Helper()
	if err := lib.FindObjectsInit(s, []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, "kra-import-key")}); err != nil {
		t.Fatal(err)
	}
	found, _, err := lib.FindObjects(s, 2)
	if err = errors.Join(err, lib.FindObjectsFinal(s)); err != nil || len(found) != 1 {
		t.Fatalf("%d import keys, %v", len(found), err)
	}
	return found[0]
}

// TestModuleOpensNoWrappedKey says what SoftHSM can of the form by itself: neither all of it nor the outer part with SHA-256, and the inner
// one. A module of which this fails could do more inside: IMPORT.md.
func TestModuleOpensNoWrappedKey(t *testing.T) {
	c, token := hsmtest.New(t)
	key := newRSA(t, 2048)
	k, changed, err := c.Import(pkcs8(t, key), wire.Bound, wire.Resident)
	if err != nil {
		t.Fatal(err)
	}
	apply(token.Files, changed)
	template := []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES), p11.NewAttribute(p11.CKA_TOKEN, false)}
	c.Bare(k.ID, func(lib *p11.Ctx, s p11.SessionHandle, h p11.ObjectHandle) {
		for name, x := range map[string]struct {
			mech *p11.Mechanism
			body []byte
			can  bool
		}{
			"CKM_RSA_AES_KEY_WRAP": {p11.NewMechanism(p11.CKM_RSA_AES_KEY_WRAP, nil), make([]byte, 256+40), false},
			"OAEP with SHA-256": {p11.NewMechanism(p11.CKM_RSA_PKCS_OAEP, p11.NewOAEPParams(p11.CKM_SHA256, p11.CKG_MGF1_SHA256, p11.CKZ_DATA_SPECIFIED, nil)),
				must(rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, make([]byte, 32), nil)), false},
			"OAEP with SHA-1": {p11.NewMechanism(p11.CKM_RSA_PKCS_OAEP, p11.NewOAEPParams(p11.CKM_SHA_1, p11.CKG_MGF1_SHA1, p11.CKZ_DATA_SPECIFIED, nil)),
				must(rsa.EncryptOAEP(sha1.New(), rand.Reader, &key.PublicKey, make([]byte, 32), nil)), true},
		} {
			if _, err := lib.UnwrapKey(s, []*p11.Mechanism{x.mech}, h, x.body, template); (err == nil) != x.can {
				t.Errorf("%s: %v, want that it can: %v", name, err, x.can)
			}
		}
	})
}

// openssl runs Debian's.
func openssl(t testing.TB, stdin []byte, args ...string) []byte {
	t.Helper()
	c := exec.Command("openssl", args...)
	var complaint bytes.Buffer
	c.Stdin, c.Stderr = bytes.NewReader(stdin), &complaint
	out, err := c.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", args[0], err, complaint.String())
	}
	return out
}

// generated is a key of openssl's, as PKCS#8.
func generated(t testing.TB, args ...string) []byte {
	t.Helper()
	return openssl(t, openssl(t, nil, append([]string{"genpkey"}, args...)...), "pkcs8", "-topk8", "-nocrypt", "-outform", "DER")
}

// TestImportWrappedByOpenSSL: what Debian's openssl wraps comes in, as the manual has it.
func TestImportWrappedByOpenSSL(t *testing.T) {
	c, token := hsmtest.New(t)
	to := importKey(t, c, token)
	public := filepath.Join(t.TempDir(), "box.der")
	if err := os.WriteFile(public, must(x509.MarshalPKIXPublicKey(to)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"},
		{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
		{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"},
	} {
		key := generated(t, args...)
		ephemeral := openssl(t, nil, "rand", "32")
		outer := openssl(t, ephemeral, "pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", public,
			"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt", "rsa_mgf1_md:sha256")
		inner := openssl(t, key, "enc", "-id-aes256-wrap-pad", "-K", hex.EncodeToString(ephemeral), "-iv", "A65959A6")
		k, changed, err := c.ImportWrapped(block.KeyID{}, append(outer, inner...), wire.Bound, wire.Resident)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		apply(token.Files, changed)
		if want := openssl(t, key, "pkey", "-inform", "DER", "-pubout", "-outform", "DER"); !bytes.Equal(k.SPKI, want) || k.Origin != wire.Wrapped {
			t.Errorf("%v: %v", args, k)
		}
		if err := opens(t, c, k); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// TestImportPage holds IMPORT.md to the code.
func TestImportPage(t *testing.T) {
	page := string(must(os.ReadFile("IMPORT.md")))
	uri := label.Domain{Name: "DOMAIN"}.ImportURI("BOX")
	for _, want := range []string{"RSA-3072", "384 bytes", fmt.Sprintf("at most %d bytes", wire.MaxWrappedKey), fmt.Sprintf("at most %d bytes", wrapped.MaxKey),
		"`KRA WRAPPED KEY`", "`kra-wrapped`", "`" + uri + "`", "TestModuleOpensNoWrappedKey"} {
		if !strings.Contains(page, want) {
			t.Errorf("IMPORT.md lacks %q", want)
		}
	}
}

// withoutOAEP encrypts with the padding of PKCS #1 v1.5.
func withoutOAEP(t *testing.T, to *rsa.PublicKey, value []byte) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "to.der")
	if err := os.WriteFile(file, must(x509.MarshalPKIXPublicKey(to)), 0o600); err != nil {
		t.Fatal(err)
	}
	return openssl(t, value, "pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", file, "-pkeyopt", "rsa_padding_mode:pkcs1")
}
