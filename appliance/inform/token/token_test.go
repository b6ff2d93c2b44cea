package token_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/appliance/inform/token"
	"github.com/keyrelease/krabox/kra/policy"
)

var _ inform.Verifier = (*token.Verifier)(nil)

const issuer = "https://idp.example.com"

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A provider signs tokens with go-jose.
type provider struct {
	ec, other *ecdsa.PrivateKey
	rsa       *rsa.PrivateKey
	ed        ed25519.PrivateKey
}

func newProvider(t testing.TB) provider {
	t.Helper()
	var p provider
	var err [4]error
	p.ec, err[0] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p.other, err[1] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p.rsa, err[2] = rsa.GenerateKey(rand.Reader, 2048)
	_, p.ed, err[3] = ed25519.GenerateKey(rand.Reader)
	for _, e := range err {
		if e != nil {
			t.Fatal(e)
		}
	}
	return p
}

func (p provider) keys(t testing.TB) []byte {
	t.Helper()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: p.ec.Public(), KeyID: "ec", Algorithm: "ES256", Use: "sig"}, {Key: p.rsa.Public(), KeyID: "rsa"}, {Key: p.ed.Public(), KeyID: "ed"},
		{Key: p.other.Public(), KeyID: "enc", Use: "enc"}, {Key: p384.Public(), KeyID: "p384"}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sign(t testing.TB, alg jose.SignatureAlgorithm, kid string, k any, payload string, header map[jose.HeaderKey]any) string {
	t.Helper()
	o := (&jose.SignerOptions{}).WithType("JWT")
	for name, v := range header {
		o = o.WithHeader(name, v)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: k, KeyID: kid}}, o)
	if err != nil {
		t.Fatal(err)
	}
	j, err := s.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	out, err := j.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func certificate(t testing.TB) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func thumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// says is a good payload for the leaf, with more in it; what is given again replaces.
func says(leaf *x509.Certificate, more ...any) string {
	all := map[string]any{"iss": issuer, "aud": "kra", "sub": "bob", "exp": now.Add(time.Hour).Unix(), "nbf": now.Unix(), "iat": now.Unix() - 5,
		"cnf": map[string]any{"x5t#S256": thumbprint(leaf)}}
	for i := 0; i < len(more); i += 2 {
		if name := more[i].(string); more[i+1] == nil {
			delete(all, name)
		} else {
			all[name] = more[i+1]
		}
	}
	b, _ := json.Marshal(all) // never fails: numbers and texts
	return string(b)
}

