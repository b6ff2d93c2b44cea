package store

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
)

// refused says that the disk, as it is, does not boot, by reason of *Rollback, and that its text names what it must.
func refused(t *testing.T, b *bench, want string) {
	t.Helper()
	before := b.nv.writes
	s, err := b.tryBoot(t)
	if err == nil {
		s.Close()
		t.Fatalf("the disk boots; want it refused: %s", want)
	}
	var r *Rollback
	if !errors.As(err, &r) || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v; want a *Rollback with %q", err, want)
	}
	if b.nv.writes != before {
		t.Error("a refused state was recorded in NV")
	}
}

// TestOlderCopyRefused puts back a copy that is one acknowledged change old.
func TestOlderCopyRefused(t *testing.T) {
	b := newBench(t)
	s := b.boot(t)
	old := b.copy(t)
	commit(t, s, AccessAdd{"legal-team", ""})
	closeStore(t, s)
	present := b.copy(t)

	b.paste(t, old)
	refused(t, b, "rolled back: generation 2 on the disk, 3 in the TPM")
	b.paste(t, present)
	if s := b.boot(t); !hasAccess(s, "legal-team") {
		t.Error("the present state is not whole")
	}
}

// TestEveryOlderCopyRefused: no copy but the last one boots, however many changes and boots lie between.
func TestEveryOlderCopyRefused(t *testing.T) {
	b := newBench(t)
	var copies [][]byte
	for range 3 {
		s := b.boot(t)
		for range 3 {
			copies = append(copies, b.copy(t))
			commit(t, s, OfficerFailures{Name: "alice", Failures: len(copies)})
		}
		closeStore(t, s)
	}
	for _, c := range copies {
		b.paste(t, c)
		refused(t, b, "rolled back")
	}
}

// TestPrevAccepted: the power goes between fsync and the NV write. The state on the disk is then one ahead of NV and is
// accepted, and the change, never acknowledged, is there.
func TestPrevAccepted(t *testing.T) {
	b := newBench(t)
	s := b.boot(t)
	b.nv.fault = notDone
	if _, err := s.Commit(context.Background(), AccessAdd{"legal-team", ""}); !errors.Is(err, errFault) {
		t.Fatalf("Commit = %v; want the injected fault", err)
	}
	if hasAccess(s, "legal-team") {
		t.Error("a change is in effect that was not recorded")
	}
	closeStore(t, s)
	b.nv.fault = works
	if s := b.boot(t); !hasAccess(s, "legal-team") {
		t.Error("the durable change is gone")
	}
}

// TestForkRefused: cut after fsync; the older copy, which NV still remembers, goes on with a change of its own; then the
// first copy, whose prev NV held, is put back. Only the one that went on may live.
func TestForkRefused(t *testing.T) {
	for _, change := range []string{"with another change", "without a change", "behind in generations"} {
		t.Run(change, func(t *testing.T) {
			b := newBench(t)
			s := b.boot(t)
			older := b.copy(t)
			b.nv.fault = notDone
			if _, err := s.Commit(context.Background(), AccessAdd{"first", ""}); err == nil {
				t.Fatal("Commit without NV")
			}
			closeStore(t, s)
			if change == "behind in generations" { // cut again at each of several boots
				for range 3 {
					if _, err := b.tryBoot(t); !errors.Is(err, errFault) {
						t.Fatalf("Boot without NV: %v", err)
					}
				}
			}
			first := b.copy(t)
			b.nv.fault = works

			b.paste(t, older)
			s = b.boot(t)
			if change == "with another change" {
				commit(t, s, AccessAdd{"second", ""})
			}
			closeStore(t, s)
			second := b.copy(t)

			b.paste(t, first)
			refused(t, b, "state")
			b.paste(t, second)
			s = b.boot(t)
			if hasAccess(s, "first") {
				t.Error("the change of the other fork is here")
			}
		})
	}
}

// TestTwoBootsFork: the same copy is booted twice; the boots alone make them two states, of which the last lives.
func TestTwoBootsFork(t *testing.T) {
	b := newBench(t)
	before := b.copy(t)
	nv := b.nv.record
	closeStore(t, b.boot(t))
	first := b.copy(t)

	b.paste(t, before)
	b.nv.record = nv // a TPM that was cut before the write
	closeStore(t, b.boot(t))
	b.paste(t, first)
	refused(t, b, "forked: generation 2")
}

func TestOtherBoxRefused(t *testing.T) {
	b, other := newBench(t), newBench(t)
	b.paste(t, other.copy(t)) // the same key, another state
	refused(t, b, "forked")

	if _, err := Open(b.path, [32]byte{9}, b.nv.record); !errors.Is(err, ErrDamaged) {
		t.Errorf("another box's key: %v; want ErrDamaged", err)
	}
	if err := os.Remove(b.path); err != nil {
		t.Fatal(err)
	}
	refused(t, b, "state missing")
}

