package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyrelease/krabox/kra/label"
)

var nextKey = [32]byte{4, 5, 6}

var testLock = &Lock{Name: "00000000", Threshold: 2, Shares: []label.Digest{{1}, {2}, {3}}}

// opens says whether the file opens under a key, and otherwise why not.
func (b *bench) opens(t *testing.T, path string, key [32]byte) error {
	t.Helper()
	a, err := Open(path, key, b.nv.record)
	if err != nil {
		return err
	}
	return a.Close()
}

func (b *bench) copied(t *testing.T) string {
	t.Helper()
	all, err := os.ReadFile(b.path)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func done() error { return nil }

// TestRekey: under a fresh data key the state is the same, goes on, and no copy from before opens under the next key, nor the file under the
// key of before.
func TestRekey(t *testing.T) {
	b := newBench(t)
	s := b.boot(t)
	secret := func(key [32]byte) [32]byte {
		a, err := Open(b.path, key, b.nv.record)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		k, err := a.Secret("of the test")
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	was := secret(testKey)
	s = b.boot(t)
	for i := range 3 {
		commitTokenFiles(t, s, i*copyBatch, copyBatch-1)
	}
	root, before := s.State().root, b.copied(t)
	if err := b.opens(t, before, testKey); err != nil {
		t.Fatalf("control: a copy does not open: %v", err)
	}
	files, err := s.Files()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Rekey(nextKey, nil, done); err != nil {
		t.Fatal(err)
	}
	if s.State().root != root || s.Lock() != nil {
		t.Error("the state is another")
	}
	again, err := s.Files()
	if err != nil || len(again) != len(files) {
		t.Errorf("%d token files, %v; want %d", len(again), err, len(files))
	}
	for name, want := range files {
		if !bytes.Equal(again[name], want) {
			t.Fatalf("token file %s is another", name)
		}
	}
	if _, err := s.Commit(t.Context(), OfficerAdd{Name: "bob", Hash: "$argon2id$x", Duty: Auditor}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"the file under the key of before":   b.opens(t, b.path, testKey),
		"a copy of before under the new key": b.opens(t, before, nextKey),
	} {
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v; want damaged", name, err)
		}
	}
	if secret(nextKey) != was {
		t.Error("the secret is another")
	}
	if _, err := os.Stat(b.path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Error("something is left over")
	}
}

// commitTokenFiles commits so many small token files.
func commitTokenFiles(t *testing.T, s *Store, from, n int) {
	t.Helper()
	all := map[string][]byte{}
	for i := range n {
		all[fmt.Sprintf("%032x.object", from+i)] = []byte{byte(i), byte(i >> 8)}
	}
	if _, err := s.Commit(context.Background(), TokenSet{all}); err != nil {
		t.Fatal(err)
	}
}

// TestAttended: a state under an unlock secret opens under the TPM's key alone no more, says what it waits for, and says it in words that
// cannot be altered.
func TestAttended(t *testing.T) {
	b := newBench(t)
	s := b.boot(t)
	if err := s.Rekey(nextKey, testLock, done); err != nil {
		t.Fatal(err)
	}
	if l := s.Lock(); l == nil || l.Threshold != 2 || len(l.Shares) != 3 {
		t.Errorf("Lock = %+v", l)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var waits *Attended
	if err := b.opens(t, b.path, testKey); !errors.As(err, &waits) || len(waits.Locks) != 1 || waits.Locks[0].Shares[1] != testLock.Shares[1] {
		t.Errorf("without the secret: %v", err)
	}
	if err := b.opens(t, b.path, nextKey); err != nil {
		t.Errorf("with it: %v", err)
	}
	all, err := os.ReadFile(b.path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(all, []byte(`"threshold":2`)) {
		t.Fatal("control: what it waits for is not in the clear")
	}
	if err := os.WriteFile(b.path, bytes.ReplaceAll(all, []byte(`"threshold":2`), []byte(`"threshold":1`)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.opens(t, b.path, nextKey); !errors.As(err, &waits) {
		t.Errorf("a lock that was altered: %v", err)
	}
}

// TestRekeyIsCut: until the TPM has gone over the file opens under either key; the start after that leaves the one that it had, and the state is
// the same in both.
func TestRekeyIsCut(t *testing.T) {
	for _, was := range []*Lock{nil, testLock} {
		for _, next := range []*Lock{nil, testLock} {
			for _, key := range [][32]byte{testKey, nextKey} {
				b := newBench(t)
				s := b.boot(t)
				if err := s.Rekey(testKey, was, done); err != nil {
					t.Fatal(err)
				}
				generation, gone := s.State().Generation(), errors.New("power")
				if err := s.Rekey(nextKey, next, func() error { return gone }); !errors.Is(err, gone) || !errors.Is(err, ErrClosed) {
					t.Fatalf("Rekey = %v", err)
				}
				if _, err := s.Commit(t.Context(), OfficerAdd{Name: "bob", Hash: "$argon2id$x", Duty: Auditor}); !errors.Is(err, ErrClosed) {
					t.Errorf("a commit afterwards: %v", err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				for _, k := range [][32]byte{testKey, nextKey} {
					if err := b.opens(t, b.path, k); err != nil {
						t.Errorf("under %x: %v", k[:1], err)
					}
				}
				a, err := Open(b.path, key, b.nv.record)
				if err != nil {
					t.Fatal(err)
				}
				if s, err = a.Boot(t.Context(), b.nv, noLog); err != nil {
					t.Fatal(err)
				}
				if g := s.State().Generation(); g != generation+1 {
					t.Errorf("generation %d after %d", g, generation)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				for _, k := range [][32]byte{testKey, nextKey} {
					if err := b.opens(t, b.path, k); (err == nil) != (k == key) {
						t.Errorf("after a start under %x, under %x: %v", key[:1], k[:1], err)
					}
				}
			}
		}
	}
}

// TestRekeyWithoutRoom: when the new file cannot be written nothing has happened, and the state goes on.
func TestRekeyWithoutRoom(t *testing.T) {
	b := newBench(t)
	s := b.boot(t)
	if err := os.MkdirAll(filepath.Join(b.path+".new", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	turned := false
	if err := s.Rekey(nextKey, nil, func() error { turned = true; return nil }); err == nil || turned {
		t.Errorf("Rekey = %v, turned %v", err, turned)
	}
	if _, err := s.Commit(t.Context(), OfficerAdd{Name: "bob", Hash: "$argon2id$x", Duty: Auditor}); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.opens(t, b.path, testKey); err != nil {
		t.Error(err)
	}
}

// TestRekeyIsOwed: once a key was destroyed a renewal is owed, until the TPM has gone over: who starts with the key of before owes it still.
func TestRekeyIsOwed(t *testing.T) {
	for _, key := range [][32]byte{testKey, nextKey} {
		b := newBench(t)
		s := b.boot(t)
		k := testKeyNumbered(1)
		if _, err := s.Commit(t.Context(), KeyAdd{Key: k}); err != nil {
			t.Fatal(err)
		}
		if s.Owed() {
			t.Error("a renewal is owed for nothing")
		}
		if _, err := s.Commit(t.Context(), KeyRemove{ID: k.ID}); err != nil {
			t.Fatal(err)
		}
		if !s.Owed() {
			t.Error("a key was destroyed, and nothing is owed")
		}
		if err := s.Rekey(nextKey, nil, func() error { return errors.New("power") }); err == nil {
			t.Fatal("no error")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		a, err := Open(b.path, key, b.nv.record)
		if err != nil {
			t.Fatal(err)
		}
		if s, err = a.Boot(t.Context(), b.nv, noLog); err != nil {
			t.Fatal(err)
		}
		if s.Owed() != (key == testKey) {
			t.Errorf("after a cut renewal, started under %x: owed %v", key[:1], s.Owed())
		}
		if err := s.Rekey([32]byte{9}, nil, done); err != nil {
			t.Fatal(err)
		}
		if s.Owed() {
			t.Error("renewed, and it is still owed")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
