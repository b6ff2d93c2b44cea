package label

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

type keys struct{ root, label, recovery *ecdsa.PrivateKey }

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newDomain(t testing.TB) (Domain, keys) {
	t.Helper()
	k := keys{newKey(t), newKey(t), newKey(t)}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.root.Public(), k.root)
	if err != nil {
		t.Fatal(err)
	}
	d := Domain{Name: "example.org", Root: der, Escrow: "age1" + strings.Repeat("q", 58)}
	for to, from := range map[*Key]*ecdsa.PrivateKey{&d.Label: k.label, &d.Recovery: k.recovery} {
		if *to, err = NewKey(&from.PublicKey); err != nil {
			t.Fatal(err)
		}
	}
	return d, k
}

func newApproval(t testing.TB, k Kind, by *ecdsa.PrivateKey) Approval {
	t.Helper()
	a := Approval{Label: KeyRelease, Kind: k, By: ByLabel, Version: 1, Description: "v0.1.0 (abc) <&>", PCRs: PCRs{}, Policy: Digest{1, 2, 3}}
	if k != Epoch {
		for _, i := range ApprovedPCRs() {
			a.PCRs[i] = Digest{byte(i)}
		}
		a.PCRs[StagePCR] = StageValue(k)
	}
	if err := a.Sign(by); err != nil {
		t.Fatal(err)
	}
	return a
}

