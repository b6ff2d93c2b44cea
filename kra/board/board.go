// Package board is the page on which a domain's boxes and platforms advertise, and on which the domain says what they may be: the document, its
// readers, its readable form, and the server that a domain runs.
//
// Whoever keeps a board is not believed: every reader holds every entry against the domain's root.
package board

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// Limits of a board.
const (
	MaxAdverts = 1024
	MaxBoard   = 32 << 20 // bytes of the document
	maxIgnored = 100      // reasons that are told
)

// Paths of a board, at a box and at a domain's server.
const (
	PathPage        = "/"
	PathBoard       = "/v1/board"
	PathPermissions = "/v1/permissions"
	PathRevoked     = "/v1/root.crl"
	PathRoot        = "/root.pem"
	PathAdverts     = "/v1/adverts"     // POST only
	PathRetractions = "/v1/retractions" // POST only
	PathDocuments   = "/.well-known/ni/sha-256/"
)

// A Board is the document. What is in it is taken apart by readers only, so that one bad entry spoils no other.
type Board struct {
	Domain      string            `json:"domain"`
	Adverts     []json.RawMessage `json:"adverts"`               // label.SignedAdvert
	Permissions json.RawMessage   `json:"permissions,omitempty"` // label.SignedPermissions, if the domain has said anything
}

// New is the document of these adverts.
func New(domain string, adverts []label.SignedAdvert, p *label.SignedPermissions) Board {
	b := Board{Domain: domain, Adverts: []json.RawMessage{}}
	for _, a := range adverts {
		b.Adverts = append(b.Adverts, a.Bytes())
	}
	if p != nil {
		b.Permissions = p.Bytes()
	}
	return b
}

