package admin

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/receipt"
)

// How often statements may change groups. Each change is a write to the TPM's NV memory, which endures some 100,000: at
// this pace they last a year of statements without a pause. Of one maintainer the box takes less, so that none uses up what
// there is for all; and there statements count that fail, too, for what becomes of them is in the log.
const (
	maxStatements  = 60 // at once
	statementEvery = 5 * time.Minute
	maxOwn         = 12 // at once, of one maintainer
	ownEvery       = 15 * time.Minute
)

// Maintenance changes groups on the word of their maintainers, as it comes through the port. Its methods may be called by
// many goroutines.
type Maintenance struct {
	a   *Agent
	all pace
	own paces
}

// NewMaintenance returns the maintenance of an enrolled agent's groups.
func (a *Agent) NewMaintenance() *Maintenance {
	return &Maintenance{a: a, all: pace{most: maxStatements, every: statementEvery}}
}

// A pace lets so many through at once, and more as time passes. It begins with all of them.
type pace struct {
	most  int
	every time.Duration

	mu     sync.Mutex
	tokens int
	last   time.Time
}

func (p *pace) step(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refill(now)
	if p.tokens == 0 {
		return false
	}
	p.tokens--
	return true
}

// refill has mu.
func (p *pace) refill(now time.Time) {
	if n := int(now.Sub(p.last) / p.every); n > 0 {
		p.tokens, p.last = min(p.most, p.tokens+n), now
	}
}

// rested reports whether nothing is left of what went through: a new pace would be the same.
func (p *pace) rested(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refill(now)
	return p.tokens == p.most
}

// paces are a pace for each maintainer who stated something of late. There are no more of them than maintainers.
type paces struct {
	mu sync.Mutex
	of map[string]*pace
}

func (p *paces) step(who string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[who] == nil {
		maps.DeleteFunc(p.of, func(_ string, old *pace) bool { return old.rested(now) })
		if p.of == nil {
			p.of = map[string]*pace{}
		}
		p.of[who] = &pace{most: maxOwn, every: ownEvery}
	}
	return p.of[who].step(now)
}

var (
	errNotTheirs = errors.New("is no maintainer of such a group")
	errPace      = errors.New("more statements than the box takes; try again later")
	errOwnPace   = errors.New("more statements than the box takes of one maintainer; try again later")
)

// Show returns a page of a group for a decryptor who maintains it.
func (m *Maintenance) Show(who kra.Decryptor, group, after string) (kra.GroupState, error) {
	g, ok := m.a.c.Store.State().Group(group)
	if !ok || !maintainedBy(g, who) {
		return kra.GroupState{}, errNotTheirs
	}
	out := kra.GroupState{Group: g.Name, Version: g.Version, Size: len(g.Members)}
	at, found := slices.BinarySearch(g.Members, after)
	if found {
		at++
	}
	end := min(at+kra.MaxGroupPage, len(g.Members))
	out.Members, out.More = g.Members[at:end], end < len(g.Members)
	return out, nil
}

func maintainedBy(g store.Group, who kra.Decryptor) bool {
	_, ok := slices.BinarySearch(g.Maintainers, who.String())
	return ok && who.Valid()
}

// A maintenanceRecord is the private part of the records of a statement.
type maintenanceRecord struct {
	Maintainer  string          `json:"maintainer"`
	Certificate []byte          `json:"certificate,omitempty"` // DER, with the statement
	Statement   json.RawMessage `json:"statement,omitempty"`   // as it was signed
	Stage       string          `json:"stage"`
	Detail      string          `json:"detail,omitempty"`
}

// Edit does what a maintainer states whose certificate the port has verified, and nothing else: the statement is in the
// log before it has any effect, and what came of it afterwards.
func (m *Maintenance) Edit(ctx context.Context, who kra.Decryptor, cert *x509.Certificate, e kra.GroupEdit) (kra.GroupState, error) {
	if err := e.Verify(m.a.c.Domain.Name, m.a.c.Store.State().Box().Name, cert); err != nil {
		return kra.GroupState{}, err
	}
	m.a.change.Lock()
	defer m.a.change.Unlock()
	if g, ok := m.a.c.Store.State().Group(e.Group()); !ok || !maintainedBy(g, who) {
		return kra.GroupState{}, errNotTheirs
	}
	if !m.own.step(who.String(), time.Now()) {
		return kra.GroupState{}, errOwnPace // not in the log: that is what the pace spares
	}
	ctx = context.WithoutCancel(ctx) // a change is not left half done because the maintainer went away
	statement, err := e.Encode()
	if err != nil {
		return kra.GroupState{}, err
	}
	change := store.GroupEdit{Group: e.Group(), Add: e.Add(), Remove: e.Remove(), Version: e.Version(), By: who.String()}
	begin := func(ctx context.Context) error {
		return m.record(ctx, maintenanceRecord{Maintainer: who.String(), Certificate: cert.Raw, Statement: statement, Stage: stageAsked})
	}
	if _, err = store.Apply(m.a.c.Store.State(), change); err == nil && !m.all.step(time.Now()) {
		err = errPace
	}
	if err == nil {
		err = m.a.commit(ctx, begin, change)
	}
	outcome := maintenanceRecord{Maintainer: who.String(), Stage: stageDone, Detail: e.Group()}
	if err != nil {
		outcome.Stage, outcome.Detail = stageFailed, clip(fmt.Sprintf("%s: %v", e.Group(), err))
	}
	if err := errors.Join(err, m.record(ctx, outcome)); err != nil {
		return kra.GroupState{}, err
	}
	g, _ := m.a.c.Store.State().Group(e.Group())
	return kra.GroupState{Group: g.Name, Version: g.Version, Size: len(g.Members)}, nil
}

func (m *Maintenance) record(ctx context.Context, r maintenanceRecord) error {
	_, err := m.a.c.Log.Append(ctx, audit.Entry{Kind: receipt.Command, Private: r})
	return err
}
