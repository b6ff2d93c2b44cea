package inform

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
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

// A Subject is whom a source is asked about: a decryptor whose chain was verified up to its anchor.
type Subject struct {
	Decryptor kra.Decryptor
	Leaf      *x509.Certificate
	Aliases   []policy.Item // names in the leaf besides its subject, on the word of the decryptor's anchor
}

// A Server is a directory server, read as a whole in the background.
type Server interface {
	// Sync reads the directory as it is now. It ends soon after ctx does. An error, also one of a part, means that
	// there is no new image; the last one serves until it is too old.
	Sync(ctx context.Context) (Image, error)
}

// An Image is what a directory said at one time. It never changes, and is asked by many goroutines at once, without I/O.
type Image interface {
	// Lookup returns what the directory says of s; nothing if it does not know s. Authority and Via of the items are
	// left empty: the World sets them, and drops kinds that the source may not assert. An error, such as two entries of
	// the same name, makes the directory unavailable for s alone.
	Lookup(s Subject) ([]policy.Item, error)
}

// A Verifier knows the keys of one token issuer. It is asked by many goroutines at once, without I/O.
type Verifier interface {
	// Issued reports whether the token says to be of this issuer; nothing is verified yet. At most one verifier of a
	// World should say so.
	Issued(token string) bool

	// Verify checks form, signature, issuer, audience and that the token is bound to the leaf, and returns what it
	// says of its holder. It looks at no clock: the token's nbf and exp become From and Until of the items, and the
	// decision judges them. Authority and Via are left empty. Any error refuses the whole request.
	Verify(token string, leaf *x509.Certificate) ([]policy.Item, error)
}

// A Directory is a directory server whose images a World uses.
type Directory struct {
	Alias  kra.Anchor
	May    []policy.Kind
	Of     kra.Anchor // the anchor whose decryptors it knows: the same name under another anchor is somebody else
	Server Server
	Stamp  string        // changes when the source's configuration does; while it stays, its image does
	Every  time.Duration // between two looks
	MaxAge time.Duration // an older image is none
}

// An Issuer is a token issuer.
type Issuer struct {
	Alias    kra.Anchor
	May      []policy.Kind
	Verifier Verifier
}

// An Authority issues attribute certificates.
type Authority struct {
	Alias        kra.Anchor
	May          []policy.Kind
	Of           kra.Anchor // the anchor whose decryptors it speaks of
	Certificates []*x509.Certificate
	Clearances   []ClearancePolicy
}

// of reports whether the authority speaks of an anchor's decryptors. A certificate names its holder by name, or by issuer's
// name and number, and whom another anchor calls so is somebody else.
func (a Authority) of(anchor kra.Anchor) bool { return a.Of != "" && a.Of == anchor }

// A ClearancePolicy says in the box's words what the clearances of one policy mean. What it does not name means nothing.
type ClearancePolicy struct {
	Policy     asn1.ObjectIdentifier
	Levels     map[int]string // by bit of the class list
	Categories []ClearanceCategory
}

// A ClearanceCategory is a security category and the compartment that it stands for.
type ClearanceCategory struct {
	Type        asn1.ObjectIdentifier
	Value       []byte // DER; empty: any
	Compartment string
}

// A Repository is a key repository.
type Repository struct {
	Alias  kra.Anchor
	Key    repository.Key
	URL    string         // http or https, of the folder; empty: only what was pasted
	Roots  *x509.CertPool // of the server, for https
	Pasted []byte         // the file of all entries; empty: none
	Stamp  string         // as of a Directory
	Every  time.Duration
	MaxAge time.Duration // what was fetched longer ago is not known; zero: until the repository itself says
}

// A Revocation is a source of an authority's revocation lists.
type Revocation struct {
	Alias   kra.Anchor
	Of      kra.Anchor          // an anchor, or an attribute authority
	Anchors []*x509.Certificate // its certificates
	Issuer  *x509.Certificate   // who signs the lists, if not one of them: an authority between an anchor and its decryptors
	URL     string              // http or https; empty: only what was pasted
	Roots   *x509.CertPool      // of the server, for https
	Pasted  []byte              // a list; empty: none
	Stamp   string              // as of a Directory
	Every   time.Duration
	MaxAge  time.Duration // a list of longer ago is overdue, by its own date; zero: not before it says so itself
}

// parse reads a list.
func (r Revocation) parse(b []byte) (found, error) {
	list, err := crl.Parse(b, r.issuers()...)
	if err != nil {
		return found{}, err
	}
	return found{list: list.AtMost(r.MaxAge)}, nil
}

// issuers are those who may have signed a list.
func (r Revocation) issuers() []*x509.Certificate {
	if r.Issuer != nil {
		return []*x509.Certificate{r.Issuer}
	}
	return r.Anchors
}

// A Config says which sources a World has.
type Config struct {
	Names        []string // of this box, by which attribute certificates may be meant for it
	Authorities  []Authority
	Directories  []Directory
	Issuers      []Issuer
	Repositories []Repository
	Revocations  []Revocation
	Dial         Dial             // to the servers of repositories and lists
	Now          func() time.Time // by which those servers' certificates are judged; nil: this host's
}

// Check refuses sources that share an alias or lack what they cannot do without.
func (c Config) Check() error {
	var seen []kra.Anchor
	add := func(alias kra.Anchor, complete bool) error {
		if _, err := kra.ParseAnchor(string(alias)); err != nil {
			return err
		}
		if slices.Contains(seen, alias) {
			return fmt.Errorf("source %s stands twice", alias)
		}
		if !complete {
			return fmt.Errorf("source %s is incomplete", alias)
		}
		seen = append(seen, alias)
		return nil
	}
	var errs []error
	for _, a := range c.Authorities {
		errs = append(errs, add(a.Alias, len(a.Certificates) > 0 && a.Of != ""))
		for _, cert := range a.Certificates {
			if err := attrcert.CheckIssuer(cert); err != nil {
				errs = append(errs, fmt.Errorf("source %s: %w", a.Alias, err))
			}
		}
	}
	for _, d := range c.Directories {
		errs = append(errs, add(d.Alias, d.Server != nil && d.Of != "" && d.Every > 0 && d.MaxAge > 0))
	}
	for _, i := range c.Issuers {
		errs = append(errs, add(i.Alias, i.Verifier != nil))
	}
	fetched := func(alias kra.Anchor, where string) error {
		if where == "" {
			return nil
		}
		if _, err := newFetcher(where, 0, nil, Config{}); err != nil {
			return fmt.Errorf("source %s: %w", alias, err)
		}
		return nil
	}
	for _, r := range c.Repositories {
		errs = append(errs, add(r.Alias, r.Key.Valid() && (r.URL == "" || r.Every > 0)), fetched(r.Alias, r.URL))
	}
	for _, r := range c.Revocations {
		errs = append(errs, add(r.Alias, r.Of != "" && len(r.Anchors) > 0 && (r.URL == "" || r.Every > 0)), fetched(r.Alias, r.URL))
	}
	return errors.Join(errs...)
}
