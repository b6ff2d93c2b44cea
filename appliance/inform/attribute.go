package inform

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/attrcert"
	"github.com/keyrelease/krabox/kra/policy"
)

// errMissing means that an authority's word would need a revocation list that is not known now.
var errMissing = errors.New("its revocation list is missing or overdue")

// presented takes the attribute certificates of the request. They must be of an authority that the box knows, and about
// this decryptor; one that is only past, revoked or meant for another box is left out. One that can be revoked, while no list
// that counts is known, makes its authority missing.
func (r *resolver) presented() error {
	if len(r.p.Attributes) > maxAttributes {
		return fmt.Errorf("%d attribute certificates, at most %d are accepted", len(r.p.Attributes), maxAttributes)
	}
	for n, raw := range r.p.Attributes {
		var err error
		c := attrcert.Certificate{}
		if was, ok := r.world.proved.find(raw, r.p.Anchor); ok {
			c = was.signed.Certificate()
		} else {
			c, err = attrcert.Parse(raw)
		}
		if err == nil {
			err = r.certificate(c, policy.Presented)
		}
		if err != nil {
			return fmt.Errorf("attribute certificate %d: %w", n+1, err)
		}
	}
	return nil
}

// repositories takes the attribute certificates that the key repositories have for the decryptor. None of them can be an
// error of the request. While a repository cannot be read, every authority that speaks of the anchor's decryptors might say
// more there: it is missing, whatever else of it was presented. Else a requester chose what a negated rule sees.
func (r *resolver) repositories() {
	missing := false
	for _, repo := range r.world.conf.Repositories {
		image := r.world.found[repo.Alias].repository
		if image == nil || image.ValidAt(r.now) != nil {
			missing = true
			continue
		}
		for _, c := range image.Attributes(r.p.Chain[0]) {
			if err := r.certificate(c, policy.Repository); err != nil {
				r.note("attribute certificate of the repository %s: %v", repo.Alias, err)
			}
		}
	}
	if !missing {
		return
	}
	for _, a := range r.world.conf.Authorities {
		if a.of(r.p.Anchor) {
			r.lacks(a.Alias)
		}
	}
}

// certificate verifies one attribute certificate and takes what it says.
func (r *resolver) certificate(c attrcert.Certificate, via policy.Via) error {
	if slices.ContainsFunc(r.seen, func(s attrcert.Certificate) bool { return bytes.Equal(s.Raw(), c.Raw()) }) {
		return nil
	}
	r.seen = append(r.seen, c)
	by, v, err := r.verify(c)
	switch {
	case err == nil && r.trusted:
		err = v.ValidAt(r.now) // else the items' lifetimes make rules err
	case errors.Is(err, errMissing), errors.Is(err, attrcert.ErrNoList):
		r.lacks(by.Alias)
	}
	for _, skip := range []error{attrcert.ErrExpired, attrcert.ErrNotYetValid, attrcert.ErrRevoked, attrcert.ErrNoList, attrcert.ErrTarget, errMissing} {
		if errors.Is(err, skip) {
			r.note("attribute certificate %s of %s %v", c.Serial().Text(16), by.Alias, skip)
			return nil
		}
	}
	if err != nil {
		return err
	}
	r.add(by.Alias, by.May, via, r.itemsOf(by, v))
	return nil
}

// verify finds the authority whose certificate verifies c, and what it says.
func (r *resolver) verify(c attrcert.Certificate) (Authority, attrcert.Verified, error) {
	p, err := r.signed(c)
	if err != nil {
		return p.by, attrcert.Verified{}, err
	}
	v, err := p.signed.Verify(attrcert.Check{Holder: r.p.Chain[0], Targets: r.world.conf.Names, Revoked: r.world.revokedBy(p.by, r)})
	return p.by, v, err
}

// signed finds who signed c, of the authorities that speak of the anchor's decryptors. Of several failures the last one is
// told.
func (r *resolver) signed(c attrcert.Certificate) (p proof, err error) {
	if was, ok := r.world.proved.find(c.Raw(), r.p.Anchor); ok {
		return was, nil
	}
	err = errors.New("is of no attribute authority that this box knows")
	for _, a := range r.world.conf.Authorities {
		for _, cert := range a.Certificates {
			if !a.of(r.p.Anchor) || !c.IssuedBy(cert) {
				continue
			}
			p.by = a
			if p.signed, err = c.SignedBy(cert); err == nil {
				r.world.proved.keep(p, r.p.Anchor)
				return p, nil
			}
		}
	}
	return p, err
}

// revokedBy returns how to ask for revoked certificates of an authority; nil: it has no list.
func (w *World) revokedBy(a Authority, r *resolver) func(*big.Int) error {
	i := slices.IndexFunc(w.conf.Revocations, func(x Revocation) bool { return x.Of == a.Alias })
	if i < 0 {
		return nil
	}
	list := w.found[w.conf.Revocations[i].Alias].list
	return func(serial *big.Int) error {
		switch {
		case list == nil || list.Stale(r.now):
			return errMissing
		case list.Revoked(serial):
			return attrcert.ErrRevoked
		}
		return nil
	}
}

// itemsOf says in the box's words what a certificate says.
func (r *resolver) itemsOf(by Authority, v attrcert.Verified) (items []policy.Item) {
	put := func(k policy.Kind, name, value string) {
		items = append(items, policy.Item{Kind: k, Name: name, Value: value, From: v.From(), Until: v.Until()})
	}
	for _, g := range v.Groups() {
		put(policy.Group, g, "")
	}
	for _, name := range v.Roles() {
		put(policy.Role, name, "")
	}
	for _, c := range v.Clearances() {
		for _, text := range r.clearances(by, c) {
			put(policy.Clearance, "", text)
		}
	}
	for _, a := range v.Attributes() {
		for _, value := range a.Values {
			put(policy.Attribute, a.Type.String(), value)
		}
	}
	for _, what := range v.Ignored() {
		r.note("attribute certificate of %s: %s left out", by.Alias, what)
	}
	return items
}

// clearances maps a clearance to levels and compartments, one for each bit that the authority's configuration names: who
// may see secret and restricted, as some policies list both, has both.
func (r *resolver) clearances(by Authority, c attrcert.Clearance) (texts []string) {
	i := slices.IndexFunc(by.Clearances, func(p ClearancePolicy) bool { return p.Policy.Equal(c.Policy) })
	if i < 0 {
		r.note("clearance of the unknown policy %v on the word of %s is left out", c.Policy, by.Alias)
		return nil
	}
	p := by.Clearances[i]
	suffix := r.compartments(by.Alias, p, c)
	for _, bit := range c.Bits {
		level, ok := p.Levels[bit]
		if !ok {
			r.note("bit %d of a clearance of policy %v on the word of %s is left out", bit, c.Policy, by.Alias)
			continue
		}
		texts = append(texts, level+suffix)
	}
	return texts
}

// compartments returns "/a,b", sorted, each once, or "".
func (r *resolver) compartments(source kra.Anchor, p ClearancePolicy, c attrcert.Clearance) string {
	var names []string
	for _, cat := range c.Categories {
		known := false
		for _, m := range p.Categories {
			if m.Type.Equal(cat.Type) && (len(m.Value) == 0 || bytes.Equal(m.Value, cat.Value)) {
				names, known = append(names, m.Compartment), true
			}
		}
		if !known {
			r.note("security category %v of a clearance on the word of %s is left out", cat.Type, source)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return ""
	}
	return "/" + strings.Join(names, ",")
}
