package label

import (
	"bytes"
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

func (p *pen) backup() Backup {
	return Backup{Domain: p.d.Hash(), Box: "box1", Made: time.Now().UTC().Format(time.RFC3339), Version: "v1", Key: Digest{1}, Threshold: 2, Shares: make([]Digest, 3),
		Letter: []byte("letter"), State: []byte("state"), Keys: p.replica().Keys, Lost: []LostKey{{Key: Digest{2}, Access: []string{"secrets"}, Why: "bound"}}}
}

func (p *pen) signedBackup(t *testing.T, b Backup) []byte {
	t.Helper()
	doc, err := b.Sign(p.chain(t, b.Digest()), p.leaf)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestBackupSignatory: a backup counts as the word of a box of this domain, for that one statement; by the time at which it was made.
func TestBackupSignatory(t *testing.T) {
	p, other := newPen(t), newPen(t)
	doc := p.signedBackup(t, p.backup())
	if b, by, err := OpenBackup(doc, p.d); err != nil || by.Box != "box1" || b.Threshold != 2 {
		t.Fatalf("OpenBackup: %+v, %v", by, err)
	}
	if _, _, err := OpenBackup(doc, other.d); err == nil {
		t.Error("another domain takes it")
	}
	for _, change := range [][2]string{{`"threshold":2`, `"threshold":1`}, {`"why":"bound"`, `"why":"other"`}, {`"box":"box1"`, `"box":"box2"`}} {
		bad := bytes.Replace(doc, []byte(change[0]), []byte(change[1]), 1)
		if _, _, err := OpenBackup(bad, p.d); err == nil || bytes.Equal(bad, doc) {
			t.Errorf("with %s it is taken", change[1])
		}
	}
	i := bytes.LastIndex(doc, []byte(`"signature":"`)) + len(`"signature":"`)
	bad := bytes.Clone(doc)
	if bad[i+4] ^= 1; bad[i+4] == '"' || bad[i+4] == '\\' {
		bad[i+4] ^= 3
	}
	if _, _, err := OpenBackup(bad, p.d); err == nil {
		t.Error("another signature is taken")
	}
	late := p.backup()
	late.Made = time.Now().Add(48 * time.Hour).UTC().Format(time.RFC3339)
	if _, _, err := OpenBackup(p.signedBackup(t, late), p.d); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("made when its certificate had expired: %v", err)
	}
	old := newPen(t)
	made := time.Now().Add(-30 * 24 * time.Hour)
	old.change = func(l, x *x509.Certificate) {
		l.NotBefore, x.NotBefore = made.Add(-time.Hour), made.Add(-time.Hour)
		x.NotAfter = made.Add(time.Hour)
	}
	b := old.backup()
	b.Made = made.UTC().Format(time.RFC3339)
	root, err := old.d.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	if root.NotBefore.Before(made) {
		if _, _, err := OpenBackup(old.signedBackup(t, b), old.d); err != nil {
			t.Errorf("a month later: %v", err)
		}
	}
	if _, _, err := OpenReplica(armor(replicaBlock, doc), p.d, time.Now()); err == nil {
		t.Error("a backup passes for copies of keys")
	}
}

func TestBackupChecks(t *testing.T) {
	p := newPen(t)
	for name, spoil := range map[string]func(*Backup){
		"box": func(b *Backup) { b.Box = "Box" }, "version": func(b *Backup) { b.Version = "a\nb" }, "0 of 3": func(b *Backup) { b.Threshold = 0 }, "4 of 3": func(b *Backup) { b.Threshold = 4 },
		"of 17": func(b *Backup) { b.Shares = make([]Digest, 17) }, "no state": func(b *Backup) { b.State = nil }, "made": func(b *Backup) { b.Made = "today" },
		"keys": func(b *Backup) { b.Keys = make([]ReplicaKey, MaxBackupKeys+1) }, "key 0": func(b *Backup) { b.Keys[0].Wrapped = nil }, "lost key": func(b *Backup) { b.Lost[0].Access = []string{"A"} },
		"lost key 0": func(b *Backup) { b.Lost[0].Why = "\x1b" },
	} {
		b := p.backup()
		spoil(&b)
		if err := b.Check(MaxDocument); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (p *pen) backupKey() BackupKey {
	return BackupKey{Domain: p.d.Hash(), Box: "box1", Transport: []byte("transport"), Threshold: 2, Shares: make([]Digest, 3), Recipients: []string{}, Nonce: Digest{7}}
}

// TestBackupApproval: an approval of a backup key counts if this domain's label key signed it, as it is.
func TestBackupApproval(t *testing.T) {
	p, other := newPen(t), newPen(t)
	a := BackupApproval{Number: 3, Key: p.backupKey()}
	key := newKey(t)
	var err error
	if p.d.Label, err = NewKey(&key.PublicKey); err != nil {
		t.Fatal(err)
	}
	a.Key.Domain = p.d.Hash()
	text, err := a.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenBackupApproval(text, p.d); err != nil || got.Number != 3 || got.Key.Digest() != a.Key.Digest() || !IsBackupApproval(text) || IsBackupKey(text) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := OpenBackupApproval(text, other.d); err == nil || !strings.Contains(err.Error(), "it is of domain") {
		t.Errorf("another domain's: %v", err)
	}
	byOther, err := a.Sign(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBackupApproval(byOther, p.d); err == nil || !strings.Contains(err.Error(), "not signed by the label key") {
		t.Errorf("signed by whomever: %v", err)
	}
	doc, err := unarmor(backupApprovalBlock, text)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{{`"number":3`, `"number":4`}, {`"threshold":2`, `"threshold":3`}, {`"box":"box1"`, `"box":"box2"`}} {
		bad := bytes.Replace(doc, []byte(change[0]), []byte(change[1]), 1)
		if _, err := OpenBackupApproval(armor(backupApprovalBlock, bad), p.d); err == nil || bytes.Equal(bad, doc) {
			t.Errorf("with %s it is taken", change[1])
		}
	}
	if _, err := (BackupApproval{Key: p.backupKey()}).Sign(key); err == nil {
		t.Error("without a number")
	}
}

// TestBackupKeyForm: shares on paper are two at least; one that opens alone is for somebody's key.
func TestBackupKeyForm(t *testing.T) {
	p := newPen(t)
	aged := p.backupKey()
	aged.Threshold, aged.Shares, aged.Recipients = 1, make([]Digest, 1), []string{"age1x"}
	if err := aged.check(); err != nil || !strings.Contains(aged.Kind(), "age1x") || !strings.Contains(p.backupKey().Kind(), "any 2 of which") {
		t.Errorf("%s: %v", aged.Kind(), err)
	}
	for name, spoil := range map[string]func(*BackupKey){
		"1 of 3": func(k *BackupKey) { k.Threshold = 1 }, "4 of 3": func(k *BackupKey) { k.Threshold = 4 }, "no share": func(k *BackupKey) { k.Shares = nil },
		"17 shares": func(k *BackupKey) { k.Shares = make([]Digest, 17) }, "nil": func(k *BackupKey) { k.Recipients = nil },
		"2 of 3 for age": func(k *BackupKey) { k.Recipients = []string{"age1x"} }, "a blank": func(k *BackupKey) { *k = aged; k.Recipients = []string{"age1 x"} },
		"17 recipients": func(k *BackupKey) { *k = aged; k.Recipients = make([]string, 17) },
	} {
		k := p.backupKey()
		spoil(&k)
		if err := k.check(); err == nil {
			t.Errorf("%s is a backup key", name)
		}
	}
}

// TestBackupTooLarge: that a backup would be larger than one may be is known before its keys are wrapped.
func TestBackupTooLarge(t *testing.T) {
	p := newPen(t)
	b := p.backup()
	key := b.Keys[0]
	key.Wrapped = make([]byte, 1824)
	for len(b.Keys) < 150 {
		b.Keys = append(b.Keys, key)
	}
	if err := b.Check(MaxDocument); err != nil {
		t.Fatal(err)
	}
	if doc := p.signedBackup(t, b); len(doc) > len(encode(b))+maxSignatory {
		t.Errorf("signature and certificates have %d bytes, and %d were set aside", len(doc)-len(encode(b)), maxSignatory)
	}
	for len(b.Keys) < 250 {
		b.Keys = append(b.Keys, key)
	}
	if err := b.Check(MaxDocument); err == nil || !strings.Contains(err.Error(), "KiB with its 250 keys") {
		t.Errorf("250 keys: %v", err)
	}
	if err := b.Check(MaxBackup); err != nil {
		t.Errorf("250 keys on a disk: %v", err)
	}
	if got, _, err := OpenBackup(p.signedBackup(t, b), p.d); err != nil || len(got.Keys) != 250 {
		t.Errorf("250 keys on a disk: %d are read, %v", len(got.Keys), err)
	}
	b.State = make([]byte, MaxBackup*3/4)
	if err := b.Check(MaxBackup); err == nil {
		t.Error("a backup that no disk takes passes")
	}
	if _, _, err := OpenBackup(make([]byte, MaxBackup+1), p.d); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a document that is too long: %v", err)
	}
}

// TestBackupOfAnotherDomain: what a box of this domain signs for another is nobody's, as is what another domain of the same name signs.
func TestBackupOfAnotherDomain(t *testing.T) {
	p, other := newPen(t), newPen(t)
	b := p.backup()
	b.Domain = other.d.Hash()
	if _, _, err := OpenBackup(p.signedBackup(t, b), p.d); err == nil || !strings.Contains(err.Error(), "it is of domain") {
		t.Errorf("of another domain, signed here: %v", err)
	}
	b = other.backup()
	b.Domain = p.d.Hash()
	if _, _, err := OpenBackup(other.signedBackup(t, b), p.d); err == nil || !strings.Contains(err.Error(), "verify signatory") {
		t.Errorf("of this domain, signed elsewhere: %v", err)
	}
}

// TestBackupKeyStatement: a box's word about its backup key is of its own kind.
func TestBackupKeyStatement(t *testing.T) {
	p := newPen(t)
	k := p.backupKey()
	text, err := k.Sign(p.chain(t, k.Digest()), p.leaf)
	if err != nil {
		t.Fatal(err)
	}
	if got, by, err := OpenBackupKey(text, p.d, time.Now()); err != nil || by.Box != "box1" || string(got.Transport) != "transport" || !IsBackupKey(text) {
		t.Errorf("%+v, %v", by, err)
	}
	request, _ := p.write(t)
	if _, _, err := OpenReplicaRequest(text, p.d, time.Now()); err == nil || IsBackupKey(request) {
		t.Error("a request for copies and a backup key pass for each other")
	}
	renamed := bytes.ReplaceAll(text, []byte(backupKeyBlock), []byte(replicaRequestBlock))
	if _, _, err := OpenReplicaRequest(renamed, p.d, time.Now()); err == nil {
		t.Error("a backup key in a request's armour is a request")
	}
	if _, _, err := OpenBackupKey(text, newPen(t).d, time.Now()); err == nil {
		t.Error("another domain's word counts")
	}
	if k.Nonce = (Digest{}); k.check() == nil {
		t.Error("without a nonce")
	}
}
