package label

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
)

var analyst = Holder{Domain: "example.org", Label: "analysis", Name: "build7"}

// meaning is what a platform whose keys are at hand says of its label, and the certificate of that.
func meaning(t testing.TB, r *rack, document []byte) (Meaning, *x509.Certificate) {
	t.Helper()
	uri := r.domain.DescriptionURI(document)
	ext, err := DescriptionExtension(uri)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(r.certify(r.label, analyst.URI(), func(c *x509.Certificate) {
		c.IsCA, c.MaxPathLenZero, c.ExtKeyUsage, c.ExtraExtensions = true, true, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, []pkix.Extension{ext}
	}))
	if err != nil {
		t.Fatal(err)
	}
	m, err := analyst.Mean(uri, r.nonce, r.channel)
	if err != nil {
		t.Fatal(err)
	}
	return m, c
}

// TestInterpretation: the domain and the platform both say what the label means, here and now, or it means nothing.
func TestInterpretation(t *testing.T) {
	r := newRack(t)
	document := []byte("what it means")
	m, cert := meaning(t, r, document)
	_, pinned, err := Description(cert)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(m Meaning) Interpretation {
		i, err := m.Sign(r.label)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	if err := sign(m).Verify(analyst, cert, pinned, r.nonce, r.channel); err != nil {
		t.Fatal(err)
	}
	changed := func(f func(*Meaning)) Interpretation { c := m; f(&c); return sign(c) }
	forged := sign(m)
	forged.Signature = bytes.Clone(forged.Signature)
	forged.Signature[5] ^= 1
	byAK, err := m.Sign(r.ak)
	if err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, NonceSize)
	for name, c := range map[string]struct {
		i      Interpretation
		pinned Digest
		want   string
	}{
		"another nonce":              {changed(func(m *Meaning) { m.Nonce = zero }), pinned, "another challenge"},
		"another channel":            {changed(func(m *Meaning) { m.Channel = zero }), pinned, "relays"},
		"another platform":           {changed(func(m *Meaning) { m.Name = "build8" }), pinned, "of label"},
		"another label":              {changed(func(m *Meaning) { m.Label = "other" }), pinned, "of label"},
		"another domain":             {changed(func(m *Meaning) { m.Domain = "example.com" }), pinned, "of label"},
		"the platform says other":    {changed(func(m *Meaning) { m.Description = r.domain.DescriptionURI([]byte("x")) }), pinned, "means something else"},
		"the officers want other":    {sign(m), Digest{1}, "means something else"},
		"forged":                     {forged, pinned, "not signed"},
		"signed by another key":      {byAK, pinned, "not signed"},
		"a confirmation's signature": {Interpretation{m, r.confirm().Signature}, pinned, "not signed"},
	} {
		if err := c.i.Verify(analyst, cert, c.pinned, r.nonce, r.channel); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := analyst.Mean("https://example.org/", r.nonce, r.channel); err == nil {
		t.Error("a description without its hash")
	}
}

// TestHolders: what a label certificate says, is said in one way.
func TestHolders(t *testing.T) {
	for _, h := range []Holder{analyst, {"example.org", "analysis", "hsm1", true}} {
		if got, err := parseHolder(h.URI()); err != nil || got != h {
			t.Errorf("%s is %+v, %v", h.URI(), got, err)
		}
	}
	for _, uri := range []string{"", "kra://example.org/label/analysis", "kra://example.org/label/analysis/a/b", "kra://example.org/platform/analysis/a", "kra:///label/analysis/a",
		"kra://example.org/label//a", "kra://example.org/label/analysis/A", "kra://Example.org/label/analysis/a", "http://example.org/label/analysis/a", "kra://example.org/label/analysis/a?x"} {
		if h, err := parseHolder(uri); err == nil {
			t.Errorf("%s is %+v", uri, h)
		}
	}
}

// FuzzShowing: what parses has one form.
func FuzzShowing(f *testing.F) {
	r := newRack(&testing.T{})
	c := r.confirm()
	m, _ := meaning(f, r, []byte("d"))
	for _, s := range []Showing{{}, {Confirmation: &c}, {Interpretation: &Interpretation{m, make([]byte, 64)}}} {
		if _, err := ParseShowing(s.Bytes()); err != nil {
			f.Fatal(err)
		}
		f.Add(s.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseShowing(b); err == nil && !bytes.Equal(s.Bytes(), b) {
			t.Errorf("%q is written %q", b, s.Bytes())
		}
	})
}

// FuzzPlatformRequest: what parses has one form.
func FuzzPlatformRequest(f *testing.F) {
	r := NewPlatformRequest(newRequest(f))
	r.Keys[0].Label, r.Keys = "analysis", r.Keys[:1]
	if _, err := ParsePlatformRequest(r.PEM()); err != nil {
		f.Fatal(err)
	}
	f.Add(r.PEM())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParsePlatformRequest(b)
		if err != nil {
			return
		}
		if again, err := ParsePlatformRequest(r.PEM()); err != nil || again.Statement() != r.Statement() {
			t.Errorf("read again: %v", err)
		}
	})
}

func TestPlatformRequestsAreNotBoxes(t *testing.T) {
	whole := newRequest(t)
	if _, err := ParsePlatformRequest(armor(platformRequestBlock, encode(whole))); err == nil {
		t.Error("a platform gives its owner's secrets away")
	}
	r := NewPlatformRequest(newRequest(t))
	if _, err := ParsePlatformRequest(r.PEM()); err == nil {
		t.Error("a platform asks for a label of boxes")
	}
	if r.Statement() == r.EnrolRequest.Statement() {
		t.Error("a box's quote serves a platform's request")
	}
}