func verifier(t testing.TB, p provider) *token.Verifier {
	t.Helper()
	v, err := token.New(token.Config{Issuer: issuer, Audience: "kra", Keys: p.keys(t), Map: []token.Mapping{
		{Kind: policy.Group, From: "groups"}, {Kind: policy.Role, From: "/realm_access/roles"}, {Kind: policy.Attribute, Name: "department", From: "https://example.com/department"},
		{Kind: policy.Clearance, From: "clearance"}, {Kind: policy.Alias, Name: "mail", From: "email"}}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func tell(items []policy.Item) string {
	var out []string
	for _, i := range items {
		out = append(out, fmt.Sprintf("%v %s %s", i.Kind, i.Name, i.Value))
	}
	return strings.Join(out, ", ")
}

func TestTokensSay(t *testing.T) {
	p, leaf := newProvider(t), certificate(t)
	v := verifier(t, p)
	for _, x := range []struct{ payload, want string }{
		{says(leaf), ""},
		{says(leaf, "groups", []string{"legal", "all staff"}), "group legal , group all staff "},
		{says(leaf, "groups", "legal"), "group legal "},
		{says(leaf, "roles", "teller"), ""},
		{says(leaf, "realm_access", map[string]any{"roles": []string{"teller"}}), "role teller "},
		{says(leaf, "realm_access", map[string]any{"other": 1}), ""},
		{says(leaf, "https://example.com/department", 42, "clearance", "secret/crypto", "email", "Bob@EXAMPLE.com"), "attribute department 42, clearance  secret/crypto, alias mail Bob@example.com"},
		{says(leaf, "aud", []string{"other", "kra"}), ""},
	} {
		for alg, k := range map[jose.SignatureAlgorithm]struct {
			id  string
			key crypto.Signer
		}{jose.ES256: {"ec", p.ec}, jose.RS256: {"rsa", p.rsa}, jose.PS256: {"rsa", p.rsa}, jose.EdDSA: {"ed", p.ed}} {
			text := sign(t, alg, k.id, k.key, x.payload, nil)
			items, err := v.Verify(text, leaf)
			if err != nil || tell(items) != x.want || !v.Issued(text) {
				t.Errorf("%s %s: %q, %v; want %q", alg, x.payload, tell(items), err, x.want)
			}
			for _, i := range items {
				if !i.From.Equal(now.Add(-30*time.Second)) || !i.Until.Equal(now.Add(time.Hour+29*time.Second)) {
					t.Errorf("from %v until %v", i.From, i.Until)
				}
			}
		}
	}
	// No kid: there is one key for the algorithm.
	if _, err := v.Verify(sign(t, jose.ES256, "", p.ec, says(leaf), nil), leaf); err != nil {
		t.Errorf("without a key id: %v", err)
	}
}

// Each of these refuses the request that presents it.
func TestTokensRefused(t *testing.T) {
	p, leaf, thief := newProvider(t), certificate(t), certificate(t)
	v := verifier(t, p)
	good := says(leaf, "groups", "legal")
	signed := sign(t, jose.ES256, "ec", p.ec, good, nil)
	if _, err := v.Verify(signed, leaf); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(signed, thief); err == nil {
		t.Error("a stolen token was accepted")
	}
	ec := func(payload string) string { return sign(t, jose.ES256, "ec", p.ec, payload, nil) }
	raw := func(header, payload string) string {
		b := base64.RawURLEncoding.EncodeToString
		return b([]byte(header)) + "." + b([]byte(payload)) + "." + strings.Split(signed, ".")[2]
	}
	with := func(name jose.HeaderKey, value any) string {
		return sign(t, jose.ES256, "ec", p.ec, good, map[jose.HeaderKey]any{name: value})
	}
	secret, err := x509.MarshalPKIXPublicKey(p.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	encrypter, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.ECDH_ES, Key: p.ec.Public()}, (&jose.EncrypterOptions{}).WithContentType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := encrypter.Encrypt([]byte(signed))
	if err != nil {
		t.Fatal(err)
	}
	nested, err := sealed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"no signature":                 raw(`{"alg":"none"}`, good)[:len(raw(`{"alg":"none"}`, good))-86],
		"algorithm none":               raw(`{"alg":"none"}`, good),
		"another signature":            raw(`{"alg":"ES256","kid":"ec"}`, says(leaf, "groups", "board")),
		"repeated field in the header": raw(`{"alg":"ES256","alg":"ES256","kid":"ec"}`, good),
		"a public key as a secret":     sign(t, jose.HS256, "rsa", secret, good, nil),
		"another algorithm":            sign(t, jose.RS512, "rsa", p.rsa, good, nil),
		"another key's algorithm":      sign(t, jose.ES256, "rsa", p.other, good, nil),
		"a key of nobody":              sign(t, jose.ES256, "", p.other, good, nil),
		"a key for encryption":         sign(t, jose.ES256, "enc", p.other, good, nil),
		"a key id of nobody":           sign(t, jose.ES256, "new", p.ec, good, nil),
		"encrypted":                    nested,
		"a token in a token":           with("cty", "JWT"),
		"critical":                     with("crit", []string{"exp"}),
		"not base64":                   with("b64", true),
		"another type":                 with("typ", "dpop+jwt"),
		"wrong issuer":                 ec(says(leaf, "iss", issuer+"/")),
		"no issuer":                    ec(says(leaf, "iss", nil)),
		"issuers":                      ec(says(leaf, "iss", []string{issuer})),
		"wrong audience":               ec(says(leaf, "aud", "kr")),
		"no audience":                  ec(says(leaf, "aud", nil)),
		"not bound":                    ec(says(leaf, "cnf", nil)),
		"bound to nothing":             ec(says(leaf, "cnf", map[string]any{})),
		"bound to another":             ec(says(leaf, "cnf", map[string]any{"x5t#S256": thumbprint(thief)})),
		"bound to more":                ec(says(leaf, "cnf", map[string]any{"x5t#S256": thumbprint(leaf), "jkt": "x"})),
		"bound in another base64":      ec(says(leaf, "cnf", map[string]any{"x5t#S256": thumbprint(leaf) + "="})),
		"bound by a text":              ec(says(leaf, "cnf", thumbprint(leaf))),
		"endless":                      ec(says(leaf, "exp", nil)),
		"ending in words":              ec(says(leaf, "exp", "tomorrow")),
		"ending never":                 ec(says(leaf, "exp", 1e300)),
		"ending before it begins":      ec(says(leaf, "exp", now.Unix())),
		"issued after its end":         ec(says(leaf, "iat", now.Add(2*time.Hour).Unix())),
		"beginning in words":           ec(says(leaf, "nbf", true)),
		"groups in an object":          ec(says(leaf, "groups", map[string]any{"legal": true})),
		"groups in lists":              ec(says(leaf, "groups", []any{[]string{"legal"}})),
		"roles in a text":              ec(says(leaf, "realm_access", "roles")),
		"many groups":                  ec(says(leaf, "groups", make([]int, 201))),
		"a repeated claim":             ec(strings.Replace(good, `"iss"`, `"aud":"kra","iss"`, 1)),
		"a repeated claim, escaped":    ec(strings.Replace(good, `"iss"`, `"a\u0075d":"kra","iss"`, 1)),
		"a repeated claim within":      ec(says(leaf, "x", json.RawMessage(`{"a":1,"a":2}`))),
		"deep":                         ec(says(leaf, "x", json.RawMessage(strings.Repeat("[", 9)+strings.Repeat("]", 9)))),
		"no object":                    ec("[" + good + "]"),
		"two objects":                  ec(good + "{}"),
		"no text":                      ec(strings.Replace(good, "legal", "\xff", 1)),
		"too long":                     ec(says(leaf, "x", strings.Repeat("x", 16<<10))),
		"padded":                       signed + "=",
		"a line break":                 signed[:len(signed)-10] + "\n" + signed[len(signed)-10:],
		"another last letter":          signed[:len(signed)-1] + next(signed[len(signed)-1]),
		"four parts":                   signed + ".",
		"nothing":                      "",
		"JSON":                         `{"payload":"","signatures":[]}`,
	} {
		if items, err := v.Verify(text, leaf); err == nil || items != nil {
			t.Errorf("%s: %v, %v; want an error", what, items, err)
		}
	}
	if v.Issued(ec(says(leaf, "iss", "https://other"))) || v.Issued(ec(says(leaf, "aud", "other"))) || v.Issued("x") {
		t.Error("others' tokens are taken for ours")
	}
}

// next is another letter that decodes to the same bytes for those who ignore what is left over.
func next(c byte) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(letters[strings.IndexByte(letters, c)^1])
}

func TestKeySets(t *testing.T) {
	p := newProvider(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	set := func(keys ...jose.JSONWebKey) []byte {
		b, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ec := jose.JSONWebKey{Key: p.ec.Public(), KeyID: "ec"}
	for what, x := range map[string]struct {
		keys []byte
		ok   bool
	}{
		"one":                 {set(ec), true},
		"two":                 {set(ec, jose.JSONWebKey{Key: p.other.Public(), KeyID: "other"}), true},
		"one name twice":      {set(ec, jose.JSONWebKey{Key: p.other.Public(), KeyID: "ec"}), false},
		"two kinds, one name": {set(ec, jose.JSONWebKey{Key: p.rsa.Public(), KeyID: "ec"}), true},
		"private":             {set(jose.JSONWebKey{Key: p.ec, KeyID: "ec"}), false},
		"a secret":            {set(jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef")}), false},
		"small":               {set(jose.JSONWebKey{Key: small.Public()}), false},
		"for encryption":      {set(jose.JSONWebKey{Key: p.ec.Public(), Use: "enc"}), false},
		"another algorithm":   {set(jose.JSONWebKey{Key: p.rsa.Public(), Algorithm: "RS512"}), false},
		"none":                {set(), false},
		"an unknown kind":     {[]byte(`{"keys":[{"kty":"AKP"},` + string(set(ec)[9:])), true},
		"no keys":             {[]byte(`{}`), false},
		"no set":              {[]byte(`[]`), false},
		"repeated":            {[]byte(`{"keys":[],` + string(set(ec)[1:])), false},
		"too long":            {append(set(ec), make([]byte, 64<<10)...), false},
		"many":                {[]byte(`{"keys":[` + strings.Repeat("{},", 64) + `{}]}`), false},
	} {
		if _, err := token.New(token.Config{Issuer: issuer, Audience: "kra", Keys: x.keys}); (err == nil) != x.ok {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Of two keys for an algorithm, a token must name one.
	v, err := token.New(token.Config{Issuer: issuer, Audience: "kra", Keys: set(ec, jose.JSONWebKey{Key: p.other.Public(), KeyID: "other"})})
	if err != nil {
		t.Fatal(err)
	}
	leaf := certificate(t)
	for _, k := range []*ecdsa.PrivateKey{p.ec, p.other} {
		if _, err := v.Verify(sign(t, jose.ES256, "", k, says(leaf), nil), leaf); err == nil {
			t.Error("a key was guessed")
		}
	}
	if _, err := v.Verify(sign(t, jose.ES256, "other", p.other, says(leaf), nil), leaf); err != nil {
		t.Error(err)
	}
	for what, c := range map[string]token.Config{
		"no issuer":    {Audience: "kra", Keys: set(ec)},
		"no audience":  {Issuer: issuer, Keys: set(ec)},
		"no kind":      {Issuer: issuer, Audience: "kra", Keys: set(ec), Map: []token.Mapping{{From: "groups"}}},
		"no claim":     {Issuer: issuer, Audience: "kra", Keys: set(ec), Map: []token.Mapping{{Kind: policy.Group}}},
		"a long way":   {Issuer: issuer, Audience: "kra", Keys: set(ec), Map: []token.Mapping{{Kind: policy.Group, From: strings.Repeat("/a", 9)}}},
		"many of them": {Issuer: issuer, Audience: "kra", Keys: set(ec), Map: make([]token.Mapping, 65)},
	} {
		if _, err := token.New(c); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
}

// TestOddWords: a claim that is no word of any rule does not take the token's other claims away. Who asks leaves it out.
func TestOddWords(t *testing.T) {
	p, leaf := newProvider(t), certificate(t)
	v := verifier(t, p)
	items, err := v.Verify(sign(t, jose.ES256, "ec", p.ec, says(leaf, "email", "", "clearance", "...", "groups", []string{"", "legal"}), nil), leaf)
	words := 0
	for _, i := range items {
		if i.Word() {
			words++
		}
	}
	if err != nil || len(items) != 4 || words != 1 {
		t.Errorf("Verify = %+v, %v", items, err)
	}
}
