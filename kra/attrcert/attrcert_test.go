package attrcert_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/attrcert"
)

var (
	policyOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}
	teller    = "urn:example:role:teller"
)

// rich is a certificate with one of everything.
func rich(c corp) attrcert.Template {
	tmpl := c.template()
	tmpl.Roles = []string{teller, "urn:example:role:auditor"}
	tmpl.Clearances = []attrcert.Clearance{
		{Policy: policyOID, Bits: []int{4}, Categories: []attrcert.Category{{Type: append(slices.Clip(policyOID), 1), Value: []byte{0x0c, 6, 'c', 'r', 'y', 'p', 't', 'o'}}}},
		{Policy: append(slices.Clip(policyOID), 2), Bits: []int{1}},
	}
	tmpl.Attributes = []attrcert.Attribute{{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Values: []string{"Sales", "Berlin"}}}
	return tmpl
}

func TestWhatItSays(t *testing.T) {
	keys := map[string]crypto.Signer{"P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()), "RSA": rsaKey(t, 2048), "Ed25519": edKey(t)}
	for name, key := range keys {
		c := newCorp(t, key)
		for _, byName := range []bool{false, true} {
			tmpl := rich(c)
			tmpl.ByName = byName
			v := verify(t, c.issue(t, tmpl), c.check())
			got := fmt.Sprint(v.Groups(), v.Roles(), v.Clearances(), v.Attributes(), v.Ignored())
			want := "[legal board] [urn:example:role:teller urn:example:role:auditor] " + // sets are in the order of their DER
				"[{1.3.6.1.4.1.99999.1.2 [1] []} {1.3.6.1.4.1.99999.1 [4] [{1.3.6.1.4.1.99999.1.1 [12 6 99 114 121 112 116 111]}]}] " +
				"[{2.5.4.11 [Sales Berlin]}] []"
			if got != want {
				t.Errorf("%s, by name %v:\n%s\nwant\n%s", name, byName, got, want)
			}
			if err := v.ValidAt(now); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// OpenSSL sees in our certificates what we put there, and finds the signature good.
func TestOpenSSLReadsOurs(t *testing.T) {
	c := newCorp(t, ecKey(t, elliptic.P256()))
	raw := c.issue(t, rich(c))
	text := string(run(t, "openssl", "asn1parse", "-in", write(t, attrcert.PEMType, raw)))
	for _, want := range []string{":id-aca-group", "UTF8STRING        :legal", ":role", ":2.5.4.55", ":" + policyOID.String(), "BIT STRING",
		":X509v3 No Revocation Available", ":ecdsa-with-SHA256", "GENERALIZEDTIME   :20260504110000Z", ":organizationalUnitName"} {
		if !strings.Contains(text, want) {
			t.Errorf("openssl asn1parse does not show %q:\n%s", want, text)
		}
	}
	if !strings.Contains(string(run(t, "openssl", "asn1parse", "-in", write(t, attrcert.PEMType, raw), "-dump")), "cryp") {
		t.Error("openssl does not show the security category")
	}
	var parts struct {
		Info asn1.RawValue
		Alg  pkix.AlgorithmIdentifier
		Sig  asn1.BitString
	}
	if rest, err := asn1.Unmarshal(raw, &parts); err != nil || len(rest) != 0 {
		t.Fatal(err)
	}
	dir := t.TempDir()
	spki, err := x509.MarshalPKIXPublicKey(c.aa.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"tbs": parts.Info.FullBytes, "sig": parts.Sig.RightAlign(), "pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := run(t, "openssl", "dgst", "-sha256", "-verify", filepath.Join(dir, "pub"), "-signature", filepath.Join(dir, "sig"), filepath.Join(dir, "tbs"))
	if !bytes.Contains(out, []byte("Verified OK")) {
		t.Errorf("openssl dgst -verify: %s", out)
	}
}

func TestVerifyRefuses(t *testing.T) {
	c := newCorp(t, ecKey(t, elliptic.P256()))
	sign := func(edit func(*attrcert.Template)) []byte {
		tmpl := c.template()
		edit(&tmpl)
		return c.issue(t, tmpl)
	}
	plain := sign(func(*attrcert.Template) {})
	aaWith := func(edit func(*x509.Certificate)) *x509.Certificate {
		tmpl := x509.Certificate{Subject: c.aa.cert.Subject, KeyUsage: x509.KeyUsageDigitalSignature}
		edit(&tmpl)
		return issue(t, c.ca, c.aa.key, tmpl).cert
	}
	twin := newCorp(t, ecKey(t, elliptic.P256())) // the same names, other keys
	unknown := errors.New("list is too old")
	cases := map[string]struct {
		raw  []byte
		edit func(*attrcert.Check)
		want error // nil: verifies
		why  string
	}{
		"as it should be":         {plain, func(*attrcert.Check) {}, nil, ""},
		"another issuer":          {plain, func(k *attrcert.Check) { k.Issuer = c.alice.cert }, attrcert.ErrIssuer, ""},
		"issuer with another key": {plain, func(k *attrcert.Check) { k.Issuer = twin.aa.cert }, nil, "signature"},
		"issuer is a CA": {plain, func(k *attrcert.Check) {
			k.Issuer = aaWith(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
		}, nil, "certification authority"},
		"issuer may not sign": {plain, func(k *attrcert.Check) {
			k.Issuer = aaWith(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })
		}, nil, "digitalSignature"},
		"issuer with an unknown critical extension": {plain, func(k *attrcert.Check) {
			k.Issuer = aaWith(func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
			})
		}, nil, "critical extension"},
		"another holder":         {plain, func(k *attrcert.Check) { k.Holder = c.person(t, "mallory").cert }, attrcert.ErrHolder, ""},
		"alice of another CA":    {plain, func(k *attrcert.Check) { k.Holder = newCorp(t, ecKey(t, elliptic.P256())).person(t, "alice").cert }, attrcert.ErrHolder, ""},
		"another alice by name":  {sign(func(t *attrcert.Template) { t.ByName = true }), func(k *attrcert.Check) { k.Holder = c.person(t, "alicia").cert }, attrcert.ErrHolder, ""},
		"renewed alice by name":  {sign(func(t *attrcert.Template) { t.ByName = true }), func(k *attrcert.Check) { k.Holder = c.person(t, "alice").cert }, nil, ""},
		"meant for us":           {sign(func(t *attrcert.Template) { t.Targets = []string{"kra://b", "kra://acme/box1"} }), func(k *attrcert.Check) { k.Targets = []string{"kra://acme/box1"} }, nil, ""},
		"meant for another":      {sign(func(t *attrcert.Template) { t.Targets = []string{"kra://acme/box2"} }), func(k *attrcert.Check) { k.Targets = []string{"kra://acme/box1"} }, attrcert.ErrTarget, ""},
		"meant for somebody":     {sign(func(t *attrcert.Template) { t.Targets = []string{"kra://acme/box2"} }), func(*attrcert.Check) {}, attrcert.ErrTarget, ""},
		"revocable without list": {sign(func(t *attrcert.Template) { t.Revocable = true }), func(*attrcert.Check) {}, attrcert.ErrNoList, ""},
		"revocable, not revoked": {sign(func(t *attrcert.Template) { t.Revocable = true }), func(k *attrcert.Check) { k.Revoked = func(*big.Int) error { return nil } }, nil, ""},
		"revoked": {sign(func(t *attrcert.Template) { t.Revocable, t.Serial = true, big.NewInt(77) }), func(k *attrcert.Check) {
			k.Revoked = func(n *big.Int) error {
				if n.Int64() == 77 {
					return attrcert.ErrRevoked
				}
				return nil
			}
		}, attrcert.ErrRevoked, ""},
		"list unknown": {sign(func(t *attrcert.Template) { t.Revocable = true }), func(k *attrcert.Check) { k.Revoked = func(*big.Int) error { return unknown } }, unknown, ""},
		"unknown extension, not critical": {sign(func(t *attrcert.Template) {
			t.Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte("x")}}
		}), func(*attrcert.Check) {}, nil, ""},
	}
	for name, x := range cases {
		t.Run(name, func(t *testing.T) {
			k := c.check()
			x.edit(&k)
			v, err := parse(t, x.raw).Verify(k)
			if x.want == nil && x.why == "" {
				if err != nil || len(v.Groups()) != 2 {
					t.Fatalf("Verify = %v", err)
				}
				return
			}
			if err == nil || x.want != nil && !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.why) {
				t.Fatalf("Verify = %v; want %v %q", err, x.want, x.why)
			}
			if len(v.Groups()) != 0 || v.ValidAt(now) == nil {
				t.Error("what is not verified says something")
			}
		})
	}
}

// The authority's own certificate ends what it says.
func TestValidityIsTheShorterOne(t *testing.T) {
	c := newCorp(t, ecKey(t, elliptic.P256()))
	tmpl := c.template()
	tmpl.From, tmpl.Until = now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0)
	v := verify(t, c.issue(t, tmpl), c.check())
	if !v.From().Equal(c.aa.cert.NotBefore) || !v.Until().Equal(c.aa.cert.NotAfter) {
		t.Errorf("valid from %v until %v; want the authority's %v until %v", v.From(), v.Until(), c.aa.cert.NotBefore, c.aa.cert.NotAfter)
	}
	end := v.Until()
	if v.ValidAt(end.Add(999*time.Millisecond)) != nil || !errors.Is(v.ValidAt(end.Add(time.Second)), attrcert.ErrExpired) {
		t.Error("the last second is not the last")
	}
	if !errors.Is(attrcert.Verified{}.ValidAt(now), attrcert.ErrExpired) {
		t.Error("the zero Verified is valid")
	}
	if _, err := (attrcert.Certificate{}).Verify(c.check()); !errors.Is(err, attrcert.ErrIssuer) {
		t.Errorf("the zero Certificate: %v", err)
	}
}

