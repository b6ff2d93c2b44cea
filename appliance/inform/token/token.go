// Package token verifies JSON web tokens (RFC 7519) that are bound to a decryptor's certificate (RFC 8705), with keys that
// are configured, and says in the box's words what they tell.
package token

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/keyrelease/krabox/kra/policy"
)

// Limits of a token, and how far the issuer's clock may differ from the box's.
const (
	maxToken   = 16 << 10
	maxHeader  = 2 << 10
	maxDepth   = 8   // of what a token says
	maxItems   = 200 // that it says
	maxMapping = 64
	skew       = 30 * time.Second
	latest     = 253402300799 // the last second of the year 9999
)

// algorithms are all that is accepted, whatever a token or a key says.
var algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.PS256, jose.EdDSA}

// A Mapping says what a claim is called in the box. From is the name of a claim, or, if it begins with /, the way to one
// within another (RFC 6901): /realm_access/roles.
type Mapping struct {
	Kind policy.Kind
	Name string // of an attribute, a device attribute or an alias; else empty
	From string
}

// A Config says whose tokens count, for whom they must be, and what they mean.
type Config struct {
	Issuer   string
	Audience string
	Keys     []byte // JSON Web Key Set (RFC 7517) of public keys; those of other algorithms and uses are left out
	Map      []Mapping
}

// A Verifier knows the keys of one issuer. It is used by many goroutines at once.
type Verifier struct {
	issuer, audience string
	keys             []key
	fields           []field
}

// New checks a configuration.
func New(c Config) (*Verifier, error) {
	v := &Verifier{issuer: c.Issuer, audience: c.Audience}
	if c.Issuer == "" || c.Audience == "" {
		return nil, errors.New("issuer and audience must be set")
	}
	var err error
	if v.keys, err = parseKeys(c.Keys); err != nil {
		return nil, err
	}
	if len(c.Map) > maxMapping {
		return nil, fmt.Errorf("more than %d claims", maxMapping)
	}
	for _, m := range c.Map {
		f, err := parseField(m)
		if err != nil {
			return nil, err
		}
		v.fields = append(v.fields, f)
	}
	return v, nil
}

// Issued implements inform.Verifier: two sources may accept tokens of one issuer for different audiences.
func (v *Verifier) Issued(token string) bool {
	t, err := parse(token)
	return err == nil && t.claims.text("iss") == v.issuer && t.claims.listed("aud", v.audience)
}

var (
	errIssuer   = errors.New("token is of another issuer")
	errAudience = errors.New("token is for others")
	errKey      = errors.New("token is signed with no key of the issuer")
	errBound    = errors.New("token is not bound to the certificate (cnf, x5t#S256)")
)

// Verify implements inform.Verifier.
func (v *Verifier) Verify(token string, leaf *x509.Certificate) ([]policy.Item, error) {
	t, err := parse(token)
	if err != nil {
		return nil, err
	}
	k, err := v.key(t.header)
	if err != nil {
		return nil, err
	}
	if err := k.verify(token, t.header.alg); err != nil {
		return nil, err
	}
	switch {
	case t.claims.text("iss") != v.issuer:
		return nil, errIssuer
	case !t.claims.listed("aud", v.audience):
		return nil, errAudience
	case !t.claims.boundTo(leaf):
		return nil, errBound
	}
	from, until, err := t.claims.lifetime()
	if err != nil {
		return nil, err
	}
	return v.items(t.claims, from, until)
}

// key chooses by the name that the token gives. Without a name there must be no choice.
func (v *Verifier) key(h header) (found key, err error) {
	n := 0
	for _, k := range v.keys {
		if slices.Contains(k.algorithms, h.alg) && (!h.named || k.id == h.kid) {
			found, n = k, n+1
		}
	}
	if n != 1 {
		return key{}, errKey
	}
	return found, nil
}

// boundTo reports whether the confirmation is the certificate's thumbprint and nothing else (RFC 7800, RFC 8705 section 3.1).
func (c claims) boundTo(leaf *x509.Certificate) bool {
	cnf, ok := c["cnf"].(map[string]any)
	if !ok || len(cnf) != 1 {
		return false
	}
	sum := sha256.Sum256(leaf.Raw)
	return cnf["x5t#S256"] == base64.RawURLEncoding.EncodeToString(sum[:])
}

// lifetime returns from when on and up to when a token counts. It looks at no clock.
func (c claims) lifetime() (from, until time.Time, err error) {
	exp, ok, err := c.time("exp")
	if err != nil || !ok {
		return from, until, errors.Join(err, errors.New("token has no end (exp)"))
	}
	for _, name := range []string{"nbf", "iat"} {
		at, ok, err := c.time(name)
		if err != nil {
			return from, until, err
		}
		if ok && (from.IsZero() || at.After(from)) {
			from = at
		}
	}
	if !exp.After(from) {
		return from, until, errors.New("token ends before it begins")
	}
	if !from.IsZero() {
		from = from.Add(-skew)
	}
	return from, exp.Add(skew - time.Second), nil // exp is the first second that does not count, until the last that does
}

// items says what the claims are in the box's words.
func (v *Verifier) items(c claims, from, until time.Time) (items []policy.Item, err error) {
	for _, f := range v.fields {
		values, err := f.values(c)
		if err != nil {
			return nil, err
		}
		for _, value := range values {
			i := policy.Item{Kind: f.Kind, Name: f.Name, Value: value, From: from, Until: until}
			if f.Kind == policy.Group || f.Kind == policy.Role {
				i.Name, i.Value = value, ""
			}
			if f.Kind == policy.Alias {
				i.Value = policy.NormalAlias(i.Name, i.Value)
			}
			if items = append(items, i); len(items) > maxItems {
				return nil, fmt.Errorf("token says more than %d things", maxItems)
			}
		}
	}
	full := slices.DeleteFunc(slices.Clone(items), func(i policy.Item) bool { return !i.Word() }) // those the World leaves out
	for i := range full {
		full[i].Authority, full[i].Via = "issuer", policy.Token
	}
	if _, err := policy.NewInformation(full, nil); err != nil {
		return nil, fmt.Errorf("token says what rules cannot use: %w", err)
	}
	return items, nil
}

// A field is a mapping, read.
type field struct {
	Mapping
	path []string
}

func parseField(m Mapping) (field, error) {
	f := field{m, []string{m.From}}
	if rest, ok := strings.CutPrefix(m.From, "/"); ok {
		f.path = strings.Split(rest, "/")
		for i, p := range f.path {
			f.path[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(p)
		}
	}
	if m.From == "" || m.Kind.String() == "" || len(f.path) > maxDepth {
		return field{}, fmt.Errorf("claim %.100q: want CLAIM or /CLAIM/CLAIM", m.From)
	}
	return f, nil
}

// values returns the texts that a claim holds: one, or a list. What is not there says nothing.
func (f field) values(c claims) (texts []string, err error) {
	var at any = map[string]any(c)
	for _, p := range f.path {
		o, ok := at.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("claim %.100q: within it is none", f.From)
		}
		if at, ok = o[p]; !ok {
			return nil, nil
		}
	}
	list, ok := at.([]any)
	if !ok {
		list = []any{at}
	}
	for _, v := range list {
		text, ok := textOf(v)
		if !ok {
			return nil, fmt.Errorf("claim %.100q is no text and no list of texts", f.From)
		}
		texts = append(texts, text)
	}
	return texts, nil
}
