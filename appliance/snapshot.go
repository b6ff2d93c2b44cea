package appliance

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"sync/atomic"

	"github.com/keyrelease/krabox/appliance/release"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/policy"
)

// A board holds what the port serves from: one snapshot of the state, replaced as a whole.
type board struct {
	domain string
	now    atomic.Pointer[release.Snapshot]
}

func (b *board) snapshot() *release.Snapshot { return b.now.Load() }
func (b *board) book() *policy.Book          { return b.now.Load().Book }

// build makes the snapshot of a state; version is the generation that the state has or will have.
func (b *board) build(st *store.State, version uint64) (*release.Snapshot, error) {
	var before *policy.Book
	if old := b.now.Load(); old != nil {
		before = old.Book
	}
	book, err := policy.Compile(version, definition(st), before)
	if err != nil {
		return nil, err
	}
	anchors, err := anchorsOf(st)
	if err != nil {
		return nil, err
	}
	box := st.Box().Name
	dir, err := release.NewDirectory(kra.Directory{Domain: b.domain, Box: box, Keys: publicKeys(st)})
	if err != nil {
		return nil, err
	}
	return &release.Snapshot{Domain: b.domain, Box: box, Book: book, Anchors: anchors, Directory: dir}, nil
}

// definition is the part of a state that decides.
func definition(st *store.State) (d policy.Definition) {
	for _, r := range st.Rules() {
		d.Rules = append(d.Rules, policy.RuleDef{Name: policy.RuleName(r.Name), Expr: r.Expr})
	}
	for _, a := range st.Accesses() {
		d.Access = append(d.Access, policy.AccessDef{ID: a.ID, Title: a.Title, Keys: a.Keys, Lists: a.Lists})
	}
	for _, g := range st.Groups() {
		d.Groups = append(d.Groups, policy.GroupDef{Name: policy.GroupName(g.Name), Members: g.Members})
	}
	return d
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

// publicKeys lists the current, certified key of every access identifier that has one.
func publicKeys(st *store.State) (out []kra.PublicKey) {
	for _, a := range st.Accesses() {
		if len(a.Keys) == 0 {
			continue
		}
		k, ok := st.Key(a.Keys[0])
		chain := st.Certificate(a.ID, a.Keys[0])
		if !ok || len(chain) == 0 {
			continue
		}
		out = append(out, kra.PublicKey{Access: a.ID, Title: a.Title, KeyID: k.ID.String(), Suite: k.Suite.Wraps().String(), Certificate: pemChain(chain)})
	}
	return out
}

func pemChain(chain [][]byte) string {
	var b bytes.Buffer
	for _, der := range chain {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return b.String()
}
