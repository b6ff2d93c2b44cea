package hsm

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"
)

const (
	sessionsPerCore = 2
	queueLength     = 1 << 12
)

// A task is work for a session. run is called by the one goroutine that owns the session.
type task interface{ run(*session) }

// call makes a task of a function.
type call func(*session)

func (f call) run(s *session) { f(s) }

// A pool is the sessions of a token, each owned by one goroutine for as long as it lives: sessions shared by
// goroutines crash modules.
type pool struct {
	tasks chan task
	idle  sync.WaitGroup // the goroutines
	busy  []atomic.Int64 // since when each goroutine has been inside a task, in Unix nanoseconds; 0 idle

	gate   sync.RWMutex // held for reading while a task is handed in, for writing to close
	closed bool
}

// newPool opens the sessions. On failure it leaves none open.
func newPool(t *token) (*pool, error) {
	n := sessionsPerCore * runtime.NumCPU()
	p := &pool{tasks: make(chan task, queueLength), busy: make([]atomic.Int64, n)}
	sessions := make([]*session, n)
	for i := range sessions {
		h, err := t.openSession()
		if err != nil {
			for _, s := range sessions[:i] {
				_ = t.lib.CloseSession(s.handle) // the first error is the one to report
			}
			return nil, fmt.Errorf("open session %d of %d: %w", i+1, n, err)
		}
		sessions[i] = &session{token: t, lib: t.lib, handle: h}
	}
	for i, s := range sessions {
		p.idle.Go(func() { p.serve(s, &p.busy[i]) })
	}
	return p, nil
}

func (p *pool) serve(s *session, busy *atomic.Int64) {
	for t := range p.tasks {
		busy.Store(time.Now().UnixNano())
		t.run(s)
		busy.Store(0)
	}
}

// submit hands t to as many sessions as copies says. It reports false, having done nothing, when the pool is closed.
func (p *pool) submit(t task, copies int) bool {
	p.gate.RLock()
	defer p.gate.RUnlock()
	if p.closed {
		return false
	}
	for range min(copies, len(p.busy)) {
		p.tasks <- t
	}
	return true
}

// yield puts t back at the end of the queue, if others wait there.
func (p *pool) yield(t task) bool {
	if !p.gate.TryRLock() {
		return false // it closes, or somebody wants to be alone and waits for t to end
	}
	defer p.gate.RUnlock()
	if p.closed || len(p.tasks) == 0 {
		return false
	}
	select {
	case p.tasks <- t:
		return true
	default:
		return false
	}
}

// alone runs f on one session while the others rest: what was handed in before is finished, what comes waits. It reports
// false, having done nothing, when the pool is closed.
func (p *pool) alone(f func(*session)) bool {
	p.gate.Lock()
	defer p.gate.Unlock()
	if p.closed {
		return false
	}
	var resting sync.WaitGroup
	over := make(chan struct{})
	defer close(over)
	for range len(p.busy) - 1 {
		resting.Add(1)
		p.tasks <- call(func(*session) { resting.Done(); <-over })
	}
	done := make(chan struct{})
	p.tasks <- call(func(s *session) { defer close(done); resting.Wait(); f(s) })
	<-done
	return true
}

// close waits for the tasks that were handed in.
func (p *pool) close() {
	p.gate.Lock()
	if !p.closed {
		p.closed = true
		close(p.tasks)
	}
	p.gate.Unlock()
	p.idle.Wait()
}

// stuck reports whether a session has been inside one call for longer than limit. PKCS#11 calls cannot be cancelled:
// only a new process helps.
func (p *pool) stuck(limit time.Duration, now time.Time) bool {
	for i := range p.busy {
		if since := p.busy[i].Load(); since != 0 && now.Sub(time.Unix(0, since)) > limit {
			return true
		}
	}
	return false
}

// A session is one PKCS#11 session. Only the goroutine that owns it may touch it.
type session struct {
	token  *token
	lib    *p11.Ctx
	handle p11.SessionHandle
	alone  bool // its task holds token.objects for writing
}
