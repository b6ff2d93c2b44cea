package tpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/noise"
	"github.com/keyrelease/krabox/tpm/wire"
)

func TestEnrolAndBoot(t *testing.T) {
	b := newBench(t, newAuthority(t, "example"))
	b.boot(v1)
	if s, err := b.Status(t.Context()); err != nil || s.State != wire.Factory || s.Stage != "none" {
		t.Fatalf("Status() = %+v, %v; want factory", s, err)
	}
	_, _, err := b.Unseal(t.Context())
	wantRefused(t, err, "not enrolled")
	i := b.enrol()
	key, err := i.StoreKey()
	if err != nil || !i.NeedsStore || i.Officer.Name != "alice" || i.Approvals != 2 {
		t.Fatalf("installed %+v, %v", i, err)
	}
	for range 2 {
		b.boot(v1)
		store, chain := wire.Derive(b.serves())
		if store != key || chain == store {
			t.Error("the keys derived at boot are not the ones of the enrolment")
		}
		s, err := b.Status(t.Context())
		if err != nil || s.State != wire.Enrolled || s.Stage != "running" || s.Epoch != 1 || s.Box.Name != "box1" || len(s.Versions) != 2 {
			t.Errorf("Status() = %+v, %v", s, err)
		}
		for _, v := range s.Versions {
			if !v.Matches {
				t.Errorf("approval %+v does not match what runs", v)
			}
		}
	}
}

// The record survives a power cut and never goes back.
func TestRecord(t *testing.T) {
	b := enrolled(t)
	if err := b.WriteRecord(t.Context(), record(2)); err != nil {
		t.Fatal(err)
	}
	b.boot(v1)
	if r, err := b.Record(t.Context()); err != nil || r != record(2) {
		t.Errorf("Record() = %+v, %v; want generation 2", r, err)
	}
	wantRefused(t, b.WriteRecord(t.Context(), record(3)), "PCR 14 (stage)")
	b.serves()
	wantRefused(t, b.WriteRecord(t.Context(), record(1)), "go back")
	back := record(2)
	back.LogSize--
	wantRefused(t, b.WriteRecord(t.Context(), back), "log size")
	if err := b.WriteRecord(t.Context(), record(2)); err != nil {
		t.Errorf("the same record again: %v", err)
	}
}

// A record costs ten commands, a leaf twelve, a boot to its first leaf less than a hundred: on a discrete TPM each takes tens
// of milliseconds.
func TestCommandsSpent(t *testing.T) {
	b := enrolled(t)
	b.boot(v1)
	measured := b.tpm.Commands()
	b.serves()
	spki, _ := tlsKey(t)
	spend := func(what string, most int, f func() error) {
		t.Helper()
		n := b.tpm.Commands()
		if err := f(); err != nil {
			t.Fatal(err)
		}
		if n = b.tpm.Commands() - n; n > most {
			t.Errorf("%s: %d commands; want at most %d", what, n, most)
		}
	}
	leaf := func() error { _, err := b.LeafTLS(t.Context(), spki); return err }
	spend("first leaf", 18, leaf)
	spend("leaf", 12, leaf)
	spend("first record", 14, func() error { return b.WriteRecord(t.Context(), record(2)) })
	spend("record", 10, func() error { return b.WriteRecord(t.Context(), record(3)) })
	if n := b.tpm.Commands() - measured; n > 100 {
		t.Errorf("boot, two leaves, two records: %d commands", n)
	}
}

// A restarted tpmd finds its place in the boot by the TPM alone and extends nothing twice.
func TestRestartedAgent(t *testing.T) {
	b := enrolled(t)
	b.boot(v1)
	b.stage(label.Open)
	b.open()
	b.serves()
	b.open()
	b.stage(label.Running)
	if err := b.WriteRecord(t.Context(), record(2)); err != nil {
		t.Error(err)
	}
}

