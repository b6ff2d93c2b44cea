package kra

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
)

// certificate is one with that subject, as far as DecryptorOf looks.
func certificate(t testing.TB, subject []pkix.RelativeDistinguishedNameSET) *x509.Certificate {
	t.Helper()
	der, err := asn1.Marshal(pkix.RDNSequence(subject))
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{RawSubject: der}
}

var (
	cn    = asn1.ObjectIdentifier{2, 5, 4, 3}
	org   = asn1.ObjectIdentifier{2, 5, 4, 10}
	title = asn1.ObjectIdentifier{2, 5, 4, 12}
)

func rdn(pairs ...any) pkix.RelativeDistinguishedNameSET {
	var set pkix.RelativeDistinguishedNameSET
	for i := 0; i < len(pairs); i += 2 {
		set = append(set, pkix.AttributeTypeAndValue{Type: pairs[i].(asn1.ObjectIdentifier), Value: pairs[i+1]})
	}
	return set
}

func TestDecryptorOf(t *testing.T) { // the identifier is all of the certificate's name, or its CN, as the anchor is set
	for _, tt := range []struct {
		subject    []pkix.RelativeDistinguishedNameSET
		whole, cn_ string
	}{
		{[]pkix.RelativeDistinguishedNameSET{rdn(org, "Example"), rdn(cn, "alice")}, "corp:CN=alice,O=Example", "corp:CN=alice"},
		{[]pkix.RelativeDistinguishedNameSET{rdn(cn, "alice"), rdn(org, "Example")}, "corp:O=Example,CN=alice", "corp:CN=alice"},
		{[]pkix.RelativeDistinguishedNameSET{rdn(cn, `a,b+c"d\e<f>g;h`)}, `corp:CN=a\,b\+c\"d\\e\<f\>g\;h`, `corp:CN=a\,b\+c\"d\\e\<f\>g\;h`},
		{[]pkix.RelativeDistinguishedNameSET{rdn(cn, " a ")}, `corp:CN=\ a\ `, `corp:CN=\ a\ `},
		{[]pkix.RelativeDistinguishedNameSET{rdn(cn, "#a#")}, `corp:CN=\#a#`, `corp:CN=\#a#`},
		{[]pkix.RelativeDistinguishedNameSET{rdn(cn, "Zoë")}, "corp:CN=Zoë", "corp:CN=Zoë"},
		{[]pkix.RelativeDistinguishedNameSET{rdn(cn, "a\u202eb\x1b")}, `corp:CN=a\e2\80\aeb\1b`, `corp:CN=a\e2\80\aeb\1b`},
		{[]pkix.RelativeDistinguishedNameSET{rdn(org, "x"), rdn(cn, "a", title, "Dr")}, "corp:CN=a+2.5.4.12=#13024472,O=x", ""},
		{[]pkix.RelativeDistinguishedNameSET{rdn(cn, "a"), rdn(cn, "b")}, "corp:CN=b,CN=a", ""},
		{[]pkix.RelativeDistinguishedNameSET{rdn(org, "x")}, "corp:O=x", ""},
		{[]pkix.RelativeDistinguishedNameSET{rdn(org, "CN=alice")}, "corp:O=CN=alice", ""},
		{[]pkix.RelativeDistinguishedNameSET{rdn(cn, "")}, "corp:CN=#1300", "corp:CN=#1300"},
		{nil, "", ""},
		{[]pkix.RelativeDistinguishedNameSET{rdn(cn, strings.Repeat("x", MaxName))}, "", ""},
	} {
		for naming, want := range map[Naming]string{WholeName: tt.whole, CommonName: tt.cn_, 0: ""} {
			d, err := DecryptorOf("corp", naming, certificate(t, tt.subject))
			if d.String() != want || (err == nil) != (want != "") {
				t.Errorf("DecryptorOf(%v, %d) = %q, %v; want %q", tt.subject, naming, d, err, want)
			}
			if want == "" {
				continue
			}
			if back, err := ParseDecryptor(d.String()); err != nil || back != d {
				t.Errorf("ParseDecryptor(%q) = %q, %v", d, back, err)
			}
		}
	}
}

func TestParseDecryptorRefused(t *testing.T) {
	for _, s := range []string{"", "corp", "corp:", ":CN=a", "Corp:CN=a", "corp:a", "corp:CN=", "corp:cn=a", "corp:CN=a,", "corp:CN=a, O=b", "corp:CN= a",
		"corp:CN=a ", `corp:CN=a\`, `corp:CN=\a`, `corp:CN=\41`, `corp:CN=\2c`, `corp:CN=a"b`, "corp:CN=a+", "corp:E=a", "corp:2.5.4.3=#0c0161", "corp:CN=#0c0161",
		"corp:CN=#0C0161", "corp:CN=#0c01", "corp:2.5.4.12=a", "corp:2.5.4.012=#13024472", "corp:2=#13024472", "corp:CN=a\x1b", "corp:CN=\xff", `corp:CN=\ff`,
		"corp:CN=" + strings.Repeat("x", MaxName)} {
		if d, err := ParseDecryptor(s); err == nil {
			t.Errorf("ParseDecryptor(%q) = %q", s, d)
		} else if len(err.Error()) > 400 || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("ParseDecryptor(%q): error %q", s, err)
		}
	}
}

func TestNobody(t *testing.T) {
	var d Decryptor
	if d.Valid() || d.String() != "" || d.Claimed("CN=a") || d.Claimed(":") {
		t.Error("nobody is somebody")
	}
}

func FuzzDecryptor(f *testing.F) { // one encoding; and every text is the name of some certificate
	seeded(f)
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDecryptor(s)
		if err == nil && d.String() != s {
			t.Errorf("ParseDecryptor(%q) = %q", s, d)
		}
		if len(s) == 0 {
			return
		}
		c, err := DecryptorOf("corp", WholeName, certificate(t, []pkix.RelativeDistinguishedNameSET{rdn(cn, strings.ToValidUTF8(s, "?")), rdn(org, "x")}))
		if err != nil {
			return
		}
		if back, err := ParseDecryptor(c.String()); err != nil || back != c || strings.Count(c.String(), "O=x,") != 1 && !strings.Contains(s, "O=x") {
			t.Errorf("name %q: %q, back %q, %v", s, c, back, err)
		}
	})
}