func TestMalformed(t *testing.T) {
	c := newCorp(t, ecKey(t, elliptic.P256()))
	good := c.issue(t, c.template())
	group, role, clearance := oid(1, 3, 6, 1, 5, 5, 7, 10, 4), oid(2, 5, 4, 72), oid(2, 5, 4, 55)
	name := elem(0xa4, c.alice.cert.RawSubject)
	text := func(s string) []byte { return elem(0x0c, []byte(s)) }
	set := func(part string, to []byte) func(map[string][]byte) {
		return func(p map[string][]byte) { p[part] = to }
	}
	attrs := func(a ...[]byte) func(map[string][]byte) { return set("attributes", elem(0x30, a...)) }
	exts := func(x ...[]byte) func(map[string][]byte) { return set("extensions", elem(0x30, x...)) }
	roleOf := func(v ...[]byte) []byte { return attribute(role, elem(0x30, v...)) }
	clearanceOf := func(v ...[]byte) []byte { return attribute(clearance, elem(0x30, v...)) }
	cases := map[string]struct {
		edit func(map[string][]byte)
		why  string // "" means that it is well-formed
	}{
		"nothing changed":   {func(map[string][]byte) {}, ""},
		"version 1":         {set("version", []byte{2, 1, 0}), "version"},
		"algorithms differ": {set("algorithm", elem(0x30, oid(1, 2, 840, 10045, 4, 3, 3))), "twice"},
		"SHA-1": {func(p map[string][]byte) {
			p["algorithm"] = elem(0x30, oid(1, 2, 840, 10045, 4, 1))
			p["outer"] = p["algorithm"]
		}, "signature algorithm"},
		"parameters": {func(p map[string][]byte) {
			p["algorithm"] = elem(0x30, oid(1, 2, 840, 10045, 4, 3, 2), []byte{5, 0})
			p["outer"] = p["algorithm"]
		}, "signature algorithm"},
		"holder without name":           {set("holder", elem(0x30)), "no name"},
		"holder by digest":              {set("holder", elem(0x30, elem(0xa2, []byte{10, 1, 0}))), "digest of an object"},
		"holder by name and digest":     {set("holder", elem(0x30, elem(0xa1, name), elem(0xa2, []byte{10, 1, 0}))), "digest of an object"},
		"holder with two names":         {set("holder", elem(0x30, elem(0xa1, name, name))), "one entity name"},
		"holder without subject":        {set("holder", elem(0x30, elem(0xa1, elem(0xa4, elem(0x30))))), "empty"},
		"holder by address":             {set("holder", elem(0x30, elem(0xa1, elem(0x87, []byte{1, 2, 3, 4})))), "entity name"},
		"holder by mail":                {set("holder", elem(0x30, elem(0xa1, elem(0x81, []byte("alice@example.com"))))), ""},
		"holder with issuerUID":         {set("holder", elem(0x30, elem(0xa0, elem(0x30, name), []byte{2, 1, 1}, []byte{3, 2, 0, 1}))), "issuerUID"},
		"holder without number":         {set("holder", elem(0x30, elem(0xa0, elem(0x30, name)))), "serial"},
		"issuer of version 1":           {set("issuer", elem(0x30, name)), "version 1"},
		"issuer without name":           {set("issuer", elem(0xa0, elem(0x30))), "one directory name"},
		"issuer with two names":         {set("issuer", elem(0xa0, elem(0x30, name, name))), "one directory name"},
		"issuer by certificate":         {set("issuer", elem(0xa0, elem(0x30, name), elem(0xa0, elem(0x30, name), []byte{2, 1, 1}))), "nothing else"},
		"serial zero":                   {set("serial", []byte{2, 1, 0}), "serial"},
		"serial negative":               {set("serial", []byte{2, 1, 0x80}), "serial"},
		"serial not shortest":           {set("serial", []byte{2, 2, 0, 1}), "serial"},
		"serial too long":               {set("serial", elem(2, append([]byte{1}, make([]byte, 20)...))), "serial"},
		"time in UTC form":              {set("validity", elem(0x30, elem(0x17, []byte("260504110000Z")), elem(0x18, []byte("20260504130000Z")))), "validity"},
		"time with a zone":              {set("validity", elem(0x30, elem(0x18, []byte("20260504110000+0100")), elem(0x18, []byte("20260504130000Z")))), "validity"},
		"time with fractions":           {set("validity", elem(0x30, elem(0x18, []byte("20260504110000.5Z")), elem(0x18, []byte("20260504130000Z")))), "validity"},
		"time backwards":                {set("validity", elem(0x30, elem(0x18, []byte("20260504130000Z")), elem(0x18, []byte("20260504110000Z")))), "validity"},
		"no attributes":                 {attrs(), "no attributes"},
		"attribute twice":               {attrs(roleOf(elem(0xa1, elem(0x86, []byte(teller)))), roleOf(elem(0xa1, elem(0x86, []byte(teller))))), "twice"},
		"values not sorted":             {attrs(attribute(oid(2, 5, 4, 11), text("b"), text("a"))), "malformed values"},
		"value twice":                   {attrs(attribute(oid(2, 5, 4, 11), text("a"), text("a"))), "malformed values"},
		"no values":                     {attrs(attribute(oid(2, 5, 4, 11))), "malformed values"},
		"no string":                     {attrs(attribute(oid(2, 5, 4, 11), []byte{2, 1, 1})), ""},
		"string is not UTF-8":           {attrs(attribute(oid(2, 5, 4, 11), elem(0x0c, []byte{0xff}))), "not UTF-8"},
		"string is empty":               {attrs(attribute(oid(2, 5, 4, 11), text(""))), "empty"},
		"string too long":               {attrs(attribute(oid(2, 5, 4, 11), text(strings.Repeat("x", attrcert.MaxText+1)))), "longer than"},
		"groups in two values":          {attrs(attribute(group, elem(0x30, elem(0x30, text("a"))), elem(0x30, elem(0x30, text("b"))))), "several values"},
		"groups of two kinds":           {attrs(attribute(group, elem(0x30, elem(0x30, text("a"), elem(4, []byte("b")))))), "group names"},
		"groups without names":          {attrs(attribute(group, elem(0x30, elem(0x30)))), "group names"},
		"group that is a number":        {attrs(attribute(group, elem(0x30, elem(0x30, []byte{2, 1, 1})))), "group name"},
		"role that is a name":           {attrs(roleOf(elem(0xa1, name))), "not a URI"},
		"role without name":             {attrs(roleOf()), "malformed role"},
		"clearance of RFC 3281":         {attrs(clearanceOf(elem(0x80, []byte{42, 3}))), "RFC 3281"},
		"clearance states the default":  {attrs(clearanceOf(oid(1, 2, 3), []byte{3, 2, 6, 0x40})), "default"},
		"clearance with trailing zeros": {attrs(clearanceOf(oid(1, 2, 3), []byte{3, 2, 2, 0x20})), "class list"},
		"clearance with loose bits":     {attrs(clearanceOf(oid(1, 2, 3), []byte{3, 2, 5, 0x21})), "class list"},
		"clearance with 65 bits":        {attrs(clearanceOf(oid(1, 2, 3), elem(3, []byte{7, 0, 0, 0, 0, 0, 0, 0, 0, 0x80}))), "class list"},
		"clearance without policy":      {attrs(clearanceOf([]byte{3, 2, 3, 8})), "object identifier"},
		"category of RFC 3281":          {attrs(clearanceOf(oid(1, 2, 3), elem(0x31, elem(0x30, oid(1, 2), text("a"))))), "category"},
		"category is no OID":            {attrs(clearanceOf(oid(1, 2, 3), elem(0x31, elem(0x30, elem(0x80, []byte{0x80, 1}), elem(0xa1, text("a")))))), "object identifier"},
		"categories not sorted": {attrs(clearanceOf(oid(1, 2, 3), elem(0x31, elem(0x30, elem(0x80, []byte{43}), elem(0xa1, text("a"))),
			elem(0x30, elem(0x80, []byte{42}), elem(0xa1, text("a")))))), "malformed clearance"},
		"issuerUniqueID":           {func(p map[string][]byte) { p["extensions"] = append([]byte{3, 2, 0, 1}, p["extensions"]...) }, "issuerUniqueID"},
		"no extensions":            {set("extensions", nil), ""},
		"extensions empty":         {exts(), "extensions"},
		"extension twice":          {exts(extension(oid(2, 5, 29, 56), false, []byte{5, 0}), extension(oid(2, 5, 29, 56), false, []byte{5, 0})), "twice"},
		"unknown critical":         {exts(extension(oid(1, 2, 3), true, []byte{5, 0})), "critical and unknown"},
		"audit identity":           {exts(extension(oid(1, 3, 6, 1, 5, 5, 7, 1, 4), true, []byte{4, 1, 1})), "critical and unknown"},
		"critical FALSE is stated": {exts(elem(0x30, oid(1, 2, 3), []byte{1, 1, 0}, elem(4, []byte{5, 0}))), "malformed"},
		"noRevAvail with a value":  {exts(extension(oid(2, 5, 29, 56), false, []byte{1, 1, 0xff})), "malformed"},
		"noRevAvail and a CRL":     {exts(extension(oid(2, 5, 29, 56), false, []byte{5, 0}), extension(oid(2, 5, 29, 31), false, elem(0x30))), "both"},
		"targets empty":            {exts(extension(oid(2, 5, 29, 55), true, elem(0x30))), "targets"},
		"targets not DER":          {exts(extension(oid(2, 5, 29, 55), true, unhex("30 80 00 00"))), "not DER"},
		"key identifier":           {exts(extension(oid(2, 5, 29, 35), false, elem(0x30, elem(0x83, []byte{1})))), "key identifier"},
		"something follows":        {set("after", []byte{5, 0}), "extensions"},
		"too deep": {attrs(attribute(oid(2, 5, 4, 11), func() []byte {
			v := text("x")
			for range 30 {
				v = elem(0x30, v)
			}
			return v
		}())), "too deep"},
		"too many values": {attrs(attribute(group, elem(0x30, elem(0x30, func() (all [][]byte) {
			for i := range attrcert.MaxValues + 1 {
				all = append(all, text(fmt.Sprint(i)))
			}
			return all
		}()...)))), "more than 256 values"},
	}
	for what, x := range cases {
		t.Run(what, func(t *testing.T) {
			raw := forge(t, good, c.aa.key, x.edit)
			a, err := attrcert.Parse(raw)
			if x.why == "" {
				if err != nil {
					t.Fatalf("Parse = %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), x.why) {
				t.Fatalf("Parse = %v; want %q", err, x.why)
			}
			if a.Issuer() != nil || a.Keys() != nil || a.Serial().Sign() != 0 {
				t.Error("a refused certificate is not inert")
			}
		})
	}
	for what, raw := range map[string][]byte{"nothing": nil, "a tail": append(slices.Clone(good), 0), "too long": make([]byte, attrcert.MaxSize+1),
		"indefinite": append(append([]byte{0x30, 0x80}, good[4:]...), 0, 0), "a certificate": c.alice.cert.Raw} {
		if _, err := attrcert.Parse(raw); err == nil {
			t.Errorf("%s is parsed", what)
		}
	}
}

// What another authority answers for is not this one's word.
func TestForeignWordsAreIgnored(t *testing.T) {
	c := newCorp(t, ecKey(t, elliptic.P256()))
	good := c.issue(t, c.template())
	build := func(authority []byte) attrcert.Verified {
		raw := forge(t, good, c.aa.key, func(p map[string][]byte) {
			names := elem(0xa0, elem(0xa4, authority))
			p["attributes"] = elem(0x30,
				attribute(oid(1, 3, 6, 1, 5, 5, 7, 10, 4), elem(0x30, names, elem(0x30, elem(0x0c, []byte("admins"))))),
				attribute(oid(2, 5, 4, 72), elem(0x30, names, elem(0xa1, elem(0x86, []byte(teller))))),
				attribute(oid(1, 3, 6, 1, 5, 5, 7, 10, 3), elem(0x30, elem(0x30, elem(0x0c, []byte("charge me"))))))
		})
		return verify(t, raw, c.check())
	}
	if v := build(c.ca.cert.RawSubject); len(v.Groups()) != 0 || len(v.Roles()) != 0 || len(v.Ignored()) != 2 {
		t.Errorf("of another authority: %q %q %q; want nothing but two remarks", v.Groups(), v.Roles(), v.Ignored())
	}
	if v := build(c.aa.cert.RawSubject); len(v.Groups()) != 1 || len(v.Roles()) != 1 || len(v.Ignored()) != 0 {
		t.Errorf("of its own: %q %q %q; want a group and a role", v.Groups(), v.Roles(), v.Ignored())
	}
}

// Names and numbers find a holder's certificates in an index.
func TestHolderKeys(t *testing.T) {
	c := newCorp(t, ecKey(t, elliptic.P256()))
	byName := c.template()
	byName.ByName = true
	mail := forge(t, c.issue(t, byName), c.aa.key, func(p map[string][]byte) {
		p["holder"] = elem(0x30, elem(0xa1, elem(0x81, []byte("alice@example.com"))))
	})
	for what, raw := range map[string][]byte{"number": c.issue(t, c.template()), "name": c.issue(t, byName), "mail": mail} {
		a := parse(t, raw)
		if _, err := a.Verify(c.check()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if keys := attrcert.HolderKeys(c.alice.cert); len(a.Keys()) != 1 || !slices.Contains(keys, a.Keys()[0]) {
			t.Errorf("%s: %q is not among %q", what, a.Keys(), keys)
		}
		if slices.Contains(attrcert.HolderKeys(c.person(t, "bob").cert), a.Keys()[0]) {
			t.Errorf("%s: bob finds it too", what)
		}
	}
}

func TestDecode(t *testing.T) {
	c := newCorp(t, edKey(t))
	raw := c.issue(t, c.template())
	text := pem.EncodeToMemory(&pem.Block{Type: attrcert.PEMType, Bytes: raw})
	for what, b := range map[string][]byte{"DER": raw, "PEM": text} {
		if a, err := attrcert.Decode(b); err != nil || sha256.Sum256(a.Raw()) != sha256.Sum256(raw) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, b := range map[string][]byte{"two": append(slices.Clone(text), text...), "another label": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})} {
		if _, err := attrcert.Decode(b); err == nil {
			t.Errorf("%s: decoded", what)
		}
	}
}

// An authority's key by which verifying takes long, is refused before anything is verified with it.
func TestLongIssuerKeysAreRefused(t *testing.T) {
	for name, x := range map[string]struct {
		bits uint
		e    int
		ok   bool
	}{"2048": {2048, 65537, true}, "8192": {8192, 65537, true}, "16384": {16384, 65537, false}, "exponent": {2048, 1<<30 + 1, false}} {
		n := new(big.Int).Lsh(big.NewInt(1), x.bits-1)
		issuer := &x509.Certificate{PublicKey: &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: x.e}, KeyUsage: x509.KeyUsageDigitalSignature}
		if err := attrcert.CheckIssuer(issuer); (err == nil) != x.ok {
			t.Errorf("%s: %v; want passes: %v", name, err, x.ok)
		}
	}
}
