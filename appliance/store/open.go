package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/keyrelease/krabox/kra/label"
)

// A Rollback is why a whole and undamaged state is not accepted: it is not the one that the TPM's record is about.
type Rollback struct {
	Disk uint64 // generation of the state on the disk; 0 if there is none
	NV   uint64 // generation in the TPM's record
}

func (r *Rollback) Error() string {
	switch {
	case r.Disk == 0:
		return fmt.Sprintf("state missing: the TPM remembers generation %d", r.NV)
	case r.Disk < r.NV:
		return fmt.Sprintf("state rolled back: generation %d on the disk, %d in the TPM", r.Disk, r.NV)
	case r.Disk == r.NV:
		return fmt.Sprintf("state forked: generation %d on the disk is not the one that the TPM remembers", r.Disk)
	}
	return fmt.Sprintf("state forked: generation %d on the disk does not follow generation %d of the TPM", r.Disk, r.NV)
}

// Create makes the state of a box that enters service and writes the first NV record, which completes the enrolment.
// It replaces what an enrolment that was cut has left: call it only for a box without an NV record.
func Create(ctx context.Context, path string, key [32]byte, nv recorder, changes ...Change) (*Store, error) {
	first, err := Apply(newState(), changes...)
	if err != nil {
		return nil, err
	}
	m := mark{Generation: 1}
	rand.Read(m.Fresh[:])
	first.stamp(m)
	f, err := createFile(path, key, first)
	if err != nil {
		return nil, fmt.Errorf("create state: %w", err)
	}
	first.edits = nil
	s := &Store{nv: nv, log: emptyLog, dir: filepath.Dir(path), file: f}
	if err := s.record(ctx, first); err != nil {
		return nil, errors.Join(fmt.Errorf("create state: %w", err), f.close())
	}
	s.state.Store(first)
	return s, nil
}

// emptyLog is the position of a log without records: its root, RFC 6962, is the hash of nothing.
func emptyLog() (uint64, [32]byte) { return 0, sha256.Sum256(nil) }

// An Accepted is a state that the TPM's record is about, not yet in service. Only Open makes one.
type Accepted struct {
	file  *file
	state *State
	nv    label.Record
}

// Open reads the state at path and accepts it if NV holds its root or the root that it names as prev. A *Rollback says
// that it is another state, ErrDamaged that the file was edited or belongs to another box, an *Attended that it wants shares too.
func Open(path string, key [32]byte, nv label.Record) (*Accepted, error) {
	f, st, err := openFile(path, key)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open state: %w", &Rollback{NV: nv.Generation})
	}
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	if !accepts(nv, st) {
		return nil, errors.Join(fmt.Errorf("open state: %w", &Rollback{Disk: st.mark.Generation, NV: nv.Generation}), f.close())
	}
	return &Accepted{file: f, state: st, nv: nv}, nil
}

// accepts is the rule: the state itself, or one that was written when NV held what it holds now.
func accepts(nv label.Record, st *State) bool {
	if nv.Generation == 0 { // never written: no state has been acknowledged, so none is accepted
		return false
	}
	return st.root == nv.Root && st.mark.Generation == nv.Generation ||
		st.mark.Prev == nv.Root && st.mark.Generation > nv.Generation
}

// State returns the accepted state.
func (a *Accepted) State() *State { return a.state }

// Files returns the token's files.
func (a *Accepted) Files() (map[string][]byte, error) { return a.file.files() }

// Close gives up the state without putting it into service.
func (a *Accepted) Close() error { return a.file.close() }

// Boot puts the state into service: it applies changes, writes a state that no other copy can have, and records it and
// the log's position in NV, before anything is served. The caller has compared the log with the NV record.
func (a *Accepted) Boot(ctx context.Context, nv recorder, log Position, changes ...Change) (*Store, error) {
	next, err := Apply(a.state, changes...)
	if err != nil {
		return nil, err
	}
	if err := a.file.settle(); err != nil { // the key that opened it is the one in force
		return nil, errors.Join(fmt.Errorf("boot state: %w", err), a.file.close())
	}
	s := &Store{nv: nv, log: log, dir: filepath.Dir(a.file.path), file: a.file, recorded: a.nv}
	s.state.Store(a.state)
	if err := s.advance(ctx, next); err != nil {
		return nil, errors.Join(fmt.Errorf("boot state: %w", s.fail(err)), a.file.close())
	}
	return s, nil
}

// Files returns the token's files as last committed.
func (s *Store) Files() (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil {
		return nil, s.closed
	}
	return s.file.files()
}
