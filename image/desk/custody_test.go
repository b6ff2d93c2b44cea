package desk

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/keyrelease/krabox/image/desk/shares"
	"github.com/keyrelease/krabox/kra/label"
)

const keyPassphrase = "a passphrase of the domain"

// quick is a passphrase that takes no second to try.
func quick(t *testing.T, passphrase string) []age.Recipient {
	t.Helper()
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(8)
	return []age.Recipient{r}
}

// asked counts how often a passphrase is asked for.
func asked(n *int, answer string) Hands {
	return Hands{Passphrase: func(string) ([]byte, error) { *n++; return []byte(answer), nil }}
}

func made(t *testing.T, c Custody) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "domain")
	if err := Make(dir, "example.org", c); err != nil {
		t.Fatal(err)
	}
	return dir
}

func opened(t *testing.T, dir string, h Hands) *Desk {
	t.Helper()
	d, err := OpenWith(dir, h)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// holdsNoSecret looks for anything of a key in the clear.
func holdsNoSecret(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("PRIVATE KEY")) || bytes.Contains(b, []byte("AGE-SECRET-KEY")) {
			t.Errorf("%s holds a key in the clear", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A domain under a passphrase: nothing is in the clear, a box is enrolled with one question, and with another passphrase nothing
// is signed.
func TestKeysUnderPassphrase(t *testing.T) {
	dir := made(t, Custody{Files: SealedFiles, To: quick(t, keyPassphrase)})
	holdsNoSecret(t, dir)
	n := 0
	d := opened(t, dir, asked(&n, keyPassphrase))
	if _, _, err := d.Journal(); err != nil || n != 0 {
		t.Errorf("reading asks for a passphrase (%d), %v", n, err)
	}
	enrolled(t, d)
	if n != 1 {
		t.Errorf("an enrolment asks %d times", n)
	}
	before, err := os.ReadFile(filepath.Join(dir, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	_, err = opened(t, dir, asked(&n, "another passphrase")).ApproveFleet(predicted(d, "v2", 2))
	wantText(t, err, "open label key", "wrong passphrase")
	_, err = opened(t, dir, Hands{}).ApproveFleet(predicted(d, "v2", 2))
	wantText(t, err, "open label key", "-key-passphrase-file")
	if after, _ := os.ReadFile(filepath.Join(dir, journalFile)); !bytes.Equal(after, before) {
		t.Error("a refused act is in the journal")
	}
	cert, key, err := d.IssuePerson(Person{Subject: named("bob")})
	if err != nil || cert == "" {
		t.Fatal(err)
	}
	if err := os.Remove(key); err != nil { // it goes to its owner
		t.Fatal(err)
	}
	holdsNoSecret(t, dir)
}

// A domain under keys: any of them opens, another does not, and what is made later is under them too.
func TestKeysUnderRecipients(t *testing.T) {
	one, two, other := identity(t), identity(t), identity(t)
	dir := made(t, Custody{Files: SealedFiles, To: []age.Recipient{one.Recipient(), two.Recipient()}, Keys: one.Recipient().String() + "\n" + two.Recipient().String() + "\n"})
	holdsNoSecret(t, dir)
	for _, id := range []age.Identity{one, two} {
		d := opened(t, dir, Hands{Identities: []age.Identity{id}})
		if err := d.note("try", "it", nil); err != nil {
			t.Error(err)
		}
	}
	_, key, err := opened(t, dir, Hands{Identities: []age.Identity{one}}).IssuePerson(Person{Subject: named("bob")})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	holdsNoSecret(t, dir)
	if _, _, err := opened(t, dir, Hands{Identities: []age.Identity{two}}).IssuePerson(Person{Subject: named("carol")}); err != nil {
		t.Error(err)
	}
	err = opened(t, dir, Hands{Identities: []age.Identity{other}}).note("try", "it", nil)
	wantText(t, err, "encrypted to none of the identities given")
}

// A list of recipients that the domain was not made with gets no key: who can write in the folder would have himself be one.
func TestRecipientsOfAnother(t *testing.T) {
	one, eve := identity(t), identity(t)
	people := made(t, Custody{Files: SealedFiles, To: []age.Recipient{one.Recipient()}, Keys: one.Recipient().String() + "\n"})
	under := made(t, Custody{Files: SealedFiles, To: quick(t, keyPassphrase)})
	for name, c := range map[string]struct {
		dir string
		h   Hands
	}{
		"more people":          {people, Hands{Identities: []age.Identity{one}}},
		"instead a passphrase": {under, Hands{Passphrase: func(string) ([]byte, error) { return []byte(keyPassphrase), nil }}},
	} {
		putBack(t, filepath.Join(c.dir, recipientsFile), []byte(one.Recipient().String()+"\n"+eve.Recipient().String()+"\n"))
		_, _, err := opened(t, c.dir, c.h).IssuePerson(Person{Subject: named("bob")})
		t.Run(name, func(t *testing.T) { wantText(t, err, "is not the list that the domain was made with") })
		if _, err := form(c.dir, peopleKey); !errors.Is(err, errAbsent) {
			t.Errorf("%s: a key was made: %v", name, err)
		}
	}
	if err := os.Remove(filepath.Join(people, recipientsFile)); err != nil {
		t.Fatal(err)
	}
	_, _, err := opened(t, people, Hands{Identities: []age.Identity{one}}).IssuePerson(Person{Subject: named("bob")})
	wantText(t, err, "whom keys are encrypted to", "no such file")
	if err := os.Remove(filepath.Join(under, recipientsFile)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := opened(t, under, Hands{Passphrase: func(string) ([]byte, error) { return []byte(keyPassphrase), nil }}).IssuePerson(Person{Subject: named("bob")}); err != nil {
		t.Error(err)
	}
}

func identity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A key that is not the domain's, or not there, or there twice, signs nothing.
func TestKeyOfAnother(t *testing.T) {
	d, other := newDesk(t), newDesk(t)
	for name, act := range map[string]func(*Desk) error{
		labelKey:  func(d *Desk) error { return d.note("try", "it", nil) },
		rootKey:   func(d *Desk) error { return certifyAuthority(d.dir, d.domain, d.issuer) },
		escrowKey: func(d *Desk) error { _, err := d.opener(); return err },
	} {
		path := filepath.Join(d.dir, name+keyEnding)
		own, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := os.ReadFile(filepath.Join(other.dir, name+keyEnding))
		if err != nil {
			t.Fatal(err)
		}
		write := func(b []byte) {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(theirs)
		wantText(t, act(opened(t, d.dir, Hands{})), "another key than the domain's")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := act(opened(t, d.dir, Hands{})); !errors.Is(err, errAbsent) {
			t.Errorf("%s key absent: %v", name, err)
		}
		write(own)
		if err := act(opened(t, d.dir, Hands{})); err != nil {
			t.Error(err)
		}
		twice := filepath.Join(d.dir, name+sealedEnding)
		if err := os.WriteFile(twice, own, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = Open(d.dir)
		wantText(t, err, name+".key and "+name+".key.age", "remove the one that does not count")
		if err := os.Remove(twice); err != nil {
			t.Fatal(err)
		}
	}
}

// A folder in which a domain was begun is not taken for a new one.
func TestMakeRefuses(t *testing.T) {
	dir := made(t, Custody{Files: PlainFiles})
	if err := os.Remove(filepath.Join(dir, DomainFile)); err != nil {
		t.Fatal(err)
	}
	wantText(t, Make(dir, "example.org", Custody{Files: PlainFiles}), "holds a root key already")
	for name, c := range map[string]Custody{"nothing said": {}, "sealed to nobody": {Files: SealedFiles}, "plain and sealed": {Files: PlainFiles, To: quick(t, keyPassphrase)},
		"shares nowhere": {Files: PlainFiles, Recovery: Quorum{Need: 2, Of: 3}}} {
		dir := filepath.Join(t.TempDir(), "domain")
		if err := Make(dir, "example.org", c); err == nil {
			t.Errorf("%s: made", name)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: a folder is left", name)
		}
	}
	wantText(t, Make(filepath.Join(t.TempDir(), "d"), "Example Org", Custody{Files: PlainFiles}), "host name")
}

// The recovery key in shares: any two of three approve a release, which a box then runs; fewer, damaged or foreign ones do not.
func TestRecoveryByShares(t *testing.T) {
	out := filepath.Join(t.TempDir(), "shares")
	dir := made(t, Custody{Files: PlainFiles, Recovery: Quorum{Need: 2, Of: 3, Dir: out}})
	if _, err := form(dir, recoveryKey); !errors.Is(err, errAbsent) {
		t.Fatalf("the whole key is in the folder: %v", err)
	}
	all, err := filepath.Glob(filepath.Join(out, "example.org-share-*-of-3.pem"))
	if err != nil || len(all) != 3 {
		t.Fatalf("shares: %v, %v", all, err)
	}
	for _, f := range all {
		if st, err := os.Stat(f); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, st.Mode(), err)
		}
	}
	d := opened(t, dir, Hands{})
	_, err = d.recoveryKey(all[:1])
	if !errors.Is(err, shares.ErrTooFew) {
		t.Errorf("one share: %v", err)
	}
	foreign := filepath.Join(t.TempDir(), "other")
	made(t, Custody{Files: PlainFiles, Recovery: Quorum{Need: 2, Of: 3, Dir: foreign}}) // the same name, another key
	theirs, err := filepath.Glob(filepath.Join(foreign, "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.recoveryKey([]string{all[0], theirs[1]}); !errors.Is(err, shares.ErrMixed) {
		t.Errorf("shares of two keys: %v", err)
	}
	_, err = d.recoveryKey(theirs[:2])
	wantText(t, err, "another key than that of domain example.org")
	text, err := os.ReadFile(all[2])
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, bytes.Replace(text, []byte("Index: 3"), []byte("Index: 2"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.recoveryKey([]string{all[0], bad}); !errors.Is(err, shares.ErrDamaged) {
		t.Errorf("damaged share: %v", err)
	}
	key, err := d.recoveryKey([]string{all[2], all[0]})
	if err != nil {
		t.Fatal(err)
	}
	b := enrolled(t, d)
	if err := os.Remove(filepath.Join(dir, labelKey+keyEnding)); err != nil { // it is lost
		t.Fatal(err)
	}
	// nothing leaves unnoted, but on somebody's word that the key is lost
	text, err = opened(t, dir, Hands{}).RecoverFleet(predicted(d, "v2", 1), key)
	if wantText(t, err, "its key is not in the folder", "say -label-key-lost"); text != nil {
		t.Error("the bundle leaves the desk all the same")
	}
	bundle, err := opened(t, dir, Hands{LabelLost: true}).RecoverFleet(predicted(d, "v2", 1), key)
	if err != nil {
		t.Fatal(err)
	}
	b.boot(boot("v2"))
	wantText(t, b.serve(), "PCR 4 (boot loader)")
	b.boot(boot("v1"))
	if _, err := b.EnrolInstall(t.Context(), bundle); err != nil {
		t.Fatal(err)
	}
	b.boot(boot("v2"))
	if err := b.serve(); err != nil {
		t.Errorf("v2 after its approval by the recovery key: %v", err)
	}
}

// What the recovery key signs as a bundle is its own approvals, and nothing of the label key's.
func TestRecoveryBundle(t *testing.T) {
	d := newDesk(t)
	enrolled(t, d)
	key, err := d.recoveryKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := d.RecoverFleet(predicted(d, "v2", 1), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := label.OpenBundle(text, d.domain); err != nil {
		t.Fatal(err)
	}
	byLabel, err := d.ApproveFleet(predicted(d, "v2", 1))
	if err != nil {
		t.Fatal(err)
	}
	b, err := label.OpenBundle(byLabel, d.domain)
	if err != nil {
		t.Fatal(err)
	}
	record, err := os.ReadFile(filepath.Join(d.dir, boxesDir, "box1.pem"))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := label.OpenBundle(record, d.domain)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]label.Bundle{"approvals of the label key": b, "an enrolment": whole} {
		forged, err := b.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		_, err = label.OpenBundle(forged, d.domain)
		t.Run(name, func(t *testing.T) { wantText(t, err, "not signed by the label key") })
	}
}

// A whole recovery key is split later, and then gone; the shares give it back.
func TestSplitRecovery(t *testing.T) {
	d := newDesk(t)
	path := filepath.Join(d.dir, recoveryKey+keyEnding)
	out := filepath.Join(t.TempDir(), "shares")
	if err := d.SplitRecovery(Quorum{Need: 4, Of: 3, Dir: out}, false); err == nil {
		t.Error("split four of three")
	}
	acts := filepath.Join(d.dir, journalFile)
	noted := contents(t, acts)
	if err := os.Remove(acts); err != nil {
		t.Fatal(err)
	}
	wantText(t, d.SplitRecovery(Quorum{Need: 2, Of: 2, Dir: out}, false), "journal is gone")
	if left, err := filepath.Glob(filepath.Join(out, "*")); err != nil || len(left) > 0 {
		t.Errorf("shares of which nobody knows are left: %v, %v", left, err)
	}
	putBack(t, acts, noted)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("a refused split has taken the key: %v", err)
	}
	if err := d.SplitRecovery(Quorum{Need: 2, Of: 2, Dir: out}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the whole key is still there")
	}
	files, err := filepath.Glob(filepath.Join(out, "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.recoveryKey(files); err != nil {
		t.Error(err)
	}
	err = d.SplitRecovery(Quorum{Need: 2, Of: 2, Dir: out}, false)
	wantText(t, err, "if it is in shares already, keep those")
	all, _, err := d.Journal()
	if err != nil || all[len(all)-1].Act != actSplit {
		t.Errorf("journal: %+v, %v", all, err)
	}
}

// A folder without its journal does nothing more, nor one whose books and journal are not of one time.
func TestJournalGone(t *testing.T) {
	d := newDesk(t)
	enrolled(t, d)
	path := filepath.Join(d.dir, journalFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
	older := []byte(strings.Join(lines[:len(lines)-1], ""))
	fresh := asking(t, d).request()
	for name, c := range map[string]struct {
		change func() error
		words  string
	}{
		"gone":  {func() error { return os.Remove(path) }, "this domain's journal is gone"},
		"empty": {func() error { return os.WriteFile(path, nil, 0o600) }, "this domain's journal is gone"},
		"cut":   {func() error { return os.WriteFile(path, older, 0o600) }, "box1 is in " + filepath.Join(d.dir, boxesDir) + ", but the journal does not know of it"},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		a := admission(t, fresh, predicted(d, "v1", 1))
		a.Box.Name = "box2"
		_, err := d.Enrol(a)
		t.Run(name, func(t *testing.T) { wantText(t, err, c.words) })
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.note("try", "it", nil); err != nil {
		t.Error(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantText(t, d.note("try", "it", nil), "this domain's journal is gone")
}

// A record that cannot be read is no reason to give its name away.
func TestSpoiltBook(t *testing.T) {
	d := newDesk(t)
	enrolled(t, d)
	path := filepath.Join(d.dir, boxesDir, "box1.pem")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fleet, err := d.ApproveFleet(predicted(d, "v1", 1))
	if err != nil {
		t.Fatal(err)
	}
	request := asking(t, d).request()
	for name, bad := range map[string][]byte{"empty": {}, "changed": bytes.Replace(text, []byte("A"), []byte("B"), 1), "of no box": fleet} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := d.Enrol(admission(t, request, predicted(d, "v1", 1)))
		t.Run(name, func(t *testing.T) { wantText(t, err, "is not the bundle of a box") })
	}
}

// The journal is the one that somebody kept a digest of, or a later one of it.
func TestJournalExpect(t *testing.T) {
	d := newDesk(t)
	_, first, err := d.Journal()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.note("try", "it", nil); err != nil {
		t.Fatal(err)
	}
	all, last, err := d.Journal()
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range []label.Digest{first, last} {
		if err := contains(all, last, kept.String()); err != nil {
			t.Error(err)
		}
	}
	wantText(t, contains(all[:1], first, last.String()), "its end was cut off, or it is another one")
	wantText(t, contains(all, last, label.Digest(sha256.Sum256(nil)).String()), "its end was cut off, or it is another one")
	wantText(t, contains(all, last, "abc"), "-expect wants the digest")
	wantText(t, contains(all, last, label.Digest{}.String()), "-expect wants the digest")
}

// Who is replaced loses the name: his keys are revoked under it, the newcomer's are not, and the root's list has his certificates.
func TestReplacedIsRevoked(t *testing.T) {
	d := newDesk(t)
	enrolled(t, d)
	old, err := d.issued()
	if err != nil {
		t.Fatal(err)
	}
	a := admission(t, asking(t, d).request(), predicted(d, "v1", 1))
	a.Replace = true
	if _, err := d.Enrol(a); err != nil {
		t.Fatal(err)
	}
	s, err := d.Permissions()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, c := range old {
		if err := s.Permissions.Allows(label.KeyRelease, "box1", KeyOf(c.cert), now); !errors.Is(err, label.ErrRevoked) {
			t.Errorf("the old key of %q: %v", c.label, err)
		}
	}
	fresh, err := d.issued()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range fresh {
		if err := s.Permissions.Allows(c.label, "box1", KeyOf(c.cert), now); c.label != "" && err != nil {
			t.Errorf("the new key of %q: %v", c.label, err)
		}
	}
	list, err := d.lastList()
	if err != nil || list == nil || len(list.RevokedCertificateEntries) != len(old) {
		t.Errorf("list: %+v, %v; want %d certificates", list, err, len(old))
	}
}