// TestUnwrittenRecordAcceptsNothing: a TPM that remembers nothing vouches for nothing.
func TestUnwrittenRecordAcceptsNothing(t *testing.T) {
	b := newBench(t)
	b.nv = &nvram{}
	refused(t, b, "forked")
}

// TestBootWritesBeforeServing: at no time is a Store there whose state NV does not hold.
func TestBootWritesBeforeServing(t *testing.T) {
	b := newBench(t)
	for _, f := range []fault{notDone, butDone} {
		b.nv.fault = f
		if _, err := b.tryBoot(t); !errors.Is(err, errFault) {
			t.Errorf("Boot with NV fault %d: %v", f, err)
		}
		b.nv.fault = works
		s := b.boot(t)
		if r := b.nv.record; r.Root != s.State().Root() || r.Generation != s.State().Generation() {
			t.Error("NV does not hold the state in service")
		}
		closeStore(t, s)
	}
}

// TestCommitFaults injects each failure twice. Afterwards the store is closed, what it served is what was acknowledged,
// and a restart finds a whole state with the change or without it, never another.
func TestCommitFaults(t *testing.T) {
	for _, f := range []fault{notDone, butDone} {
		b := newBench(t)
		s := b.boot(t)
		b.nv.fault = f
		if _, err := s.Commit(context.Background(), AccessAdd{"a", ""}); !errors.Is(err, ErrClosed) {
			t.Errorf("fault %d: Commit = %v; want ErrClosed", f, err)
		}
		b.nv.fault = works
		if _, err := s.Commit(context.Background(), AccessAdd{"b", ""}); !errors.Is(err, ErrClosed) {
			t.Errorf("fault %d: the next Commit = %v; want ErrClosed", f, err)
		}
		if err := s.Anchor(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("fault %d: Anchor = %v; want ErrClosed", f, err)
		}
		if s.Health() == nil || hasAccess(s, "a") {
			t.Errorf("fault %d: health %v, change in effect %v", f, s.Health(), hasAccess(s, "a"))
		}
		closeStore(t, s)
		if s := b.boot(t); !hasAccess(s, "a") || hasAccess(s, "b") {
			t.Errorf("fault %d: after a restart a %v, b %v; want true, false", f, hasAccess(s, "a"), hasAccess(s, "b"))
		}
	}
}

// TestCreateCutAndRepeated: enrolment is cut around the first NV write and done again.
func TestCreateCutAndRepeated(t *testing.T) {
	for _, f := range []fault{notDone, butDone} {
		b := newBench(t)
		b.nv = &nvram{fault: f}
		if _, err := Create(context.Background(), b.path, testKey, b.nv, OfficerAdd{Name: "bob", Hash: "$argon2id$y", Duty: Chief}); !errors.Is(err, errFault) {
			t.Fatalf("Create = %v; want the injected fault", err)
		}
		b.nv.fault = works
		if f == notDone {
			s, err := Create(context.Background(), b.path, testKey, b.nv, OfficerAdd{Name: "bob", Hash: "$argon2id$y", Duty: Chief})
			if err != nil {
				t.Fatal(err)
			}
			closeStore(t, s)
		}
		if s := b.boot(t); len(s.State().Officers()) != 1 {
			t.Errorf("%d officers; want 1", len(s.State().Officers()))
		}
	}
}

// TestCallerGoneDoesNotClose: a console that hangs up in the middle of a change leaves a store that goes on.
func TestCallerGoneDoesNotClose(t *testing.T) {
	b := newBench(t)
	s := b.boot(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Commit(ctx, AccessAdd{"a", ""}); !errors.Is(err, context.Canceled) || errors.Is(err, ErrClosed) {
		t.Errorf("Commit = %v; want only that the caller is gone", err)
	}
	ctx, cancel = context.WithCancel(context.Background())
	s.log = func() (uint64, [32]byte) { cancel(); return emptyLog() } // between fsync and NV
	if _, err := s.Commit(ctx, AccessAdd{"b", ""}); err != nil {
		t.Errorf("Commit = %v", err)
	}
}

// TestAnchor: the log's position goes to NV with every commit, and by itself only when it moved.
func TestAnchor(t *testing.T) {
	b := newBench(t)
	s := b.boot(t)
	size := uint64(0)
	s.log = func() (uint64, [32]byte) { return size, [32]byte{byte(size)} }
	for _, size = range []uint64{5, 9} {
		before := b.nv.writes
		for range 3 {
			if err := s.Anchor(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if r := b.nv.record; r.LogSize != size || r.LogRoot != [32]byte{byte(size)} || b.nv.writes != before+1 {
			t.Errorf("record %+v after %d writes; want log size %d, one write", r, b.nv.writes-before, size)
		}
	}
	size = 11
	commit(t, s, AccessAdd{"a", ""})
	if b.nv.record.LogSize != 11 {
		t.Errorf("log size %d in NV after a commit; want 11", b.nv.record.LogSize)
	}
	closeStore(t, s)
	b.boot(t)
}
