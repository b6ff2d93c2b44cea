package label

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var issued = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newPermissions(m Mode, entries ...Permission) Permissions {
	p := Permissions{Domain: "example.org", Sequence: 7, Issued: issued, Until: issued.Add(24 * time.Hour), Mode: m, MinEpoch: 3, Entries: append([]Permission{}, entries...)}
	for i := range p.Entries {
		if p.Entries[i].Since.IsZero() {
			p.Entries[i].Since = issued
		}
	}
	slices.SortFunc(p.Entries, Permission.Compare)
	return p
}

func signPermissions(t testing.TB, p Permissions, d Domain, k keys) SignedPermissions {
	t.Helper()
	s, err := p.Sign(k.label, newLeaf(t, d, k, &k.label.PublicKey, d.AuthorityURI(), nil))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Who may be what, in both modes, and why not.
func TestPermissionsAllow(t *testing.T) {
	const on, off = Granted, Revoked
	key, ak, other := Digest{1}, Digest{2}, Digest{3}
	now := issued.Add(time.Hour)
	for name, c := range map[string]struct {
		p    Permissions
		at   time.Time
		want error
	}{
		"nobody is revoked":              {newPermissions(Revoke), now, nil},
		"nobody is granted":              {newPermissions(Attest), now, ErrNotGranted},
		"granted by name":                {newPermissions(Attest, Permission{Name: "box1", State: on}), now, nil},
		"granted by name and label":      {newPermissions(Attest, Permission{Name: "box1", Label: KeyRelease, State: on}), now, nil},
		"granted by key":                 {newPermissions(Attest, Permission{Key: key, State: on}), now, nil},
		"another is granted":             {newPermissions(Attest, Permission{Name: "box2", State: on}), now, ErrNotGranted},
		"another label is granted":       {newPermissions(Attest, Permission{Name: "box1", Label: "root", State: on}), now, ErrNotGranted},
		"the name with another key":      {newPermissions(Attest, Permission{Name: "box1", Key: other, State: on}), now, ErrNotGranted},
		"granted from tomorrow":          {newPermissions(Attest, Permission{Name: "box1", State: on, Since: issued.Add(20 * time.Hour)}), now, ErrNotGranted},
		"revoked by name":                {newPermissions(Revoke, Permission{Name: "box1", State: off, Reason: "stolen"}), now, ErrRevoked},
		"revoked by label key":           {newPermissions(Revoke, Permission{Key: key, State: off}), now, ErrRevoked},
		"revoked by attestation key":     {newPermissions(Revoke, Permission{Key: ak, State: off}), now, ErrRevoked},
		"revoked though granted":         {newPermissions(Attest, Permission{Name: "box1", State: on}, Permission{Key: key, State: off}), now, ErrRevoked},
		"by name though granted by key":  {newPermissions(Attest, Permission{Key: key, State: on}, Permission{Name: "box1", State: off}), now, ErrRevoked},
		"a revocation counts at once":    {newPermissions(Revoke, Permission{Name: "box1", State: off, Since: issued.Add(20 * time.Hour)}), now, ErrRevoked},
		"another is revoked":             {newPermissions(Revoke, Permission{Name: "box2", State: off}, Permission{Key: other, State: off}), now, nil},
		"stale":                          {newPermissions(Revoke), issued.Add(24 * time.Hour), ErrStale},
		"the last second":                {newPermissions(Revoke), issued.Add(24*time.Hour - time.Second), nil},
		"not valid yet":                  {newPermissions(Revoke), issued.Add(-6 * time.Minute), ErrEarly},
		"a clock that is a little late":  {newPermissions(Revoke), issued.Add(-4 * time.Minute), nil},
		"the zero value allows nothing":  {Permissions{}, now, ErrStale},
		"nor does one that has no mode":  {Permissions{Sequence: 1, Issued: issued, Until: issued.Add(24 * time.Hour)}, now, ErrNotGranted},
		"stale is stale though revoked":  {newPermissions(Revoke, Permission{Name: "box1", State: off}), issued.Add(25 * time.Hour), ErrStale},
		"a label of everyone is revoked": {newPermissions(Revoke, Permission{Key: key, Label: KeyRelease, State: off}), now, ErrRevoked},
	} {
		if err := c.p.Allows(KeyRelease, "box1", key, c.at, ak); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: Allows() = %v; want %v", name, err, c.want)
		}
	}
	p := newPermissions(Revoke, Permission{Name: "box1", State: off, Reason: "stolen from the rack"})
	if err := p.Allows(KeyRelease, "box1", key, now); err == nil || !strings.Contains(err.Error(), "stolen from the rack") {
		t.Errorf("Allows() = %v; want it to say why", err)
	}
}

