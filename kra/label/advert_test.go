package label

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

const testExplanation = "The label \"key-release\"\nis explained here.\n"

// post is a platform that advertises: a rack whose label certificate is as the desk makes them.
type post struct {
	*rack
	roots *x509.CertPool
	usage []x509.ExtKeyUsage
	about string // what the label certificate refers to
}

func newPost(t *testing.T) *post {
	t.Helper()
	p := &post{rack: newRack(t), roots: x509.NewCertPool(), usage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, about: testExplanation}
	p.roots.AddCert(p.root)
	p.certifyLabel(KeyRelease, "box1")
	return p
}

// certifyLabel makes the label certificate, as a desk does.
func (p *post) certifyLabel(l ID, name string) {
	p.t.Helper()
	about, err := DescriptionExtension(p.domain.DescriptionURI([]byte(p.about)))
	if err != nil {
		p.t.Fatal(err)
	}
	p.chain = [][]byte{p.certify(p.label, p.domain.LabelURI(l, name), func(c *x509.Certificate) {
		c.IsCA, c.MaxPathLenZero, c.BasicConstraintsValid, c.ExtKeyUsage = true, true, true, p.usage
		c.ExtraExtensions = []pkix.Extension{about}
		c.PermittedDNSDomains = []string{"box1.example"}
		c.PermittedIPRanges = []*net.IPNet{{IP: net.IPv4(10, 0, 0, 1).To4(), Mask: net.CIDRMask(32, 32)}}
	})}
}

// says is an advert of the platform, changed before it is signed.
func (p *post) says(change func(*Advert)) SignedAdvert {
	p.t.Helper()
	a, err := p.domain.NewAdvert("box1", KeyRelease, Server, Provide, []string{"https://box1.example:8443", "https://10.0.0.1:8443"}, time.Now(), time.Now().Add(time.Hour), 7)
	if err != nil {
		p.t.Fatal(err)
	}
	if change != nil {
		change(&a)
	}
	v, err := p.value.Sign(p.keys.label)
	if err != nil {
		p.t.Fatal(err)
	}
	s := SignedAdvert{Advert: a, Chain: p.chain, Platform: p.platform, Authority: p.authority, Values: []SignedValue{v}, Description: p.about}
	s.sign(p)
	return s
}

func (s *SignedAdvert) sign(p *post) {
	p.t.Helper()
	var err error
	if s.Signature, err = signDigest(p.label, s.Advert.Digest()); err != nil {
		p.t.Fatal(err)
	}
}

