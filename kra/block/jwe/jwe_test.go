package jwe_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/jwe"
)

var b64 = base64.RawURLEncoding.EncodeToString

// made returns what go-jose writes, flattened.
func made(t testing.TB, payload []byte, enc jose.ContentEncryption, to jose.Recipient, opts *jose.EncrypterOptions) string {
	t.Helper()
	e, err := jose.NewEncrypter(enc, to, opts)
	if err != nil {
		t.Fatal(err)
	}
	m, err := e.Encrypt(payload)
	if err != nil {
		t.Fatal(err)
	}
	return m.FullSerialize()
}

// TestRefusedSaysWhatToUse: the recipients that stock clients make and agents do not take, and what is said to them.
func TestRefusedSaysWhatToUse(t *testing.T) {
	r, e := keys().rsa.Public(), keys().ec.Public()
	kid := thumbprint(t, r)
	for name, c := range map[string]struct {
		enc jose.ContentEncryption
		to  jose.Recipient
		why string
	}{
		"RSA1_5":          {jose.A256GCM, jose.Recipient{Algorithm: jose.RSA1_5, Key: r, KeyID: kid}, "RSA1_5 is refused"},
		"ECDH-ES":         {jose.A256GCM, jose.Recipient{Algorithm: jose.ECDH_ES, Key: e, KeyID: kid}, "no encrypted key"},
		"dir":             {jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: make([]byte, 32), KeyID: kid}, "no encrypted key"},
		"A256KW":          {jose.A256GCM, jose.Recipient{Algorithm: jose.A256KW, Key: make([]byte, 32), KeyID: kid}, "not a way of encrypting to a key pair"},
		"PBES2":           {jose.A256GCM, jose.Recipient{Algorithm: jose.PBES2_HS256_A128KW, Key: "password", KeyID: kid}, "not a way of encrypting to a key pair"},
		"no kid":          {jose.A256GCM, jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: r}, "RFC 7638 thumbprint"},
		"a kid of a name": {jose.A256GCM, jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: r, KeyID: "board"}, "RFC 7638 thumbprint"},
	} {
		m, err := jwe.Read(strings.NewReader(made(t, []byte("content"), c.enc, c.to, nil)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		e, err := m.Head().Envelope()
		if err == nil || len(e.Wraps()) != 0 || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %d wraps, %v; want %q", name, len(e.Wraps()), err, c.why)
		}
	}
	zipped := made(t, bytes.Repeat([]byte("content"), 1000), jose.A256GCM, jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: r, KeyID: kid}, &jose.EncrypterOptions{Compression: jose.DEFLATE})
	if _, err := jwe.Read(strings.NewReader(zipped)); err == nil || !strings.Contains(err.Error(), "zip") {
		t.Errorf("compressed: %v", err)
	}
}

// TestKeyByID: the kid may be a key id, as well as a thumbprint.
func TestKeyByID(t *testing.T) {
	id, err := block.KeyIDOf(keys().ec.Public())
	if err != nil {
		t.Fatal(err)
	}
	text := made(t, []byte("content"), jose.A256GCM, jose.Recipient{Algorithm: jose.ECDH_ES_A256KW, Key: keys().ec.Public(), KeyID: id.String()}, nil)
	m, err := jwe.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	e, err := m.Head().Envelope()
	if err != nil || len(e.Wraps()) != 1 || e.Wraps()[0].KeyID() != id {
		t.Errorf("%d wraps, %v; want one of key %v", len(e.Wraps()), err, id)
	}
}

// header is a JOSE header in base64url.
func header(members string) string { return b64([]byte("{" + members + "}")) }