// Old releases are not believed, and old permissions replace nothing.
func TestPermissionsGoForward(t *testing.T) {
	p := newPermissions(Revoke)
	for epoch, want := range map[uint64]error{2: ErrOldRelease, 3: nil, 4: nil} {
		if err := p.Runs(epoch); !errors.Is(err, want) {
			t.Errorf("Runs(%d) = %v; want %v", epoch, err, want)
		}
	}
	older, newer, twin := p, p, p
	older.Sequence, newer.Sequence = 6, 8
	twin.Mode = Attest
	for name, c := range map[string]struct {
		p    Permissions
		want error
	}{"the same": {p, nil}, "newer": {newer, nil}, "older": {older, ErrRolledBack}, "another of the same number": {twin, ErrRolledBack}} {
		if err := c.p.Follows(p); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: Follows() = %v; want %v", name, err, c.want)
		}
	}
	if err := p.Follows(Permissions{}); err != nil {
		t.Errorf("Follows(none) = %v", err)
	}
}

// Only the domain's label key signs permissions; who has the root only finds that key by its certificate.
func TestPermissionsAreTheDomains(t *testing.T) {
	d, k := newDomain(t)
	other, ok := newDomain(t)
	s := signPermissions(t, newPermissions(Attest, Permission{Name: "box1", State: Granted}), d, k)
	root, foreign := poolOf(t, d), poolOf(t, other)
	pasted := "paste:\r\n" + strings.ReplaceAll(string(s.Armored()), "\n", "\r\n") + "kra#"
	for name, b := range map[string][]byte{"JSON": s.Bytes(), "PEM": s.Armored(), "pasted": []byte(pasted)} {
		p, err := ParsePermissions(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := p.Verify(d); err != nil || got.Digest() != s.Permissions.Digest() {
			t.Errorf("%s: Verify() = %v", name, err)
		}
		if _, err := p.VerifyUnder(root, time.Now()); err != nil {
			t.Errorf("%s: VerifyUnder() = %v", name, err)
		}
	}
	byRecovery, byOther := s, s
	var err error
	for by, to := range map[*SignedPermissions]keys{&byRecovery: {label: k.recovery}, &byOther: {label: ok.label}} {
		if *by, err = s.Permissions.Sign(to.label, s.Authority); err != nil {
			t.Fatal(err)
		}
	}
	changed, unsigned, platform := s, s, s
	changed.Permissions.MinEpoch = 0
	unsigned.Signature = make([]byte, 64)
	platform.Authority = newLeaf(t, d, k, &k.label.PublicKey, d.PlatformURI("box1"), nil)
	own := byOther
	own.Authority = newLeaf(t, other, ok, &ok.label.PublicKey, other.AuthorityURI(), nil)
	for name, c := range map[string]struct {
		s    SignedPermissions
		both bool
	}{"by the recovery key": {byRecovery, true}, "by another domain": {byOther, true}, "changed": {changed, true}, "unsigned": {unsigned, true},
		"a platform certificate as authority": {platform, false}, "another domain with its own authority": {own, true}} {
		if _, err := c.s.VerifyUnder(root, time.Now()); err == nil {
			t.Errorf("%s: VerifyUnder() takes it", name)
		}
		if _, err := c.s.Verify(d); (err == nil) == c.both {
			t.Errorf("%s: Verify() = %v", name, err)
		}
	}
	if _, err := own.VerifyUnder(foreign, time.Now()); err != nil {
		t.Errorf("a domain of the same name, under its own root: %v", err)
	}
	renamed := s
	renamed.Permissions.Domain = "example.com"
	if _, err := renamed.VerifyUnder(root, time.Now()); err == nil {
		t.Error("of another name: VerifyUnder() takes it")
	}
}

// What is no permissions is neither signed nor read.
func TestPermissionsMalformed(t *testing.T) {
	d, k := newDomain(t)
	for name, change := range map[string]func(*Permissions){
		"no domain":         func(p *Permissions) { p.Domain = "" },
		"number zero":       func(p *Permissions) { p.Sequence = 0 },
		"no mode":           func(p *Permissions) { p.Mode = "" },
		"until is issued":   func(p *Permissions) { p.Until = p.Issued },
		"for ever":          func(p *Permissions) { p.Until = p.Issued.AddDate(2, 0, 0) },
		"another zone":      func(p *Permissions) { p.Issued = p.Issued.In(time.FixedZone("", 3600)) },
		"part of a second":  func(p *Permissions) { p.Until = p.Until.Add(time.Millisecond) },
		"null":              func(p *Permissions) { p.Entries = nil },
		"too many":          func(p *Permissions) { p.Entries = make([]Permission, MaxPermissions+1) },
		"not sorted":        func(p *Permissions) { slices.Reverse(p.Entries) },
		"twice":             func(p *Permissions) { p.Entries[1] = p.Entries[0] },
		"about nobody":      func(p *Permissions) { p.Entries[0].Name, p.Entries[0].Key = "", Digest{} },
		"odd name":          func(p *Permissions) { p.Entries[0].Name = "Box" },
		"odd label":         func(p *Permissions) { p.Entries[0].Label = "a b" },
		"odd state":         func(p *Permissions) { p.Entries[0].State = "maybe" },
		"unprintable":       func(p *Permissions) { p.Entries[0].Reason = "a\x1b[2J" },
		"no since":          func(p *Permissions) { p.Entries[0].Since = issued.Local().Add(time.Nanosecond) },
		"since before time": func(p *Permissions) { p.Entries[0].Since = time.Time{}.UTC() },
	} {
		p := newPermissions(Attest, Permission{Name: "box1", State: Granted}, Permission{Name: "box2", State: Granted})
		change(&p)
		if _, err := p.Sign(k.label, []byte{1}); err == nil {
			t.Errorf("%s: signed", name)
		}
		if _, err := ParsePermissions(encode(SignedPermissions{p, []byte{1}, make([]byte, 64)})); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
	full := newPermissions(Revoke)
	for i := range MaxPermissions {
		full.Entries = append(full.Entries, Permission{Name: strings.Repeat("a", 59) + hex.EncodeToString([]byte{byte(i >> 8), byte(i)}), Label: ID(strings.Repeat("l", 63)),
			Key: Digest{1}, State: Revoked, Since: issued, Reason: strings.Repeat("r", MaxDescription)})
	}
	if _, err := full.Sign(k.label, newLeaf(t, d, k, &k.label.PublicKey, d.AuthorityURI(), nil)); err != nil {
		t.Errorf("as many as there may be: %v", err)
	}
}

func FuzzPermissions(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParsePermissions(b)
		if err != nil {
			return
		}
		if len(b) > 0 && b[0] == '{' && !bytes.Equal(s.Bytes(), b) {
			t.Errorf("two forms of one document: %q", b)
		}
		if again, err := ParsePermissions(s.Armored()); err != nil || !bytes.Equal(again.Bytes(), s.Bytes()) {
			t.Errorf("its armour is of another document: %v", err)
		}
	})
}

// The vector of STATEMENTS.md.
func TestPermissionsVector(t *testing.T) {
	page, err := os.ReadFile("STATEMENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	p := newPermissions(Attest, Permission{Name: "box1", Label: KeyRelease, Key: Digest{1}, State: Granted}, Permission{Name: "box2", State: Revoked, Reason: "stolen"})
	for what, want := range map[string]string{"bytes": string(encode(p)), "digest": p.Digest().String()} {
		if !strings.Contains(string(page), want) {
			t.Errorf("STATEMENTS.md lacks the vector's %s: %s", what, want)
		}
	}
}

func poolOf(t testing.TB, d Domain) *x509.CertPool {
	t.Helper()
	c, err := d.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	p.AddCert(c)
	return p
}
