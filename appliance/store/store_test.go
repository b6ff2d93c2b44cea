package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/label"
)

var testKey = [32]byte{1, 2, 3}

// An nvram is the TPM's record, which outlives every process and every disk. fault makes the next write fail, after
// the deed or instead of it.
type nvram struct {
	record label.Record
	writes int
	fault  fault
}

type fault int

const (
	works fault = iota
	notDone
	butDone
)

var errFault = errors.New("injected")

func (n *nvram) WriteRecord(_ context.Context, r label.Record) error {
	n.writes++
	if n.fault == notDone {
		return errFault
	}
	n.record = r
	if n.fault == butDone {
		return errFault
	}
	return nil
}

func noLog() (uint64, [32]byte) { return emptyLog() }

// A bench is a disk and a TPM.
type bench struct {
	path string
	nv   *nvram
}

func newBench(t testing.TB, changes ...Change) *bench {
	t.Helper()
	b := &bench{path: filepath.Join(t.TempDir(), "store.db"), nv: &nvram{}}
	changes = append([]Change{OfficerAdd{Name: "alice", Hash: "$argon2id$x", Duty: Chief}}, changes...)
	s, err := Create(context.Background(), b.path, testKey, b.nv, changes...)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

// boot opens the store and puts it into service.
func (b *bench) boot(t testing.TB) *Store {
	t.Helper()
	s, err := b.tryBoot(t)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (b *bench) tryBoot(t testing.TB) (*Store, error) {
	t.Helper()
	a, err := Open(b.path, testKey, b.nv.record)
	if err != nil {
		return nil, err
	}
	s, err := a.Boot(context.Background(), b.nv, noLog)
	if err == nil {
		t.Cleanup(func() { s.Close() })
	}
	return s, err
}

// copy reads the disk as a thief would; paste puts it back.
func (b *bench) copy(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(b.path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (b *bench) paste(t testing.TB, data []byte) {
	t.Helper()
	if err := os.Remove(b.path); err != nil { // a new file: bbolt may have died with a lock on the old one
		t.Fatal(err)
	}
	if err := os.WriteFile(b.path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func commit(t testing.TB, s *Store, changes ...Change) {
	t.Helper()
	if _, err := s.Commit(context.Background(), changes...); err != nil {
		t.Fatal(err)
	}
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func hasAccess(s *Store, id kra.AccessID) bool {
	_, ok := s.State().Access(id)
	return ok
}

func TestStatePersists(t *testing.T) {
	b := newBench(t)
	s := b.boot(t)
	commit(t, s, AccessAdd{"legal-team", "Legal team"}, TokenSet{map[string][]byte{"a/b.object": []byte("file")}},
		PINSet{User: NewSecret([]byte("1234"))})
	closeStore(t, s)

	s = b.boot(t)
	if !hasAccess(s, "legal-team") {
		t.Error("the access identifier is gone")
	}
	if f, err := s.Files(); err != nil || string(f["a/b.object"]) != "file" {
		t.Errorf("Files() = %q, %v", f, err)
	}
	if got := string(s.State().PINs().User.Bytes()); got != "1234" {
		t.Errorf("PIN = %q", got)
	}
	if s.State().Generation() != 4 {
		t.Errorf("generation = %d; want 4", s.State().Generation())
	}
}