// Bytes is JSON, without white space.
func (b Board) Bytes() []byte {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(b); err != nil {
		panic("board: " + err.Error()) // it is made of documents
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// Parse reads a document. It proves nothing: Read does.
func Parse(doc []byte) (Board, error) {
	if len(doc) > MaxBoard {
		return Board{}, fmt.Errorf("parse board: more than %d bytes", MaxBoard)
	}
	var b Board
	d := json.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return Board{}, fmt.Errorf("parse board: %w", err)
	}
	if d.More() || len(b.Adverts) > MaxAdverts {
		return Board{}, fmt.Errorf("parse board: more than one document, or more than %d adverts", MaxAdverts)
	}
	return b, nil
}

// A Reading is what of a board could be verified, at one time.
type Reading struct {
	at          time.Time
	domain      string
	offers      []label.Offered
	ignored     []string
	signed      *label.SignedPermissions
	permissions label.Permissions
}

// Read verifies every entry. One that is not what it should be is ignored, and Ignored says why; permissions that are not the domain's are
// an error, since without them nobody knows who is revoked, and so are stale ones. Known are the newest permissions that the reader has seen, or none: the newer of the two count.
func (b Board) Read(roots *x509.CertPool, now time.Time, known *label.SignedPermissions) (Reading, error) {
	r, err := b.read(roots, now, known)
	if err == nil && r.signed != nil {
		err = r.permissions.Current(now)
	}
	if err != nil {
		return Reading{}, fmt.Errorf("read board: %w", err)
	}
	return r, nil
}

// read is Read of permissions that may be stale: nothing is permitted then.
func (b Board) read(roots *x509.CertPool, now time.Time, known *label.SignedPermissions) (Reading, error) {
	r := Reading{at: now, domain: b.Domain}
	if err := r.readPermissions(b, roots, known); err != nil {
		return Reading{}, err
	}
	for i, raw := range b.Adverts {
		if err := r.readAdvert(raw, roots); err != nil {
			r.ignore(fmt.Sprintf("entry %d: %v", i+1, err))
		}
	}
	slices.SortStableFunc(r.offers, func(a, b label.Offered) int {
		return strings.Compare(a.Advert().Name+"/"+string(a.Advert().Label), b.Advert().Name+"/"+string(b.Advert().Label))
	})
	return r, nil
}

func (r *Reading) readPermissions(b Board, roots *x509.CertPool, known *label.SignedPermissions) error {
	if len(b.Permissions) > 0 {
		s, err := label.ParsePermissions(b.Permissions)
		if err != nil {
			return err
		}
		p, err := s.VerifyUnder(roots, r.at)
		if err != nil {
			return err
		}
		if p.Domain != b.Domain {
			return fmt.Errorf("the board is of domain %q, its permissions of %q", b.Domain, p.Domain)
		}
		r.signed, r.permissions = &s, p
	}
	if known == nil {
		return nil
	}
	k, err := known.VerifyUnder(roots, r.at)
	if err != nil {
		return err
	}
	switch {
	case k.Domain != b.Domain:
		return fmt.Errorf("the board is of domain %q, the permissions known of %q", b.Domain, k.Domain)
	case r.signed == nil:
		return errors.New("it has no permissions, though the domain has signed some")
	}
	return r.permissions.Follows(k)
}

func (r *Reading) ignore(why string) {
	if len(r.ignored) < maxIgnored {
		r.ignored = append(r.ignored, why)
	}
}

func (r *Reading) readAdvert(raw json.RawMessage, roots *x509.CertPool) error {
	s, err := label.ParseAdvert(raw)
	if err != nil {
		return err
	}
	o, err := s.Verify(roots, r.at)
	if err != nil {
		return err
	}
	a := o.Advert()
	if a.Domain != r.domain {
		return fmt.Errorf("it is of domain %q", a.Domain)
	}
	if slices.ContainsFunc(r.offers, func(x label.Offered) bool { return x.Advert().Name == a.Name && x.Advert().Label == a.Label }) {
		return fmt.Errorf("a second one of label %q of %q", a.Label, a.Name)
	}
	if err := r.Allows(o); err != nil {
		return err
	}
	r.offers = append(r.offers, o)
	return nil
}

// Allows says whether the domain lets a platform do what it offers. Where the domain has said nothing, everybody may.
func (r Reading) Allows(o label.Offered) error {
	if r.signed == nil {
		return nil
	}
	a := o.Advert()
	if err := r.permissions.Allows(a.Label, a.Name, o.Key(), r.at, o.Attester()); err != nil {
		return err
	}
	for _, v := range o.Values() {
		if r.permissions.Runs(v.Version) == nil {
			return nil
		}
	}
	if len(o.Values()) == 0 {
		return nil
	}
	return r.permissions.Runs(o.Values()[0].Version)
}

// Domain is the domain's name, which all entries share.
func (r Reading) Domain() string { return r.domain }

// Offers are the adverts that hold and that the domain permits, by name and label.
func (r Reading) Offers() []label.Offered { return slices.Clone(r.offers) }

// Ignored says of entries that do not count why they do not.
func (r Reading) Ignored() []string { return slices.Clone(r.ignored) }

// Permissions are those of the board, verified; false if it has none.
func (r Reading) Permissions() (label.SignedPermissions, bool) {
	if r.signed == nil {
		return label.SignedPermissions{}, false
	}
	return *r.signed, true
}

// Providers are the offers to provide the service of a label: who could, by what they say and the domain vouches for and permits. Whether one does, a challenge shows.
func (r Reading) Providers(l label.ID) []label.Offered {
	return slices.DeleteFunc(r.Offers(), func(o label.Offered) bool { return o.Advert().Label != l || o.Advert().Offer != label.Provide })
}

// Participants are those who may take part in the service of a label, or of any if it is empty.
func (r Reading) Participants(l label.ID) []label.Offered {
	return slices.DeleteFunc(r.Offers(), func(o label.Offered) bool {
		return l != "" && o.Advert().Label != l || o.Advert().Offer != label.TakePart
	})
}
