package desk

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// standingOf says what the newest permissions allow the enrolled box.
func standingOf(t *testing.T, d *Desk, name string, key label.Digest) error {
	t.Helper()
	s, err := d.Permissions()
	if err != nil {
		t.Fatal(err)
	}
	return s.Permissions.Allows(label.KeyRelease, name, key, time.Now())
}

// What the domain revokes, grants and restores is in its permissions, each with a number above all before.
func TestPermissionsOfADomain(t *testing.T) {
	d := newDesk(t)
	enrolled(t, d)
	key := KeyOf(labelOf(t, d))
	none, err := d.Permissions()
	if err != nil || none.Permissions.Sequence != 0 {
		t.Fatalf("before the first: %+v, %v", none, err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(d.root)
	step := func(want uint64, s label.SignedPermissions, err error) {
		t.Helper()
		if err != nil || s.Permissions.Sequence != want {
			t.Fatalf("number %d, %v; want %d", s.Permissions.Sequence, err, want)
		}
		if _, err := s.VerifyUnder(pool, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	s, err := d.Publish(Terms{Valid: time.Hour})
	step(1, s, err)
	if err := standingOf(t, d, "box1", key); err != nil {
		t.Errorf("mode revoke, nobody revoked: %v", err)
	}
	s, err = d.Revoke(Whom{Name: "box1", Reason: "stolen"})
	step(2, s, err)
	if err := standingOf(t, d, "box1", key); !errors.Is(err, label.ErrRevoked) {
		t.Errorf("revoked: %v", err)
	}
	if got := s.Permissions.Until.Sub(s.Permissions.Issued); got != time.Hour {
		t.Errorf("a revocation makes it hold for %s; want as before", got)
	}
	_, err = d.Grant(Whom{Name: "box1"})
	wantText(t, err, "is revoked: restore it first")
	s, err = d.Restore(Whom{Name: "box1"})
	step(3, s, err)
	s, err = d.Publish(Terms{Mode: label.Attest, MinEpoch: 4})
	step(4, s, err)
	if err := standingOf(t, d, "box1", key); !errors.Is(err, label.ErrNotGranted) {
		t.Errorf("mode attest, not granted: %v", err)
	}
	s, err = d.Grant(Whom{Name: "box1", Label: label.KeyRelease, Key: key})
	step(5, s, err)
	if err := standingOf(t, d, "box1", key); err != nil {
		t.Errorf("granted: %v", err)
	}
	s, err = d.Revoke(Whom{Key: key})
	step(6, s, err)
	if err := standingOf(t, d, "box9", key); !errors.Is(err, label.ErrRevoked) {
		t.Errorf("revoked by key: %v", err)
	}
	_, err = d.Publish(Terms{MinEpoch: 3})
	wantText(t, err, "never goes down")
	_, err = d.Restore(Whom{Name: "box7"})
	wantText(t, err, "no word about box7")
	_, err = d.Publish(Terms{Mode: "perhaps"})
	wantText(t, err, "mode is neither")
	acts, _, err := d.Journal()
	if err != nil || acts[len(acts)-1].Act != actRevoke || acts[len(acts)-1].Facts[factNumber] != "6" || acts[len(acts)-1].Facts["key"] != key.String() {
		t.Errorf("journal ends with %+v, %v", acts[len(acts)-1], err)
	}
}

// putBack writes an earlier state of a file.
func putBack(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Permissions of old are not continued: whom the domain has revoked since would be free again, under a higher number. Nor does an old
// journal number anew, nor does a file that is not the domain's count.
func TestPermissionsAreNumberedOnce(t *testing.T) {
	d := newDesk(t)
	path, acts := d.permissionsPath(), filepath.Join(d.dir, journalFile)
	begun := contents(t, acts)
	if _, err := d.Publish(Terms{}); err != nil {
		t.Fatal(err)
	}
	first, noted := contents(t, path), contents(t, acts)
	if _, err := d.Revoke(Whom{Name: "box1"}); err != nil {
		t.Fatal(err)
	}
	second, all := contents(t, path), contents(t, acts)
	gone := func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		change func()
		words  string
	}{
		"older file":              {func() { putBack(t, path, first) }, "does not hold number 2, which the journal says is the newest"},
		"no file":                 {gone, "does not hold number 2, which the journal says is the newest"},
		"older journal":           {func() { putBack(t, acts, noted) }, "the journal knows of 1 only"},
		"journal of none":         {func() { putBack(t, acts, begun) }, "the journal knows of 0 only"},
		"another domain's":        {func() { putBack(t, path, foreignPermissions(t)) }, "not signed by the label key"},
		"older file, a next left": {func() { putBack(t, path, first); putBack(t, d.nextOf(PermissionsFile), first) }, "does not hold number 2"},
	} {
		c.change()
		_, err := d.Publish(Terms{})
		t.Run(name, func(t *testing.T) { wantText(t, err, c.words) })
		putBack(t, path, second)
		putBack(t, acts, all)
	}
	if s, err := d.Publish(Terms{}); err != nil || s.Permissions.Sequence != 3 || len(s.Permissions.Entries) != 1 {
		t.Errorf("with all in place: %+v, %v", s.Permissions, err)
	}
}

func foreignPermissions(t *testing.T) []byte {
	t.Helper()
	s, err := newDesk(t).Publish(Terms{})
	if err != nil {
		t.Fatal(err)
	}
	return s.Bytes()
}

// A desk that is stopped between any two steps of a revocation has either not revoked, or goes on with what it has noted.
func TestRevocationCutAnywhere(t *testing.T) {
	d := newDesk(t)
	enrolled(t, d)
	if _, err := d.Publish(Terms{}); err != nil {
		t.Fatal(err)
	}
	path, acts, list := d.permissionsPath(), filepath.Join(d.dir, journalFile), filepath.Join(d.dir, RevokedFile)
	first, before, old := contents(t, path), contents(t, acts), contents(t, list)
	if _, err := d.Revoke(Whom{Name: "box1"}); err != nil {
		t.Fatal(err)
	}
	second, after, revoked := contents(t, path), contents(t, acts), contents(t, list)
	for name, c := range map[string]struct {
		acts, list, path, nextList, nextPath []byte
		revoked                              bool
	}{
		"list prepared":    {before, old, first, revoked, nil, false},
		"both prepared":    {before, old, first, revoked, second, false},
		"noted":            {after, old, first, revoked, second, true},
		"list in place":    {after, revoked, first, nil, second, true},
		"both in place":    {after, revoked, second, nil, nil, true},
		"noted, none made": {after, old, nil, revoked, second, true},
	} {
		for p, text := range map[string][]byte{acts: c.acts, list: c.list, path: c.path, d.nextOf(RevokedFile): c.nextList, d.nextOf(PermissionsFile): c.nextPath} {
			if text != nil {
				putBack(t, p, text)
			} else if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		s, err := opened(t, d.dir, Hands{}).Publish(Terms{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := len(s.Permissions.Entries) == 1; got != c.revoked {
			t.Errorf("%s: revoked is %v, want %v", name, got, c.revoked)
		}
		if l, err := d.lastList(); err != nil || (len(l.RevokedCertificateEntries) > 0) != c.revoked {
			t.Errorf("%s: list %v, %v", name, l, err)
		}
		if left, err := filepath.Glob(filepath.Join(d.dir, "*"+nextEnding)); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}

// Two desks in one folder do not lose what the other revokes.
func TestDesksTakeTurns(t *testing.T) {
	d := newDesk(t)
	const desks = 6
	errs := make(chan error, desks)
	for i := range desks {
		other := opened(t, d.dir, Hands{})
		go func() {
			_, err := other.Revoke(Whom{Name: "box" + strconv.Itoa(i)})
			errs <- err
		}()
	}
	for range desks {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if s, err := d.Permissions(); err != nil || len(s.Permissions.Entries) != desks {
		t.Errorf("%d entries of %d, %v", len(s.Permissions.Entries), desks, err)
	}
}

func labelOf(t *testing.T, d *Desk) *x509.Certificate {
	t.Helper()
	all, err := d.issued()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.label == label.KeyRelease {
			return c.cert
		}
	}
	t.Fatal("no label certificate was issued")
	return nil
}

// Readers that know of X.509 only refuse what is revoked: label and platform certificate, by name or by key.
func TestRevocationList(t *testing.T) {
	d := newDesk(t)
	enrolled(t, d)
	all, err := d.issued()
	if err != nil || len(all) < 2 {
		t.Fatalf("%d certificates, %v", len(all), err)
	}
	check := []string{"-crl_check", "-CRLfile", filepath.Join(d.dir, RevokedFile)}
	want := func(when string, good func(issuedTo) bool) {
		t.Helper()
		for _, c := range all {
			t.Run(when+" "+string(c.label), func(t *testing.T) { opensslVerify(t, d, [][]byte{c.cert.Raw}, good(c), check...) })
		}
	}
	if _, err := d.Publish(Terms{}); err != nil {
		t.Fatal(err)
	}
	want("nobody revoked", func(issuedTo) bool { return true })
	if _, err := d.Revoke(Whom{Name: "box1"}); err != nil {
		t.Fatal(err)
	}
	want("by name", func(issuedTo) bool { return false })
	if _, err := d.Restore(Whom{Name: "box1"}); err != nil {
		t.Fatal(err)
	}
	want("restored", func(issuedTo) bool { return true })
	if _, err := d.Revoke(Whom{Key: KeyOf(labelOf(t, d))}); err != nil {
		t.Fatal(err)
	}
	want("by key", func(c issuedTo) bool { return c.label != label.KeyRelease })
	// what was revoked stays so, though the box is enrolled no longer
	if err := os.Remove(filepath.Join(d.dir, boxesDir, "box1.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Publish(Terms{}); err != nil {
		t.Fatal(err)
	}
	want("gone", func(c issuedTo) bool { return c.label != label.KeyRelease })
	l, err := d.lastList()
	if err != nil || l.Number.Int64() != 5 {
		t.Errorf("list number %v, %v; want 5", l.Number, err)
	}
}

// The command line, and what a directory server is told.
func TestStandingCommands(t *testing.T) {
	d := newDesk(t)
	got := map[string][]byte{}
	refuse := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got[r.Method+" "+r.URL.Path] = b
		if refuse {
			http.Error(w, "not of this domain", http.StatusForbidden)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	run := func(args ...string) (string, string, error) {
		var out, talk bytes.Buffer
		err := Command(append(args, "-dir", d.dir), &out, &talk)
		return out.String(), talk.String(), err
	}
	out, _, err := run("publish", "-valid", "2h", "-min-epoch", "2", "-to", server.URL)
	if err != nil {
		t.Fatal(err)
	}
	s, err := label.ParsePermissions([]byte(out))
	if err != nil || s.Permissions.MinEpoch != 2 {
		t.Errorf("publish gives %+v, %v", s.Permissions, err)
	}
	if !bytes.Equal(got["POST /v1/permissions"], s.Bytes()) || !bytes.Contains(got["POST /v1/root.crl"], []byte("X509 CRL")) {
		t.Errorf("the server was told %q", got)
	}
	if _, talk, err := run("revoke", "-name", "box1", "-reason", "stolen", "-dry-run"); err != nil || !strings.Contains(talk, nothingDone) {
		t.Errorf("dry run: %v %s", err, talk)
	}
	if _, talk, err := run("revoke", "-name", "bocks1", "-dry-run"); err != nil || !strings.Contains(talk, "WARNING: the domain's books have no such platform") {
		t.Errorf("a slip: %v %s", err, talk)
	}
	if p, _ := d.Permissions(); p.Permissions.Sequence != 1 {
		t.Errorf("a dry run made number %d", p.Permissions.Sequence)
	}
	if _, _, err := run("revoke", "-name", "box1", "-reason", "stolen", "-label", "key-release", "-to", server.URL); err != nil {
		t.Fatal(err)
	}
	if p, err := label.ParsePermissions(got["POST /v1/permissions"]); err != nil || len(p.Permissions.Entries) != 1 || p.Permissions.Entries[0].Reason != "stolen" {
		t.Errorf("the server was told %+v, %v", p.Permissions, err)
	}
	if out, _, err := run("publish", "-list"); err != nil || !strings.Contains(out, "revoked   box1 as key-release") {
		t.Errorf("list: %v\n%s", err, out)
	}
	if _, _, err := run("restore", "-name", "box1", "-label", "key-release"); err != nil {
		t.Error(err)
	}
	key := strings.Repeat("ab", 32)
	if _, _, err := run("grant", "-key", key); err != nil {
		t.Error(err)
	}
	refuse = true
	_, _, err = run("publish", "-to", server.URL)
	wantText(t, err, "tell directory", "403", "not of this domain")
	for _, c := range []struct {
		args []string
		want string
	}{{[]string{"revoke"}, "say whom"}, {[]string{"grant", "-key", "ab"}, "-key"}, {[]string{"revoke", "-name", "Box 1"}, "name"}, {[]string{"revoke", "-name", "a", "-label", "B"}, "parse label"}} {
		_, _, err := run(c.args...)
		wantText(t, err, c.want)
	}
}
