package admin

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/receipt"
)

// How often statements may change groups. Each change is a write to the TPM's NV memory, which endures some 100,000: at
// this pace they last a year of statements without a pause.
const (
	maxStatements  = 60 // at once
	statementEvery = 5 * time.Minute
)

// Maintenance changes groups on the word of their maintainers, as it comes through the port. Its methods may be called by
// many goroutines.
type Maintenance struct {
	a    *Agent
	pace pace
}

// NewMaintenance returns the maintenance of an enrolled agent's groups.
func (a *Agent) NewMaintenance() *Maintenance {
	return &Maintenance{a: a, pace: pace{tokens: maxStatements}}
}

// A pace lets so many through at once, and more as time passes.
type pace struct {
	mu     sync.Mutex
	tokens int
	last   time.Time
}

func (p *pace) step(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := int(now.Sub(p.last) / statementEvery); n > 0 {
		p.tokens, p.last = min(maxStatements, p.tokens+n), now
	}
	if p.tokens == 0 {
		return false
	}
	p.tokens--
	return true
}

var (
	errNotTheirs = errors.New("is no maintainer of such a group")
	errPace      = errors.New("more statements than the box takes; try again later")
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
	ctx = context.WithoutCancel(ctx) // a change is not left half done because the maintainer went away
	statement, err := e.Encode()
	if err != nil {
		return kra.GroupState{}, err
	}
	change := store.GroupEdit{Group: e.Group(), Add: e.Add(), Remove: e.Remove(), Version: e.Version(), By: who.String()}
	begin := func(ctx context.Context) error {
		return m.record(ctx, maintenanceRecord{Maintainer: who.String(), Certificate: cert.Raw, Statement: statement, Stage: stageAsked})
	}
	if _, err = store.Apply(m.a.c.Store.State(), change); err == nil && !m.pace.step(time.Now()) {
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
