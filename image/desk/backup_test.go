package desk

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/label"
)

// backupKey is a backup key that a box asks for.
func (b *box) backupKey(name string) (label.BackupKey, []byte) {
	b.t.Helper()
	k := label.BackupKey{Domain: b.of.Domain().Hash(), Box: name, Transport: []byte("transport key"), Threshold: 2, Shares: make([]label.Digest, 3), Recipients: []string{}}
	_, _ = rand.Read(k.Nonce[:]) // never fails
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		b.t.Fatal(err)
	}
	chain, err := b.LeafReplica(b.t.Context(), spki, k.Digest())
	if err != nil {
		b.t.Fatal(err)
	}
	text, err := k.Sign(chain, key)
	if err != nil {
		b.t.Fatal(err)
	}
	return k, text
}

// TestApproveBackupKey: the desk approves what an enrolled box asks for, shows before what it is, numbers it, and notes it; the same
// request is answered alike as long as it is the newest, and no older one.
func TestApproveBackupKey(t *testing.T) {
	d := newDesk(t)
	b := enrolled(t, d)
	b.boot(boot("v1"))
	if err := b.serve(); err != nil {
		t.Fatal(err)
	}
	l := &line{t: t, dir: t.TempDir(), of: d}
	k, text := b.backupKey("box1")
	ask := []string{"backup", "approve", "-dir", d.dir, "-request", l.write("request.txt", text)}
	size := journalSize(t, d)
	if out := l.do(append(ask, "-dry-run")...); out != "" || journalSize(t, d) != size {
		t.Errorf("a dry run signed %q, or noted it", out)
	}
	l.says("box1, as it is enrolled now", "3 shares on paper, any 2 of which open", k.Fingerprint(), "backup key number 1", "every replicable key", "is its word", nothingDone)
	number := func(text string, want uint64, of label.BackupKey) {
		t.Helper()
		a, err := label.OpenBackupApproval([]byte(text), d.Domain())
		if err != nil || a.Number != want || a.Key.Digest() != of.Digest() {
			t.Errorf("approved number %d, %v; want %d", a.Number, err, want)
		}
	}
	number(l.do(ask...), 1, k)
	size = journalSize(t, d)
	number(l.do(ask...), 1, k)
	if l.says("again      number 1"); journalSize(t, d) != size {
		t.Error("the same request was noted twice")
	}
	newer, next := b.backupKey("box1")
	out := l.do("backup", "approve", "-dir", d.dir, "-request", l.write("next.txt", next))
	number(out, 2, newer)
	l.says("replaces   number 1, fingerprint " + k.Fingerprint())
	_, err := l.try(ask...)
	wantText(t, err, "a newer one of box1 since", "does not come back")
	if list := l.do("backup", "list", "-dir", d.dir); strings.Count(list, "box1") != 2 || !strings.Contains(list, newer.Fingerprint()) || !strings.Contains(list, "any 2 of which open") {
		t.Errorf("list says\n%s", list)
	}
	all, _, err := d.Journal()
	if err != nil {
		t.Fatal(err)
	}
	if e := all[len(all)-1]; e.Act != actBackup || e.Subject != "box1" || e.Facts[factNumber] != "2" || e.Facts[factFingerprint] != newer.Fingerprint() || e.Facts[factRequest] != newer.Digest().String() {
		t.Errorf("noted %+v", e)
	}
}

// TestBackupKeyRefused: nobody is answered but a box that is enrolled now, about itself, and not one that is revoked.
func TestBackupKeyRefused(t *testing.T) {
	d := newDesk(t)
	b := enrolled(t, d)
	b.boot(boot("v1"))
	if err := b.serve(); err != nil {
		t.Fatal(err)
	}
	_, other := b.backupKey("box2")
	_, err := d.ApproveBackupKey(other)
	wantText(t, err, "said to be of box")
	_, err = newDesk(t).ApproveBackupKey(other)
	wantText(t, err, "verify signatory")
	_, text := b.backupKey("box1")
	if _, err := d.Revoke(Whom{Name: "box1", Reason: "stolen"}); err != nil {
		t.Fatal(err)
	}
	_, err = d.ApproveBackupKey(text)
	wantText(t, err, "box1 is revoked since")
	if _, err := d.Restore(Whom{Name: "box1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ApproveBackupKey(text); err != nil {
		t.Fatal(err)
	}
	again := newBox(t, d)
	again.boot(boot("v1"))
	again.stage(label.Running)
	a := admission(t, again.request(), predicted(d, "v1", 1))
	a.Replace = true
	if _, err := d.Enrol(a); err != nil {
		t.Fatal(err)
	}
	_, late := b.backupKey("box1")
	_, err = d.ApproveBackupKey(late)
	wantText(t, err, "enrolled anew since")
}

func journalSize(t *testing.T, d *Desk) int {
	t.Helper()
	all, _, err := d.Journal()
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
