package appliance

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/book"
	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/repository"
)

// informers is what the sources of a state are to those who resolve information; their servers are reached by dial, and their
// certificates judged by now.
func informers(domain label.Domain, st *store.State, dial dial, now func() time.Time) (inform.Config, error) {
	box := st.Box()
	c := inform.Config{Names: append([]string{domain.LabelURI(label.KeyRelease, box.Name)}, box.DNS...), Dial: dial, Now: now}
	for _, s := range st.Sources() {
		if err := inform1(&c, st, s); err != nil {
			return inform.Config{}, fmt.Errorf("source %s: %w", s.Alias, err)
		}
	}
	if err := c.Check(); err != nil {
		return inform.Config{}, err
	}
	return c, nil
}

func inform1(c *inform.Config, st *store.State, s store.Source) error {
	stamp, err := stampOf(s)
	if err != nil {
		return err
	}
	switch s.Kind() {
	case store.AttributeSource:
		a, err := authorityOf(s)
		c.Authorities = append(c.Authorities, a)
		return err
	case store.DirectorySource:
		d, err := directoryOf(s, stamp, c)
		c.Directories = append(c.Directories, d)
		return err
	case store.IssuerSource:
		i, err := issuerOf(s)
		c.Issuers = append(c.Issuers, i)
		return err
	case store.RepositorySource:
		r, err := repositoryOf(s, stamp)
		c.Repositories = append(c.Repositories, r)
		return err
	case store.RevocationSource:
		r, err := revocationOf(st, s, stamp)
		c.Revocations = append(c.Revocations, r)
		return err
	}
	return nil // services answer questions, they do not inform
}

// stampOf changes when anything of a source does, its secrets included.
func stampOf(s store.Source) (string, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("encode source: %w", err)
	}
	defer clear(b)
	return fmt.Sprintf("%x", sha256.Sum256(b)), nil
}

func certificates(ders [][]byte) (out []*x509.Certificate, err error) {
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		out = append(out, c)
	}
	return out, nil
}

// roots returns the pool of some certificates; nil, not the host's, if there are none.
func roots(ders [][]byte) (*x509.CertPool, error) {
	if len(ders) == 0 {
		return nil, nil
	}
	certs, err := certificates(ders)
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, err
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

func authorityOf(s store.Source) (inform.Authority, error) {
	certs, err := certificates(s.Attribute.Certs)
	a := inform.Authority{Alias: s.Alias, May: book.Kinds(s.May), Of: s.Attribute.Of, Certificates: certs}
	for _, p := range s.Attribute.Clearances {
		q := inform.ClearancePolicy{Policy: oid(p.Policy), Levels: map[int]string{}}
		for _, l := range p.Levels {
			q.Levels[l.Bit] = l.Level
		}
		for _, x := range p.Categories {
			q.Categories = append(q.Categories, inform.ClearanceCategory{Type: oid(x.Type), Value: x.Value, Compartment: x.Compartment})
		}
		a.Clearances = append(a.Clearances, q)
	}
	return a, err
}

// oid reads an object identifier that the store has checked.
func oid(s string) (out asn1.ObjectIdentifier) {
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil
		}
		out = append(out, n)
	}
	return out
}

func repositoryOf(s store.Source, stamp string) (inform.Repository, error) {
	x := s.Repository
	key, err := repository.ParseKey(x.Key)
	if err != nil {
		return inform.Repository{}, err
	}
	pool, err := roots(x.CA)
	return inform.Repository{Alias: s.Alias, Key: key, URL: x.URL, Roots: pool, Pasted: x.Data, Stamp: stamp,
		Every: seconds(x.Every), MaxAge: seconds(x.MaxAge)}, err
}

func revocationOf(st *store.State, s store.Source, stamp string) (inform.Revocation, error) {
	x := s.Revocation
	pool, err := roots(x.CA)
	if err != nil {
		return inform.Revocation{}, err
	}
	certs, err := certificates(certsOf(st, x.Of))
	return inform.Revocation{Alias: s.Alias, Of: x.Of, Anchors: certs, URL: x.URL, Roots: pool, Pasted: x.CRL, Stamp: stamp,
		Every: seconds(x.Every), MaxAge: seconds(x.MaxAge)}, err
}

// certsOf are those of a certification authority of decryptors, or of an attribute authority.
func certsOf(st *store.State, alias kra.Anchor) [][]byte {
	if a, ok := st.Anchor(alias); ok {
		return [][]byte{a.Cert}
	}
	if s, ok := st.Source(alias); ok && s.Attribute != nil {
		return s.Attribute.Certs
	}
	return nil
}