// TestOneForm: a head is taken in its one form only.
func TestOneForm(t *testing.T) {
	text, err := jwe.Encrypt([]byte("content"), keys().ec.Public(), keys().rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	m, err := jwe.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	head := string(m.Head().Bytes())
	if _, err := jwe.ParseHead([]byte(head)); err != nil {
		t.Fatal(err)
	}
	e, err := m.Head().Envelope()
	if err != nil || e.Format() != block.FormatJWE || e.Bound() || len(e.Wraps()) != 2 {
		t.Errorf("envelope of format %v, bound %v, %d wraps, %v", e.Format(), e.Bound(), len(e.Wraps()), err)
	}
	one := `{"encrypted_key":"YQ","header":{"alg":"A256KW"}}`
	with := func(protected, recipients string) string {
		return `{"protected":"` + header(protected) + `","recipients":[` + recipients + `]}`
	}
	enc := `"enc":"A256GCM"`
	if _, err := jwe.ParseHead([]byte(with(enc, one))); err != nil {
		t.Fatalf("the test does not build heads: %v", err)
	}
	if _, err := jwe.ParseHead([]byte(with(enc, `{"encrypted_key":"YQ","header":{"alg":"A256KW","x-foreign":{"a":[1,1.50,true,null,"\"<&é"]}}}`))); err != nil {
		t.Errorf("foreign members: %v", err)
	}
	for name, bad := range map[string]string{
		"empty":                 "",
		"whole message":         string(text),
		"white space":           strings.Replace(head, ",", ", ", 1),
		"line break behind it":  head + "\n",
		"members out of order":  `{"recipients":[` + one + `],"protected":"` + header(enc) + `"}`,
		"foreign member":        strings.Replace(with(enc, one), `"recipients"`, `"ciphertext":"","recipients"`, 1),
		"needless escape":       strings.Replace(with(enc, one), "A256KW", `\u0041256KW`, 1),
		"member twice":          strings.Replace(with(enc, one), `"alg":"A256KW"`, `"alg":"A256KW","alg":"A256KW"`, 1),
		"flattened":             `{"encrypted_key":"YQ","header":{"alg":"A256KW"},"protected":"` + header(enc) + `"}`,
		"no recipient":          with(enc, ""),
		"more than fit":         with(enc, strings.Repeat(one+",", jwe.MaxRecipients)+one),
		"padded base64":         strings.Replace(with(enc, one), `"YQ"`, `"YQ=="`, 1),
		"loose bits":            strings.Replace(with(enc, one), `"YQ"`, `"YR"`, 1),
		"line break in base64":  strings.Replace(with(enc, one), `"YQ"`, `"Y\nQ"`, 1),
		"no alg":                with(enc, `{"encrypted_key":"YQ"}`),
		"no enc":                with(`"a":1`, one),
		"alg in two headers":    with(enc+`,"alg":"dir"`, one),
		"alg is a number":       with(enc, `{"encrypted_key":"YQ","header":{"alg":1}}`),
		"kid is a number":       with(enc+`,"kid":1`, one),
		"crit":                  with(enc+`,"crit":["exp"]`, one),
		"zip":                   with(enc+`,"zip":"DEF"`, one),
		"two encryptions":       with(`"a":1`, `{"encrypted_key":"YQ","header":{"alg":"A256KW","enc":"A128GCM"}},{"encrypted_key":"YQ","header":{"alg":"A256KW","enc":"A256GCM"}}`),
		"recipient is a string": with(enc, `"a"`),
		"header is a string":    with(enc, `{"encrypted_key":"YQ","header":"a"}`),
		"protected is no JSON":  `{"protected":"YQ","recipients":[` + one + `]}`,
		"protected twice":       with(enc+","+enc, one),
		"nested too deeply":     with(enc, `{"encrypted_key":"YQ","header":{"a":`+strings.Repeat("[", 9)+strings.Repeat("]", 9)+`,"alg":"A256KW"}}`),
		"not UTF-8":             with(enc, "{\"encrypted_key\":\"YQ\",\"header\":{\"alg\":\"\xff\"}}"),
		"array":                 "[]",
		"too large":             with(enc, fmt.Sprintf(`{"encrypted_key":"%s","header":{"alg":"A256KW"}}`, strings.Repeat("AAAA", jwe.MaxHead/4))),
	} {
		if h, err := jwe.ParseHead([]byte(bad)); err == nil || len(h.Bytes()) != 0 || len(h.Recipients()) != 0 {
			t.Errorf("%s: is accepted", name)
		}
	}
}

// TestMessageRefused has what Read does not take.
func TestMessageRefused(t *testing.T) {
	text := made(t, []byte("content"), jose.A256GCM, jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: keys().rsa.Public(), KeyID: thumbprint(t, keys().rsa.Public())}, nil)
	for name, bad := range map[string]string{
		"empty":             "",
		"four parts":        "YQ.YQ.YQ.YQ",
		"six parts":         header(`"alg":"dir","enc":"A256GCM"`) + ".YQ.YQ.YQ.YQ.YQ",
		"no ciphertext":     strings.Replace(text, `"ciphertext"`, `"text"`, 1),
		"no tag":            strings.Replace(text, `"tag"`, `"tags"`, 1),
		"something behind":  text + "{}",
		"recipients beside": strings.Replace(text, `"tag"`, `"recipients":[{"encrypted_key":"YQ"}],"tag"`, 1),
		"too large":         strings.Replace(text, `"ciphertext":"`, `"ciphertext":"`+strings.Repeat("A", jwe.MaxMessage), 1),
	} {
		if m, err := jwe.Read(strings.NewReader(bad)); err == nil || len(m.Head().Bytes()) != 0 {
			t.Errorf("%s: is accepted", name)
		}
	}
	if _, err := jwe.Encrypt(make([]byte, jwe.MaxPayload+1), keys().rsa.Public()); err == nil {
		t.Error("Encrypt takes more than MaxPayload")
	}
	big := make([]byte, jwe.MaxPayload)
	_, _ = rand.Read(big)
	text2, err := jwe.Encrypt(big, keys().ec.Public())
	if err != nil || len(text2) > jwe.MaxMessage {
		t.Fatalf("Encrypt of MaxPayload: %d bytes, %v", len(text2), err)
	}
	m, err := jwe.Read(bytes.NewReader(text2))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Open(release(t, m.Head(), keys().ec)); err != nil || !bytes.Equal(got, big) {
		t.Errorf("MaxPayload opens to %d bytes, %v", len(got), err)
	}
	for _, swap := range []string{`"ciphertext":"`, `"tag":"`, `"iv":"`} {
		i := strings.Index(text, swap) + len(swap)
		bad := text[:i] + string(flip(text[i])) + text[i+1:]
		m, err := jwe.Read(strings.NewReader(bad))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Open(release(t, m.Head(), keys().rsa)); !errors.Is(err, jwe.ErrContent) {
			t.Errorf("%s changed: %v", swap, err)
		}
	}
}

