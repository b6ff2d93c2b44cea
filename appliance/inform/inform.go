// Package inform resolves what is known of a decryptor, and on whose word, into one immutable snapshot before a decision.
//
//	configuration -> Keeper -> World            (background: directories, revocation lists, repositories are fetched and swapped in)
//	verified chain, what was presented -> World.Resolve -> policy.Information -> decision
//
// A World is asked without I/O and without locks. What a requester says of himself counts for nothing: each item is signed
// by, or read from, a source that the box is configured to believe, and only for the kinds that this source may assert.
package inform

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyrelease/krabox/appliance/inform/crl"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/attrcert"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/repository"
)

// BUG(inform): that a list or a repository is older than one that was known before is noticed only while the box runs. Since
// the memory of it does not outlive a restart, a host that shows an old one after a restart is believed until that is overdue:
// by its own word, or by the source's MaxAge.

// Limits of what one request presents, and of what is noted about it.
const (
	maxAttributes = 16 // attribute certificates
	maxTokens     = 8
	maxNotes      = 32
)

// A World is all that the box knows of decryptors besides its anchors, at one time. It does not change. The zero World
// knows nothing: it takes names from certificates, and nothing that is presented.
type World struct {
	conf   Config
	found  map[kra.Anchor]found // by alias of the source; what is missing or too old is not there
	proved *proved
}

// found is what a source holds: the one that fits its kind.
type found struct {
	image      Image
	list       *crl.List
	repository *repository.Image
}

// Presented is whom a World is asked about, and what came with the request.
type Presented struct {
	Chain      []*x509.Certificate // verified, leaf first, up to and with the anchor's
	Anchor     kra.Anchor          // alias of that anchor
	Decryptor  kra.Decryptor       // whom the leaf names
	Attributes [][]byte            // DER attribute certificates
	Tokens     []string
	TLS        bool         // the chain is that of the secure channel; else nobody proved to have its key
	Note       func(string) // takes what was left out and why, for the log; may be nil
}

var errNobody = errors.New("resolve information: the decryptor is not that of the chain")

// Resolve returns what is known about a decryptor. What is presented and malformed, or not signed as it should be, is an
// error of the whole request. An authority that cannot be asked is not: rules that want its word will err.
func (w *World) Resolve(p Presented, now time.Time, trusted bool) (policy.Information, error) {
	if len(p.Chain) == 0 || !p.Decryptor.Valid() || p.Anchor != p.Decryptor.Anchor() {
		return policy.Information{}, errNobody
	}
	r := resolver{world: w, p: p, now: now, trusted: trusted}
	r.aliases()
	if err := r.presented(); err != nil {
		return policy.Information{}, fmt.Errorf("resolve information: %w", err)
	}
	r.repositories()
	r.directories()
	if err := r.tokens(); err != nil {
		return policy.Information{}, fmt.Errorf("resolve information: %w", err)
	}
	return policy.NewInformation(r.items, r.missing)
}

// A resolver gathers items for one request.
type resolver struct {
	world   *World
	p       Presented
	now     time.Time
	trusted bool
	items   []policy.Item
	missing []kra.Anchor
	seen    []attrcert.Certificate
	noted   []string
}

func (r *resolver) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if r.p.Note == nil || len(r.noted) == maxNotes || slices.Contains(r.noted, text) {
		return
	}
	r.noted = append(r.noted, text)
	r.p.Note(text)
}

// lacks notes that a source cannot be asked now.
func (r *resolver) lacks(source kra.Anchor) {
	if !slices.Contains(r.missing, source) {
		r.missing = append(r.missing, source)
	}
}

// add takes items on the word of a source, those that it may assert. What is no word of any rule is left out and counted: one
// such value must not cost its holder all others.
func (r *resolver) add(source kra.Anchor, may []policy.Kind, via policy.Via, items []policy.Item) {
	odd := 0
	defer func() {
		if odd > 0 {
			r.note("%s: %d values are no words of any rule and left out", source, odd)
		}
	}()
	for _, i := range items {
		if !i.Word() {
			odd++
			continue
		}
		if !slices.Contains(may, i.Kind) {
			r.note("%s may not assert a %v: %.80q is left out", source, i.Kind, i.Name+i.Value)
			continue
		}
		i.Authority, i.Via = source, via
		r.items = append(r.items, i)
	}
}

// directories asks the images of directories that know the anchor's decryptors.
func (r *resolver) directories() {
	s := Subject{Decryptor: r.p.Decryptor, Leaf: r.p.Chain[0], Aliases: slices.Clip(slices.Clone(r.items))}
	s.Aliases = slices.DeleteFunc(s.Aliases, func(i policy.Item) bool { return i.Kind != policy.Alias || i.Authority != r.p.Anchor })
	for _, d := range r.world.conf.Directories {
		if d.Of != r.p.Anchor {
			continue
		}
		image := r.world.found[d.Alias].image
		if image == nil {
			r.lacks(d.Alias)
			continue
		}
		items, err := image.Lookup(s)
		if err != nil {
			r.note("%s: %v", d.Alias, err)
			r.lacks(d.Alias)
			continue
		}
		r.add(d.Alias, d.May, policy.Directory, items)
	}
}

// tokens has each token verified by the issuer that it names.
func (r *resolver) tokens() error {
	if len(r.p.Tokens) > maxTokens {
		return fmt.Errorf("%d tokens, at most %d are accepted", len(r.p.Tokens), maxTokens)
	}
	for n, t := range r.p.Tokens {
		i := slices.IndexFunc(r.world.conf.Issuers, func(i Issuer) bool { return i.Verifier.Issued(t) })
		if i < 0 {
			return fmt.Errorf("token %d: is of no issuer that this box knows", n+1)
		}
		by := r.world.conf.Issuers[i]
		items, err := by.Verifier.Verify(t, r.p.Chain[0])
		if err != nil {
			return fmt.Errorf("token %d of %s: %w", n+1, by.Alias, err)
		}
		r.add(by.Alias, by.May, policy.Token, items)
	}
	return nil
}
