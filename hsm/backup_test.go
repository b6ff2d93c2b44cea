package hsm_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// TestAdmitsApprovedBackupKey: an agent that has the PINs, and whose box has anything signed in its name, gets a transfer key for no backup
// key but one that the domain has approved, for this box.
func TestAdmitsApprovedBackupKey(t *testing.T) {
	a := box(t, 1)
	token := openBox(t, a)
	defer a.Close()
	key := must(box(t, 2).Transport())
	good := hsmtest.BackupApproval(t, hsmtest.Box, key, 1)
	before := a.Objects()
	for name, x := range map[string]struct {
		why  string
		text []byte
	}{
		"this box's own word":    {"not approved by the domain", hsmtest.BackupKey(t, hsmtest.Box, key)},
		"another box's own word": {"not approved by the domain", hsmtest.BackupKey(t, "box2", key)},
		"for another box":        {"approves a backup key of", hsmtest.BackupApproval(t, "box2", key, 1)},
		"of another domain":      {"not signed by the label key", hsmtest.ForeignApproval(t, hsmtest.Box, key, 1)},
		"altered":                {"", []byte(strings.Replace(string(good), "eyJ", "eyK", 1))},
	} {
		letter, _, err := a.Admit(hsmtest.Again(token, nil), x.text)
		if !errors.As(err, new(wire.Refused)) || !strings.Contains(err.Error(), x.why) || letter != nil {
			t.Errorf("%s: %v, want a refusal with %q", name, err, x.why)
		}
		if n := a.Objects(); n != before {
			t.Fatalf("%s: %d objects were made", name, n-before)
		}
	}
	letter, _, err := a.Admit(hsmtest.Again(token, nil), good)
	if err != nil || len(letter) != wire.LetterSize {
		t.Errorf("approved for this box: %v", err)
	}
}

// TestOlderBackupKeyStaysGone: what the domain approved before the backup key that a token has does not come back: not by its
// approval, not by a dismissal of the newer one, not by token files of an earlier day while the process lives, and not after a restart.
func TestOlderBackupKeyStaysGone(t *testing.T) {
	a := box(t, 1)
	token := openBox(t, a)
	first, second := must(box(t, 2).Transport()), must(box(t, 3).Transport())
	keep := func(files wire.Files) {
		for name, data := range files {
			if token.Files[name] = data; data == nil {
				delete(token.Files, name)
			}
		}
	}
	k, files, err := a.Generate(wire.P256, wire.Replicable, wire.Resident)
	if err != nil {
		t.Fatal(err)
	}
	keep(files)
	admit := func(c *hsm.Custodian, transport []byte, number uint64, why string) {
		t.Helper()
		_, files, err := c.Admit(hsmtest.Again(token, nil), hsmtest.BackupApproval(t, hsmtest.Box, transport, number))
		if why == "" && err != nil || why != "" && (!errors.As(err, new(wire.Refused)) || !strings.Contains(err.Error(), why)) {
			t.Fatalf("number %d: %v, want %q", number, err, why)
		}
		keep(files)
	}
	packs := func(c *hsm.Custodian, transport []byte, why string) {
		t.Helper()
		_, _, err := c.Pack(wire.PeerOf(transport), []block.KeyID{k.ID})
		if why == "" && err != nil || why != "" && (err == nil || !strings.Contains(err.Error(), why)) {
			t.Errorf("pack: %v, want %q", err, why)
		}
	}
	admit(a, first, 3, "")
	packs(a, first, "")
	earlier := maps.Clone(token.Files)
	admit(a, second, 3, "of the same number 3")
	admit(a, second, 4, "")
	packs(a, second, "")
	packs(a, first, "admit it again")
	admit(a, first, 3, "does not come back")
	if _, err := a.Dismiss(wire.PeerOf(second)); !errors.Is(err, wire.ErrNoKey) {
		t.Errorf("the newest backup key was dismissed: %v", err)
	}
	packs(a, second, "")
	admit(a, second, 4, "")
	packs(a, second, "")
	if n := len(a.BackupTransferKeys()); n != 1 {
		t.Errorf("the token has %d transfer keys for backup keys", n)
	}

	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Open(hsmtest.Again(token, earlier)); err != nil {
		t.Fatal(err)
	}
	packs(a, first, "has had number 4")
	admit(a, first, 3, "does not come back")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b := box(t, 1)
	if _, err := b.Open(hsmtest.Again(token, token.Files)); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	packs(b, second, "")
	admit(b, first, 3, "does not come back")
}