func newDefinition(t testing.TB, d Domain, k keys) SignedDefinition {
	t.Helper()
	s, err := (Definition{Domain: d.Name, Label: "link", Part: Peer, Stages: []Stage{}, Description: "speaks to its like"}).Sign(k.label)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newBundle(t testing.TB, d Domain, k keys) Bundle {
	t.Helper()
	ek := Name{0, 0x0b, 3}
	v, err := (Value{Domain: d.Name, Label: KeyRelease, Version: 1, Release: "v0.1.0", Commit: "abc", PCRs: newApproval(t, Sign, k.label).PCRs}).Sign(k.label)
	if err != nil {
		t.Fatal(err)
	}
	return Bundle{Domain: d.Hash(), Approvals: []Approval{newApproval(t, Seal, k.label), newApproval(t, Sign, k.label)}, Values: []SignedValue{v}, Sequence: 7, Labels: []SignedDefinition{newDefinition(t, d, k)}, Enrolment: &Enrolment{
		SRK: Name{0, 0x0b, 1}, Labels: []OfLabel{{Label: KeyRelease, Key: Name{0, 0x0b, 2}, Chain: [][]byte{{1}}}, {Label: "link", Key: Name{0, 0x0b, 5}, Chain: [][]byte{{1}}, Client: [][]byte{{2}}}},
		Epoch:     newApproval(t, Epoch, k.label),
		Authority: newLeaf(t, d, k, &k.label.PublicKey, d.AuthorityURI(), nil), Platform: newPlatform(t, d, k, ek, "box1"),
		Passport: Passport{EK: ek, SRK: Name{0, 0x0b, 1}, AK: Name{0, 0x0b, 4}, Model: "Example 1000", Serial: "0001"},
		Box:      Box{Name: "box1", DNS: []string{"box1.example"}, IP: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}},
		Officer:  Officer{Name: "alice", Hash: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA"}}}
}

// The context strings are part of every policy in the field.
func TestRefsAndStages(t *testing.T) {
	for k, context := range map[Kind]string{Seal: "kra/seal/v1\x00key-release", Sign: "kra/sign/v1\x00key-release", Epoch: "kra/epoch/v1\x00key-release"} {
		if Ref(k, KeyRelease) != sha256.Sum256([]byte(context)) {
			t.Errorf("Ref(%v) is not the hash of %q", k, context)
		}
	}
	want := sha256.Sum256([]byte("kra/stage/v1\x00open"))
	if !bytes.Equal(Open.Event(), want[:]) {
		t.Error("Open.Event() changed")
	}
	if At(Open) != sha256.Sum256(append(make([]byte, 32), want[:]...)) || StageValue(Seal) != At(Open) || StageValue(Sign) != At(Open, Running) {
		t.Error("values of the stages changed")
	}
	for s := Open; s <= Locked; s++ {
		if p, err := ParseStage(s.String()); err != nil || p != s {
			t.Errorf("ParseStage(%q) = %v, %v", s, p, err)
		}
	}
	if _, err := ParseStage("unset"); err == nil {
		t.Error(`ParseStage("unset") is a stage`)
	}
}

func TestParseID(t *testing.T) {
	for in, ok := range map[string]bool{"key-release": true, "a": true, "0": true, "": false, "-a": false, "A": false, "a_b": false,
		"a\n": false, strings.Repeat("a", 63): true, strings.Repeat("a", 64): false} {
		if _, err := ParseID(in); (err == nil) != ok {
			t.Errorf("ParseID(%q) = %v; want ok %v", in, err, ok)
		}
	}
}

// The TPMT_PUBLIC of a domain key is in the Name of every policy: its bytes never change.
func TestKeyTemplate(t *testing.T) {
	k := newKey(t)
	pub, err := NewKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	want := "0023000b" + "00040040" + "0000" + "0010" + "0018000b" + "00030010"
	if got := hex.EncodeToString(pub.Public()); got[:40] != want || len(got) != 176 {
		t.Errorf("Public() = %s; want it to begin with %s", got, want)
	}
	sum := sha256.Sum256(pub.Public())
	if n := pub.Name(); !bytes.Equal(n[:], append([]byte{0, 0x0b}, sum[:]...)) {
		t.Errorf("Name() = %s", n)
	}
	for i := range pub.Public() {
		bad := bytes.Clone(pub.Public())
		bad[i] ^= 0x80
		if p, err := ParseKey(bad); err == nil && i < 22 {
			t.Errorf("byte %d changed: %x parsed", i, p.Public())
		}
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewKey(&p384.PublicKey); err == nil {
		t.Error("NewKey of P-384: made")
	}
	var zero Key
	if zero.Verify([32]byte{}, make([]byte, 64)) || !zero.IsZero() {
		t.Error("the zero key verifies")
	}
}

func TestDomain(t *testing.T) {
	d, _ := newDomain(t)
	p, err := ParseDomain(d.Bytes())
	if err != nil || p.Hash() != d.Hash() {
		t.Fatalf("ParseDomain() = %v", err)
	}
	if u := d.KeyReleaseURI("legal-team"); u != "kra://example.org/legal-team" {
		t.Errorf("KeyReleaseURI() = %s", u)
	}
	for name, change := range map[string]func(*Domain){
		"name":      func(d *Domain) { d.Name = "Example" },
		"address":   func(d *Domain) { d.Name = "10.0.0.1" },
		"two dots":  func(d *Domain) { d.Name = "example..org" },
		"root":      func(d *Domain) { d.Root = d.Root[1:] },
		"label":     func(d *Domain) { d.Label = Key{} },
		"same keys": func(d *Domain) { d.Recovery = d.Label },
		"escrow":    func(d *Domain) { d.Escrow = "ssh-ed25519 AAAA" },
	} {
		bad := d
		change(&bad)
		if _, err := ParseDomain(bad.Bytes()); err == nil {
			t.Errorf("%s changed: parsed", name)
		}
	}
	for _, bad := range []string{"", "{}", "null", string(d.Bytes()) + "\n", " " + string(d.Bytes()), strings.Replace(string(d.Bytes()), `"name"`, `"Name"`, 1),
		strings.Replace(string(d.Bytes()), "{", `{"name":"x",`, 1), strings.Replace(string(d.Bytes()), "{", `{"extra":1,`, 1)} {
		if _, err := ParseDomain([]byte(bad)); err == nil {
			t.Errorf("parsed %.60q", bad)
		}
	}
}

func TestApproval(t *testing.T) {
	d, k := newDomain(t)
	for _, kind := range []Kind{Seal, Sign, Epoch} {
		a := newApproval(t, kind, k.label)
		if err := a.Verify(d); err != nil {
			t.Errorf("%v: %v", kind, err)
		}
		p, err := ParseApproval(a.Bytes())
		if err != nil || !bytes.Equal(p.Bytes(), a.Bytes()) {
			t.Errorf("%v: ParseApproval() = %v", kind, err)
		}
	}
	a := newApproval(t, Seal, k.label)
	for name, change := range map[string]func(*Approval){
		"zero version":    func(a *Approval) { a.Version = 0 },
		"no registers":    func(a *Approval) { a.PCRs = nil },
		"fewer registers": func(a *Approval) { a.PCRs = PCRs{4: {}} },
		"wrong stage": func(a *Approval) {
			a.PCRs = PCRs{0: {}, 2: {}, 4: {}, 7: {}, 11: {}, 12: {}, 13: {}, 14: At(Open, Running)}
		},
		"control code":    func(a *Approval) { a.Description = "a\x1b[2J" },
		"no description":  func(a *Approval) { a.Description = "" },
		"kind":            func(a *Approval) { a.Kind = Sign },
		"no kind":         func(a *Approval) { a.Kind = 0 },
		"policy":          func(a *Approval) { a.Policy[5] ^= 1 },
		"recovery":        func(a *Approval) { a.By = ByRecovery },
		"short signature": func(a *Approval) { a.Signature = a.Signature[1:] },
	} {
		bad := a
		change(&bad)
		if bad.Verify(d) == nil {
			t.Errorf("%s: verified", name)
		}
	}
}

func TestBundle(t *testing.T) {
	d, k := newDomain(t)
	b := newBundle(t, d, k)
	text, err := b.Sign(k.label)
	if err != nil {
		t.Fatal(err)
	}
	// as a terminal leaves it
	pasted := "kra# enrol install\r\npaste:\r\n" + strings.ReplaceAll(string(text), "\n", "\r\n") + "\r\nkra#"
	got, err := OpenBundle([]byte(pasted), d)
	if err != nil || got.Enrolment.Box.Name != "box1" || len(got.Approvals) != 2 {
		t.Fatalf("OpenBundle() = %+v, %v", got, err)
	}
	wrong := func(name string, text []byte, d Domain, word string) {
		t.Helper()
		if _, err := OpenBundle(text, d); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v; want %q", name, err, word)
		}
	}
	other, ok := newDomain(t)
	wrong("other domain", text, other, "it is of domain")
	foreign, err := b.Sign(ok.label)
	if err != nil {
		t.Fatal(err)
	}
	wrong("other signer", foreign, d, "not signed by the label key")
	recovery, err := b.Sign(k.recovery)
	if err != nil {
		t.Fatal(err)
	}
	wrong("recovery key", recovery, d, "not signed by the label key")
	stranger := b
	stranger.Approvals = []Approval{newApproval(t, Seal, ok.label)}
	if text, err = stranger.Sign(k.label); err != nil {
		t.Fatal(err)
	}
	wrong("foreign approval inside", text, d, "not signed by the domain's label key")
	epoch := b
	epoch.Enrolment = new(*b.Enrolment)
	epoch.Enrolment.Epoch = newApproval(t, Epoch, ok.label)
	if text, err = epoch.Sign(k.label); err != nil {
		t.Fatal(err)
	}
	wrong("foreign epoch inside", text, d, "not signed by the domain's label key")
	wrong("no block", []byte("hello"), d, "no block")
	wrong("too long", make([]byte, 2*MaxDocument+1), d, "at most")
	for name, change := range map[string]func(*Bundle){
		"no approvals": func(b *Bundle) { b.Approvals = nil },
		"too many":     func(b *Bundle) { b.Approvals = make([]Approval, MaxApprovals+1) },
		"no number":    func(b *Bundle) { b.Sequence = 0 },
		"no labels":    func(b *Bundle) { b.Enrolment.Labels = nil },
		"no chain":     func(b *Bundle) { b.Enrolment.Labels[0].Chain = nil },
		"label twice":  func(b *Bundle) { b.Enrolment.Labels[1].Label = KeyRelease },
		"key twice":    func(b *Bundle) { b.Enrolment.Labels[1].Key = b.Enrolment.Labels[0].Key },
		"built-in":     func(b *Bundle) { b.Labels[0].Definition.Label = Root },
		"no names":     func(b *Bundle) { b.Enrolment.Box.DNS, b.Enrolment.Box.IP = []string{}, []netip.Addr{} },
		"null list":    func(b *Bundle) { b.Enrolment.Box.DNS = nil },
		"zone":         func(b *Bundle) { b.Enrolment.Box.IP[0] = netip.MustParseAddr("fe80::1%eth0") },
		"officer":      func(b *Bundle) { b.Enrolment.Officer.Hash = "plain" },
		"epoch's kind": func(b *Bundle) { b.Enrolment.Epoch = b.Approvals[0] },
	} {
		bad := newBundle(t, d, k)
		change(&bad)
		if _, err := bad.Sign(k.label); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func TestRecord(t *testing.T) {
	r := Record{Generation: 0x0102030405060708, Root: [32]byte{1}, LogSize: 9, LogRoot: [32]byte{31: 7}}
	b := r.Bytes()
	if len(b) != RecordSize || b[0] != 1 || b[7] != 8 || b[8] != 1 || b[47] != 9 || b[79] != 7 {
		t.Errorf("Bytes() = %x", b)
	}
	if p, err := ParseRecord(b); err != nil || p != r {
		t.Errorf("ParseRecord() = %+v, %v", p, err)
	}
	if _, err := ParseRecord(b[1:]); err == nil {
		t.Error("ParseRecord of 79 bytes: parsed")
	}
}

func newRequest(t testing.TB) EnrolRequest {
	t.Helper()
	log, err := PackLog(bytes.Repeat([]byte("event"), 1000))
	if err != nil {
		t.Fatal(err)
	}
	x := []byte{1, 2, 3}
	r := EnrolRequest{Domain: Digest{1}, Software: "v0.1.0", Model: "Example 1000", Serial: "0001",
		EK: Endorsed{x, x, [][]byte{x}}, SRK: x, AK: x, Keys: []Asking{{KeyRelease, x, Created{x, Signed{x, x}}}, {Root, x, Created{x, Signed{x, x}}}},
		Escrow: Escrow{x, x, x}, PCRs: PCRs{}, EventLog: log, Quote: Signed{x, x}}
	for i := range MaxPCR + 1 {
		r.PCRs[i] = Digest{byte(i)}
	}
	return r
}

func TestRequest(t *testing.T) {
	r := newRequest(t)
	p, err := ParseRequest([]byte("noise\r\n" + string(r.PEM()) + "noise"))
	if err != nil || p.Statement() != r.Statement() {
		t.Fatalf("ParseRequest() = %v", err)
	}
	log, err := p.UnpackLog()
	if err != nil || len(log) != 5000 {
		t.Errorf("UnpackLog() = %d bytes, %v", len(log), err)
	}
	quoted := r
	quoted.Quote = Signed{[]byte{9}, []byte{9}}
	if quoted.Statement() != r.Statement() {
		t.Error("the statement depends on the quote over it")
	}
	quoted.Software = "v0.2.0"
	if quoted.Statement() == r.Statement() {
		t.Error("the statement does not depend on the software")
	}
	bomb := r
	if bomb.EventLog, err = PackLog(make([]byte, MaxEventLog)); err != nil {
		t.Fatal(err)
	}
	if _, err := bomb.UnpackLog(); err != nil {
		t.Errorf("a log of the greatest size: %v", err)
	}
	if _, err := PackLog(make([]byte, MaxEventLog+1)); err == nil {
		t.Error("a log too long: packed")
	}
	bomb.EventLog = append(bytes.Clone(bomb.EventLog), bomb.EventLog...)
	if _, err := bomb.UnpackLog(); err == nil {
		t.Error("a log that unpacks to too much: unpacked")
	}
}

// seeded fails where a fuzz target would pass for want of seeds.
func seeded(f *testing.F) {
	f.Helper()
	seeds, err := os.ReadDir("testdata/fuzz/" + f.Name())
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
}

func FuzzApproval(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := ParseApproval(b); err == nil && !bytes.Equal(a.Bytes(), b) {
			t.Errorf("two forms of one approval: %q and %q", b, a.Bytes())
		}
	})
}

func FuzzDomain(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := ParseDomain(b); err == nil && !bytes.Equal(d.Bytes(), b) {
			t.Errorf("two forms of one domain: %q and %q", b, d.Bytes())
		}
	})
}

func FuzzRequest(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRequest(b)
		if err != nil {
			return
		}
		if !bytes.Equal(encode(r), b) {
			t.Errorf("two forms of one request: %q", b)
		}
		_, _ = r.UnpackLog()
		if p, err := ParseRequest(r.PEM()); err != nil || p.Statement() != r.Statement() {
			t.Errorf("armour loses the request: %v", err)
		}
	})
}

