package appliance

import (
	"crypto/x509"
	"fmt"
	"sync/atomic"

	"github.com/keyrelease/krabox/appliance/release"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/kra/policy"
)

// A board holds what the port serves from: one snapshot of the state, replaced as a whole.
type board struct {
	domain string
	now    atomic.Pointer[posted]
}

// posted is a snapshot and the state that it was made of.
type posted struct {
	release.Snapshot
	state *store.State
}

func (b *board) snapshot() *release.Snapshot { return &b.now.Load().Snapshot }
func (b *board) book() *policy.Book          { return b.now.Load().Book }

// build makes the snapshot of a state from the present one, in time that depends on what changed; version is the
// generation that the state has or will have.
func (b *board) build(st *store.State, version uint64) (*posted, error) {
	old := b.now.Load()
	if old == nil {
		old = &posted{}
	}
	diff := st.Since(old.state)
	book, err := old.Book.Revise(version, revision(st, diff))
	if err != nil {
		return nil, err
	}
	next := &posted{release.Snapshot{Domain: b.domain, Box: st.Box().Name, Book: book, Anchors: old.Anchors, Directory: old.Directory}, st}
	if diff.Anchors || next.Anchors == nil {
		if next.Anchors, err = anchorsOf(st); err != nil {
			return nil, err
		}
	}
	if diff.Published || next.Directory == nil {
		next.Directory = release.NewDirectory(b.domain, next.Box, published{st})
	}
	return next, nil
}

// revision is what a difference means for the book.
func revision(st *store.State, diff store.Difference) (r policy.Edit) {
	for _, name := range diff.Rules {
		if x, ok := st.Rule(name); ok {
			r.Put.Rules = append(r.Put.Rules, policy.RuleDef{Name: policy.RuleName(x.Name), Expr: x.Expr})
		} else {
			r.Rules = append(r.Rules, policy.RuleName(name))
		}
	}
	for _, id := range diff.Access {
		if x, ok := st.Access(id); ok {
			r.Put.Access = append(r.Put.Access, policy.AccessDef{ID: x.ID, Title: x.Title, Keys: x.Keys, Lists: x.Lists})
		} else {
			r.Access = append(r.Access, id)
		}
	}
	for _, name := range diff.Groups {
		if x, ok := st.Group(name); ok {
			r.Put.Groups = append(r.Put.Groups, policy.GroupDef{Name: policy.GroupName(x.Name), Members: x.Members})
		} else {
			r.Gone = append(r.Gone, policy.GroupName(name))
		}
	}
	return r
}

func anchorsOf(st *store.State) (*release.Anchors, error) {
	var all []release.Anchor
	for _, a := range st.Anchors() {
		c, err := x509.ParseCertificate(a.Cert)
		if err != nil {
			return nil, fmt.Errorf("load trust anchor %q: %w", a.Alias, err)
		}
		all = append(all, release.Anchor{Alias: a.Alias, Naming: a.Naming, Certificate: c})
	}
	return release.NewAnchors(all)
}