func (p *post) retracts(serial uint64) SignedRetraction {
	p.t.Helper()
	r, err := p.domain.NewRetraction("box1", KeyRelease, serial, time.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	sig, err := signDigest(p.label, r.Digest())
	if err != nil {
		p.t.Fatal(err)
	}
	return SignedRetraction{r, sig, p.chain}
}

// An advert has all that is needed to believe it by the root alone; each part that is missing, or is another's, is found.
func TestAdvert(t *testing.T) {
	p, other := newPost(t), newPost(t)
	s := p.says(nil)
	parsed, err := ParseAdvert(s.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	o, err := parsed.Verify(p.roots, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if o.Advert().Name != "box1" || o.Values()[0].Release != "v0.1.0" || o.Description() != testExplanation || o.Key() == (Digest{}) || o.Attester() == (Digest{}) || o.Key() == o.Attester() {
		t.Errorf("Verify() = %+v", o)
	}
	if want := s.Advert.Until; !o.Until().Equal(want) && o.Until().After(want) {
		t.Errorf("Until() = %s; want at most %s", o.Until(), want)
	}
	for name, c := range map[string]struct {
		change func(*SignedAdvert)
		want   string
	}{
		"unsigned":                   {func(s *SignedAdvert) { s.Signature = make([]byte, 64) }, "not signed by the label key"},
		"changed after signing":      {func(s *SignedAdvert) { s.Advert.Serial++ }, "not signed by the label key"},
		"no signature":               {func(s *SignedAdvert) { s.Signature = nil }, "no signature"},
		"no label certificate":       {func(s *SignedAdvert) { s.Chain = nil }, "label certificates"},
		"no platform certificate":    {func(s *SignedAdvert) { s.Platform = nil }, "certificate is missing"},
		"no authority certificate":   {func(s *SignedAdvert) { s.Authority = nil }, "certificate is missing"},
		"no values":                  {func(s *SignedAdvert) { s.Values = []SignedValue{} }, "label values"},
		"no description":             {func(s *SignedAdvert) { s.Description = "" }, "description"},
		"no address":                 {func(s *SignedAdvert) { s.Advert.Addresses = []string{}; s.sign(p) }, "has an address"},
		"another description":        {func(s *SignedAdvert) { s.Description += "." }, "not the one that the label certificate refers to"},
		"another's address":          {func(s *SignedAdvert) { s.Advert.Addresses[0] = "https://box2.example:8443"; s.sign(p) }, "does not permit the address"},
		"another's number":           {func(s *SignedAdvert) { s.Advert.Addresses[1] = "https://10.0.0.2:8443"; s.sign(p) }, "does not permit the address"},
		"as client":                  {func(s *SignedAdvert) { s.Advert.Part, s.Advert.Offer = Client, TakePart; s.sign(p) }, "not for a client"},
		"a client that provides":     {func(s *SignedAdvert) { s.Advert.Part = Client; s.sign(p) }, "provides nothing"},
		"a server that takes part":   {func(s *SignedAdvert) { s.Advert.Offer = TakePart; s.sign(p) }, "a server provides"},
		"another name":               {func(s *SignedAdvert) { s.Advert.Name = "box2"; s.sign(p) }, "not one for"},
		"another label":              {func(s *SignedAdvert) { s.Advert.Label = "root"; s.sign(p) }, "not one for"},
		"another domain":             {func(s *SignedAdvert) { s.Advert.Domain = "example.com"; s.sign(p) }, "not one for"},
		"over":                       {func(s *SignedAdvert) { past(&s.Advert, -2*time.Hour); s.sign(p) }, "it ended at"},
		"not yet":                    {func(s *SignedAdvert) { past(&s.Advert, 2*time.Hour); s.sign(p) }, "not valid before"},
		"too long":                   {func(s *SignedAdvert) { s.Advert.Until = s.Advert.Until.AddDate(0, 0, 3); s.sign(p) }, "at most"},
		"another platform's":         {func(s *SignedAdvert) { s.Platform = p.certify(p.ak, p.domain.PlatformURI("box2"), attestation(Name{})) }, "platform certificate"},
		"no platform's":              {func(s *SignedAdvert) { s.Platform = p.authority }, "platform certificate"},
		"platform of another root":   {func(s *SignedAdvert) { s.Platform = other.platform }, "platform certificate"},
		"authority of another root":  {func(s *SignedAdvert) { s.Authority = other.authority }, "authority certificate"},
		"label of another root":      {func(s *SignedAdvert) { s.Chain = other.chain }, "label certificate"},
		"value of another label":     {func(s *SignedAdvert) { v := p.value; v.Label = "root"; s.Values[0], _ = v.Sign(p.keys.label) }, "of another label"},
		"value that nobody signed":   {func(s *SignedAdvert) { s.Values[0].Signature = make([]byte, 64) }, "not signed by the label key of domain"},
		"value of another authority": {func(s *SignedAdvert) { s.Values[0], _ = p.value.Sign(other.keys.label) }, "not signed by the label key of domain"},
		"mixed from two of one domain": {func(s *SignedAdvert) {
			q := *p
			q.rack = new(*p.rack)
			q.label = newKey(t)
			q.certifyLabel(KeyRelease, "box1")
			s.Chain = q.chain
		}, "not signed by the label key"},
	} {
		bad := p.says(nil)
		c.change(&bad)
		if _, err := bad.Verify(p.roots, time.Now()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Verify() = %v; want %q", name, err, c.want)
		}
	}
	if _, err := s.Verify(other.roots, time.Now()); err == nil {
		t.Error("another domain's root believes it")
	}
	both := x509.NewCertPool()
	both.AddCert(p.root)
	both.AddCert(other.root)
	mixed := p.says(nil)
	mixed.Platform = other.platform
	if _, err := mixed.Verify(both, time.Now()); err == nil || !strings.Contains(err.Error(), "different roots") {
		t.Errorf("mixed from two domains, for who believes both: %v", err)
	}
}

func past(a *Advert, by time.Duration) {
	a.Issued, a.Until = a.Issued.Add(by), a.Until.Add(by)
}

// Clients and peers say that they may take part; a peer's key has two certificates, and either will do.
func TestAdvertOfAParticipant(t *testing.T) {
	p := newPost(t)
	for name, c := range map[string]struct {
		usage x509.ExtKeyUsage
		part  Part
		offer Offer
		ok    bool
	}{
		"client":                             {x509.ExtKeyUsageClientAuth, Client, TakePart, true},
		"peer as client":                     {x509.ExtKeyUsageClientAuth, Peer, TakePart, true},
		"peer as server":                     {x509.ExtKeyUsageServerAuth, Peer, Provide, true},
		"client that is certified as server": {x509.ExtKeyUsageServerAuth, Client, TakePart, false},
		"server that is certified as client": {x509.ExtKeyUsageClientAuth, Server, Provide, false},
		"peer of neither":                    {x509.ExtKeyUsageCodeSigning, Peer, TakePart, false},
	} {
		p.usage = []x509.ExtKeyUsage{c.usage}
		p.certifyLabel(KeyRelease, "box1")
		s := p.says(func(a *Advert) {
			a.Part, a.Offer = c.part, c.offer
			if c.offer == TakePart {
				a.Addresses = []string{}
			}
		})
		if _, err := s.Verify(p.roots, time.Now()); (err == nil) != c.ok {
			t.Errorf("%s: Verify() = %v", name, err)
		}
	}
}

// An advert is no confirmation, nor is a confirmation an advert or a retraction, though one key signs all three alike.
func TestAdvertIsNoConfirmation(t *testing.T) {
	p := newPost(t)
	asked := p.asked()
	confirmed := p.confirm()
	if _, err := confirmed.Verify(asked); err != nil {
		t.Fatal(err)
	}
	s := p.says(nil)
	r := p.retracts(9)
	contexts := map[string]bool{confirmed.Statement.Context: true, s.Advert.Context: true, r.Retraction.Context: true}
	if len(contexts) != 3 {
		t.Errorf("the three statements say %v of themselves", contexts)
	}
	// the advert's signature, and as much of it as a confirmation has
	posing := confirmed
	posing.Signature = s.Signature
	if _, err := posing.Verify(asked); err == nil || !strings.Contains(err.Error(), "not signed by the label key") {
		t.Errorf("a confirmation with an advert's signature: %v", err)
	}
	posing = confirmed
	posing.Statement.Context = s.Advert.Context
	p.resign(&posing)
	if _, err := posing.Verify(asked); err == nil || !strings.Contains(err.Error(), "of another kind") {
		t.Errorf("an advert as confirmation: %v", err)
	}
	for name, c := range map[string]string{"a confirmation": confirmed.Statement.Context, "a retraction": r.Retraction.Context} {
		bad := p.says(func(a *Advert) { a.Context = c })
		if _, err := bad.Verify(p.roots, time.Now()); err == nil || !strings.Contains(err.Error(), "of another kind") {
			t.Errorf("%s as advert: %v", name, err)
		}
	}
	bad := s
	bad.Signature = confirmed.Signature
	if _, err := bad.Verify(p.roots, time.Now()); err == nil || !strings.Contains(err.Error(), "not signed by the label key") {
		t.Errorf("an advert with a confirmation's signature: %v", err)
	}
	for name, b := range map[string][]byte{"advert": s.Bytes(), "retraction": r.Bytes()} {
		if _, err := ParseConfirmations(b); err == nil {
			t.Errorf("%s: read as confirmations", name)
		}
	}
	if _, err := ParseAdvert(Confirmations{[]Confirmation{confirmed}}.Bytes()); err == nil {
		t.Error("confirmations are read as an advert")
	}
	if _, err := s.Verify(p.roots, time.Now()); err != nil {
		t.Errorf("undone: %v", err)
	}
	if _, err := confirmed.Verify(asked); err != nil {
		t.Errorf("undone: %v", err)
	}
}

// Only the label key takes back what it said.
func TestRetraction(t *testing.T) {
	p, other := newPost(t), newPost(t)
	r := p.retracts(9)
	parsed, err := ParseRetraction(r.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	got, key, err := parsed.Verify(p.roots, time.Now())
	if err != nil || got.Serial != 9 || got.Name != "box1" {
		t.Fatalf("Verify() = %+v, %v", got, err)
	}
	if o, err := p.says(nil).Verify(p.roots, time.Now()); err != nil || o.Key() != key {
		t.Errorf("another key made the advert: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*SignedRetraction)
		want   string
	}{
		"unsigned":             {func(r *SignedRetraction) { r.Signature = make([]byte, 64) }, "not signed by the label key"},
		"an advert's":          {func(r *SignedRetraction) { r.Signature = p.says(nil).Signature }, "not signed by the label key"},
		"changed":              {func(r *SignedRetraction) { r.Retraction.Serial = 10 }, "not signed by the label key"},
		"of another box":       {func(r *SignedRetraction) { r.Retraction.Name = "box2" }, "not one for"},
		"of another label":     {func(r *SignedRetraction) { r.Retraction.Label = "root" }, "not one for"},
		"of another domain":    {func(r *SignedRetraction) { r.Chain = other.chain }, "label certificate"},
		"of another kind":      {func(r *SignedRetraction) { r.Retraction.Context = advertContext }, "of another kind"},
		"no chain":             {func(r *SignedRetraction) { r.Chain = nil }, "label certificates"},
		"serial zero":          {func(r *SignedRetraction) { r.Retraction.Serial = 0 }, "serial"},
		"by no label key":      {func(r *SignedRetraction) { r.Chain = [][]byte{p.platform} }, "not one for"},
		"serial beyond limits": {func(r *SignedRetraction) { r.Retraction.Serial = maxSerial + 1 }, "serial"},
	} {
		bad := p.retracts(9)
		c.change(&bad)
		if _, _, err := bad.Verify(p.roots, time.Now()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Verify() = %v; want %q", name, err, c.want)
		}
	}
}

// An address has one form: no two of them are one.
func TestAddresses(t *testing.T) {
	for in, ok := range map[string]bool{"https://box1.example:8443": true, "https://10.0.0.1:1": true, "https://[2001:db8::1]:443": true,
		"http://box1.example:80": false, "https://box1.example": false, "https://box1.example:0": false, "https://box1.example:08443": false, "https://Box1.example:8443": false,
		"https://box1.example:8443/": false, "https://u@box1.example:8443": false, "https://[2001:DB8::1]:443": false, "https://[::ffff:10.0.0.1]:443": false,
		"https://[fe80::1%eth0]:443": false, "https://:443": false, "https://box1.example:65536": false, "": false, "https://box1.example:8443?q": false} {
		if _, err := hostOf(in); (err == nil) != ok {
			t.Errorf("hostOf(%q) = %v; want ok %v", in, err, ok)
		}
	}
}

func FuzzAdvert(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseAdvert(b); err == nil && !bytes.Equal(s.Bytes(), b) {
			t.Errorf("two forms of one advert: %q", b)
		}
		if s, err := ParseRetraction(b); err == nil && !bytes.Equal(s.Bytes(), b) {
			t.Errorf("two forms of one retraction: %q", b)
		}
	})
}

// The vectors of STATEMENTS.md.
func TestAdvertVector(t *testing.T) {
	page, err := os.ReadFile("STATEMENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	d := Domain{Name: "example.org"}
	a, err := d.NewAdvert("box1", KeyRelease, Server, Provide, []string{"https://box1.example:8443"}, issued, issued.Add(time.Hour), 7)
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.NewRetraction("box1", KeyRelease, 7, issued)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{string(a.Bytes()), a.Digest().String(), string(r.Bytes()), r.Digest().String()} {
		if !strings.Contains(string(page), want) {
			t.Errorf("STATEMENTS.md lacks %s", want)
		}
	}
	if a.Digest() != sha256.Sum256(a.Bytes()) || slices.Equal(a.Bytes(), r.Bytes()) {
		t.Error("what is signed is not the statement")
	}
}