func FuzzBundle(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseBundle(b); err == nil && !bytes.Equal(encode(s), b) {
			t.Errorf("two forms of one bundle: %q", b)
		}
	})
}

func FuzzSealed(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSealed(b); err == nil && !bytes.Equal(encode(s), b) {
			t.Errorf("two forms of one sealed bundle: %q", b)
		}
	})
}

func FuzzKey(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := ParseKey(b); err == nil && !bytes.Equal(k.Public(), b) {
			t.Errorf("two forms of one key: %x and %x", b, k.Public())
		}
	})
}

func FuzzDefinition(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseDefinition(b); err == nil && !bytes.Equal(s.Bytes(), b) {
			t.Errorf("two forms of one definition: %q and %q", b, s.Bytes())
		}
	})
}

func FuzzOperator(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseOperatorChallenge(b); err == nil {
			if again, err := ParseOperatorChallenge(c.PEM()); err != nil || !bytes.Equal(encode(again), encode(c)) {
				t.Errorf("armour loses the challenge: %v", err)
			}
		}
		if a, err := ParseOperatorAnswer(b); err == nil {
			if again, err := ParseOperatorAnswer(a.PEM()); err != nil || !bytes.Equal(encode(again), encode(a)) {
				t.Errorf("armour loses the answer: %v", err)
			}
		}
	})
}
