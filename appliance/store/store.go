// Package store keeps the sealed state of a box: every record encrypted in a bbolt file, one root over all of them, and
// the root bound to the TPM's NV record, so that no older or other copy is ever taken for the present one.
//
//	Create ─────────────────────────────────────────┐
//	                                                ▼
//	Open ──► Accepted ── Boot: fresh state, NV ──► Store ── Commit: Apply ─► fsync ─► NV write ─► acknowledge
//	  └────► *Rollback                                └── any error after Apply: closed until opened again
//
// A state names the root that NV held when it was written (prev). At start a state is accepted if NV holds its own root,
// or its prev: the power may go between fsync and NV. Boot then writes a state that no other copy can have (fresh), so
// that of two states with the same prev only the one that went on is ever accepted again.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// ErrClosed is wrapped by every error after Close, and after a failure that left open what the disk and the TPM hold:
// the change may or may not be there when the store is opened again.
var ErrClosed = errors.New("the store is closed; restart to find out what it holds")

// recordTimeout bounds one NV write; a restart of tpmd fits into it.
const recordTimeout = 30 * time.Second

// A recorder writes the TPM's NV record. It returns nil only when the record is written; after an error nothing is
// known.
type recorder interface {
	WriteRecord(ctx context.Context, r label.Record) error
}

// A Position returns how much of the log is durable: its size and the root of that prefix.
type Position func() (size uint64, root [32]byte)

// A Store is the state of a box in service. Its methods may be called from any number of goroutines; State never
// waits.
type Store struct {
	nv  recorder
	log Position
	dir string // of the file

	mu       sync.Mutex // one writer
	file     *file
	closed   error        // what every later Commit and Anchor says
	recorded label.Record // what NV holds

	state  atomic.Pointer[State]
	broken atomic.Pointer[error] // closed, for readers that do not wait
}

// State returns the last acknowledged state, which never changes.
func (s *Store) State() *State { return s.state.Load() }

// Record returns what was last written to NV.
func (s *Store) Record() label.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recorded
}

// Commit applies the changes as one and returns the new state when it is durable and recorded in NV. An *Invalid error
// and an ErrFull mean that nothing happened; any other that the store is closed.
func (s *Store) Commit(ctx context.Context, changes ...Change) (*State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(ctx); err != nil {
		return nil, fmt.Errorf("commit state: %w", err)
	}
	next, err := Apply(s.State(), changes...)
	if err != nil {
		return nil, err
	}
	if err := s.file.room(next); err != nil {
		return nil, fmt.Errorf("commit state: %w", err)
	}
	if err := s.advance(ctx, next); err != nil {
		return nil, fmt.Errorf("commit state: %w", s.fail(err))
	}
	return s.State(), nil
}

// Anchor records the log's present position in NV, if it has moved. The state stays as it is.
func (s *Store) Anchor(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(ctx); err != nil {
		return fmt.Errorf("anchor log: %w", err)
	}
	if size, root := s.log(); size == s.recorded.LogSize && root == s.recorded.LogRoot {
		return nil
	}
	if err := s.record(ctx, s.State()); err != nil {
		return fmt.Errorf("anchor log: %w", s.fail(err))
	}
	return nil
}

// Health returns nil while the store can be changed, and otherwise why not. It waits for no commit.
func (s *Store) Health() error {
	if err := s.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// Close ends the store. What was acknowledged stays.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed == nil {
		s.end(ErrClosed)
	}
	return s.file.close()
}

func (s *Store) ready(ctx context.Context) error {
	if s.closed != nil {
		return s.closed
	}
	return ctx.Err()
}

func (s *Store) fail(err error) error {
	s.end(fmt.Errorf("%w: %w", ErrClosed, err))
	return s.closed
}

// end closes the store for all that comes. It needs mu, or a store that nobody else has yet.
func (s *Store) end(err error) {
	s.closed = err
	s.broken.Store(&err)
}

// advance makes next, a draft, the state: durable, recorded, published, in this order.
func (s *Store) advance(ctx context.Context, next *State) error {
	m := mark{Generation: max(s.State().mark.Generation, s.recorded.Generation) + 1, Prev: s.recorded.Root}
	rand.Read(m.Fresh[:])
	next.stamp(m)
	if err := s.file.write(next); err != nil {
		return err
	}
	next.edits = nil
	if err := s.record(ctx, next); err != nil {
		return err
	}
	s.state.Store(next)
	return nil
}

// record writes NV for a state that is durable. A caller that goes away does not stop it half-way: that would leave
// open what NV holds.
func (s *Store) record(ctx context.Context, st *State) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	size, root := s.log()
	r := label.Record{Generation: st.mark.Generation, Root: st.root, LogSize: size, LogRoot: root}
	if err := s.nv.WriteRecord(ctx, r); err != nil {
		return fmt.Errorf("write NV record: %w", err)
	}
	s.recorded = r
	return nil
}