func flip(c byte) byte {
	if c == 'A' {
		return 'B'
	}
	return 'A'
}

// TestPartyInfo: apu and apv are part of the key derivation. The vector is RFC 7518 appendix C's, with a key wrapped by
// what it derives for A128KW.
func TestPartyInfo(t *testing.T) {
	pub := keys().ec.Public()
	x := `"epk":{"crv":"P-256","kty":"EC","x":"gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0","y":"SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps"}`
	h := `{"protected":"` + header(`"alg":"ECDH-ES+A128KW","apu":"QWxpY2U","apv":"Qm9i","enc":"A128GCM",`+x+`,"kid":"`+thumbprint(t, pub)+`"`) +
		`","recipients":[{"encrypted_key":"` + b64(make([]byte, 24)) + `"}]}`
	head, err := jwe.ParseHead([]byte(h))
	if err != nil {
		t.Fatal(err)
	}
	e, err := head.Envelope()
	if err != nil {
		t.Fatal(err)
	}
	want := "\x00\x00\x00\x0eECDH-ES+A128KW\x00\x00\x00\x05Alice\x00\x00\x00\x03Bob\x00\x00\x00\x80"
	if got := string(e.Wraps()[0].Context()); got != want {
		t.Errorf("shared info %q; want %q", got, want)
	}
	for name, bad := range map[string]string{
		"P-384":           `"epk":{"crv":"P-384","kty":"EC","x":"gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0","y":"SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps"}`,
		"short":           `"epk":{"crv":"P-256","kty":"EC","x":"gI0G","y":"SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps"}`,
		"point at naught": `"epk":{"crv":"P-256","kty":"EC","x":"` + b64(make([]byte, 32)) + `","y":"` + b64(make([]byte, 32)) + `"}`,
		"none":            `"a":1`,
	} {
		text := `{"protected":"` + header(`"alg":"ECDH-ES+A128KW","enc":"A128GCM",`+bad+`,"kid":"`+thumbprint(t, pub)+`"`) +
			`","recipients":[{"encrypted_key":"` + b64(make([]byte, 24)) + `"}]}`
		head, err := jwe.ParseHead([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if e, err := head.Envelope(); err == nil {
			t.Errorf("%s: %d wraps", name, len(e.Wraps()))
		}
	}
}

// TestForeignMembersAreKept: what a header says that an agent does not know stays in the head, and recipients that are
// not for agents do.
func TestForeignMembersAreKept(t *testing.T) {
	text := `{"aad":"YQ","ciphertext":"YQ","iv":"YQ","tag":"YQ","x-beside":1,` +
		`"protected":"` + header(`"enc":"A256GCM","x-protected":[1.50]`) + `","unprotected":{"x-b":{"c":null},"x-a":"<é>"},` +
		`"recipients":[{"encrypted_key":"YQ","header":{"x-own":true,"alg":"A256KW"}},{"header":{"alg":"x-foreign"}}]}`
	m, err := jwe.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"protected":"` + header(`"enc":"A256GCM","x-protected":[1.50]`) + `",` +
		`"recipients":[{"encrypted_key":"YQ","header":{"alg":"A256KW","x-own":true}},{"header":{"alg":"x-foreign"}}],` +
		`"unprotected":{"x-a":"<é>","x-b":{"c":null}}}`
	if got := string(m.Head().Bytes()); got != want {
		t.Errorf("head\n%s\nwant\n%s", got, want)
	}
}