func TestStages(t *testing.T) {
	for _, c := range []struct {
		way  []label.Stage
		last string // "" if the last step is refused
	}{
		{[]label.Stage{label.Open}, "open"},
		{[]label.Stage{label.Running}, "running"},
		{[]label.Stage{label.Open, label.Running}, "running"},
		{[]label.Stage{label.Open, label.Open, label.Running, label.Running}, "running"},
		{[]label.Stage{label.Running, label.Open}, ""},
		{[]label.Stage{label.Maintenance}, "maintenance"},
		{[]label.Stage{label.Maintenance, label.Running}, ""},
		{[]label.Stage{label.Open, label.Maintenance}, ""},
		{[]label.Stage{label.Locked}, "locked"},
		{[]label.Stage{label.Open, label.Locked}, "locked"},
		{[]label.Stage{label.Running, label.Locked, label.Locked}, "locked"},
		{[]label.Stage{label.Open, label.Locked, label.Running}, ""},
	} {
		b := newBench(t, newAuthority(t, "example"))
		b.open()
		var err error
		for _, s := range c.way {
			if err != nil {
				t.Fatalf("%v: %v", c.way, err)
			}
			err = b.Extend(t.Context(), s)
		}
		if c.last == "" {
			wantRefused(t, err, "cannot go from stage")
			continue
		}
		s, serr := b.Status(t.Context())
		if err != nil || serr != nil || s.Stage != c.last {
			t.Errorf("%v: stage %q, %v, %v; want %q", c.way, s.Stage, err, serr, c.last)
		}
	}
}

// The same sealed state opens under a release approved later, without resealing; one that is not approved is refused by
// name, and nothing on the disk changes by it.
func TestUpgrade(t *testing.T) {
	b := enrolled(t)
	before := wire.Opened(b.bootedSecrets(v1))
	b.boot(v2)
	_, err := b.serve()
	wantRefused(t, err, "PCR 4 (boot loader)", "PCR 11 (kernel, initramfs and command line)", `by approval "release v1" (version 1)`,
		v1.release().PCRs[4].Short(), v2.release().PCRs[4].Short())
	b.stage(label.Locked)
	b.give(approvals(t, b.of.desk(), v2)) // a locked box takes approvals
	b.boot(v2)
	after := b.serves()
	if !equal(t, before, after) {
		t.Error("the state opened under v2 is not the one sealed under v1")
	}
	b.boot(v1)
	b.serves()
}

func (b *bench) bootedSecrets(v version) wire.Opened {
	b.t.Helper()
	b.boot(v)
	return b.serves()
}

func equal(t *testing.T, x, y wire.Opened) (same bool) {
	t.Helper()
	err := x.Use(func(s1, h1 []byte) error {
		return y.Use(func(s2, h2 []byte) error {
			same = bytes.Equal(s1, s2) && bytes.Equal(h1, h2)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return same
}

// A whole life under the recovery key: opening, signing and writing.
func TestRecoveryApprovals(t *testing.T) {
	b := enrolled(t)
	b.give(approvals(t, b.of.recoveryDesk(), v2))
	b.boot(v2)
	b.serves()
	if err := b.WriteRecord(t.Context(), record(2)); err != nil {
		t.Error(err)
	}
}

// TestUnfitGenerator: a TPM whose random bytes are always the same is not used. It makes the box's keys of them.
func TestUnfitGenerator(t *testing.T) {
	b := newBench(t, newAuthority(t, "example"))
	b.boot(v1)
	b.down()
	b.tpm.Interpose(func(command, answer []byte) []byte {
		const random, head = 0x17b, 10 + 2 // TPM2_GetRandom: header, length
		if binary.BigEndian.Uint32(command[6:]) == random && len(answer) > head {
			clear(answer[head:])
		}
		return answer
	})
	if a, err := Open(b.config()); !errors.Is(err, noise.ErrUnfit) {
		t.Errorf("Open = %v", err)
		if err == nil {
			_ = a.Close()
		}
	}
	b.tpm.Interpose(nil)
	b.open()
}

// TestPoolIsStirred: the kernel's generator gets what the TPM gives, other bytes at each start; where it takes none, no keys are made.
func TestPoolIsStirred(t *testing.T) {
	b := newBench(t, newAuthority(t, "example"))
	b.boot(v1)
	b.down()
	c := b.config()
	c.Pool = filepath.Join(t.TempDir(), "pool")
	if _, err := Open(c); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a pool: %v", err)
	}
	var pools [2][]byte
	for i := range pools {
		if err := os.WriteFile(c.Pool, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := Open(c)
		if err != nil {
			t.Fatal(err)
		}
		_ = a.Close()
		if pools[i], err = os.ReadFile(c.Pool); err != nil || len(pools[i]) != noise.Size {
			t.Fatalf("%d bytes, %v", len(pools[i]), err)
		}
		if err := noise.Check(func(p []byte) error { copy(p, pools[i]); return nil }); err != nil {
			t.Error(err)
		}
	}
	if bytes.Equal(pools[0], pools[1]) {
		t.Error("the same bytes at each start")
	}
}

func TestDaemonHelp(t *testing.T) {
	if err := Daemon(t.Context(), slog.New(slog.DiscardHandler), []string{"-h"}); err != nil {
		t.Errorf("Daemon(-h) = %v", err)
	}
}
