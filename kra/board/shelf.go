package board

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// Files of a server's folder.
const (
	advertsDir      = "adverts"     // NAME.LABEL.json
	retractionsDir  = "retractions" // NAME.LABEL.json: the last of each, so that an older advert is not posted again
	permissionsFile = "permissions.json"
	revokedFile     = "root.crl"
	maxRevoked      = 4 << 20 // bytes of a list
)

// Why a statement is not taken. The text is for who posted it: nothing here is secret.
var (
	errForeign = errors.New("it is not of this domain")
	errFull    = errors.New("the board is full")
	errOld     = errors.New("it is older than what is here")
)

// An osError is a fault of the folder, not of what was posted.
type osError struct{ err error }

func (e *osError) Error() string { return e.err.Error() }
func (e *osError) Unwrap() error { return e.err }

func disk(err error) error {
	if err == nil {
		return nil
	}
	return &osError{err}
}

// A place is a label of a platform.
type place struct {
	name  string
	label label.ID
}

func (p place) file() string { return p.name + "." + string(p.label) + ".json" }

// A shelf holds what was posted, in memory and in a folder. Whatever is in the folder is verified again when it is read. Callers take turns.
type shelf struct {
	dir    string
	domain string
	root   *x509.Certificate
	roots  *x509.CertPool // of root

	adverts     map[place]label.SignedAdvert
	retracted   map[place]label.SignedRetraction
	permissions *label.SignedPermissions
	revoked     *x509.RevocationList
}

// openShelf reads a folder, which is made if there is none. What does not verify any more is left out, and told.
func openShelf(dir, domain string, root *x509.Certificate, now time.Time, tell func(string, error)) (*shelf, error) {
	s := &shelf{dir: dir, domain: domain, root: root, roots: x509.NewCertPool(), adverts: map[place]label.SignedAdvert{}, retracted: map[place]label.SignedRetraction{}}
	s.roots.AddCert(root)
	for _, d := range []string{"", advertsDir, retractionsDir} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("open board: %w", err)
		}
	}
	if err := s.readPermissions(now); err != nil {
		return nil, fmt.Errorf("open board: %w", err)
	}
	// retractions first: they say which adverts are over
	if err := s.load(retractionsDir, tell, func(b []byte) error { return s.loadRetraction(b, now) }); err != nil {
		return nil, fmt.Errorf("open board: %w", err)
	}
	if err := s.load(advertsDir, tell, func(b []byte) error { return s.loadAdvert(b, now) }); err != nil {
		return nil, fmt.Errorf("open board: %w", err)
	}
	return s, nil
}

// load has take read each file of a folder.
func (s *shelf) load(folder string, tell func(string, error), take func([]byte) error) error {
	files, err := os.ReadDir(filepath.Join(s.dir, folder))
	if err != nil {
		return err
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") {
			continue // was being written
		}
		b, err := os.ReadFile(filepath.Join(s.dir, folder, f.Name()))
		if err == nil {
			err = take(b)
		}
		if err != nil {
			tell(filepath.Join(folder, f.Name()), err)
		}
	}
	return nil
}

// readPermissions reads the domain's words. A folder in which they are spoilt is not served: who is revoked would be forgotten.
func (s *shelf) readPermissions(now time.Time) error {
	b, err := os.ReadFile(filepath.Join(s.dir, permissionsFile))
	if err == nil {
		p, err := label.ParsePermissions(b)
		if err != nil {
			return err
		}
		if _, err := p.VerifyUnder(s.roots, now); err != nil {
			return err
		}
		s.permissions = &p
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b, err = os.ReadFile(filepath.Join(s.dir, revokedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		s.revoked, err = s.readList(b)
	}
	return err
}

func (s *shelf) loadAdvert(b []byte, now time.Time) error {
	a, err := label.ParseAdvert(b)
	if err != nil {
		return err
	}
	if _, err := s.stands(a, now); err != nil {
		return err
	}
	s.adverts[place{a.Advert.Name, a.Advert.Label}] = a
	return nil
}

func (s *shelf) loadRetraction(b []byte, now time.Time) error {
	r, err := label.ParseRetraction(b)
	if err != nil {
		return err
	}
	if _, _, err := r.Verify(s.roots, now); err != nil {
		return err
	}
	s.retracted[place{r.Retraction.Name, r.Retraction.Label}] = r
	return nil
}

// stands verifies an advert, and that it was not retracted.
func (s *shelf) stands(a label.SignedAdvert, now time.Time) (label.Offered, error) {
	o, err := a.Verify(s.roots, now)
	switch {
	case err != nil:
		return o, err
	case a.Advert.Domain != s.domain:
		return o, errForeign
	case a.Advert.Serial <= s.retracted[place{a.Advert.Name, a.Advert.Label}].Retraction.Serial:
		return o, fmt.Errorf("%w: it was retracted", errOld)
	}
	return o, nil
}

// permits says whether the domain lets a platform do what it offers, at present.
func (s *shelf) permits(o label.Offered, now time.Time) error {
	r := Reading{at: now, domain: s.domain, signed: s.permissions}
	if s.permissions != nil {
		r.permissions = s.permissions.Permissions
	}
	return r.Allows(o)
}

// shown are the adverts that stand and that the domain permits. One that it does not permit now stays on the shelf: its platform may be
// permitted again before it says anything new.
func (s *shelf) shown(now time.Time) (out []label.SignedAdvert) {
	for _, a := range s.adverts {
		if o, err := s.stands(a, now); err == nil && s.permits(o, now) == nil {
			out = append(out, a)
		}
	}
	return out
}

// put takes an advert.
func (s *shelf) put(a label.SignedAdvert, now time.Time) error {
	o, err := s.stands(a, now)
	if err == nil {
		err = s.permits(o, now)
	}
	if err != nil {
		return err
	}
	at := place{a.Advert.Name, a.Advert.Label}
	old, known := s.adverts[at]
	switch {
	case known && a.Advert.Serial <= old.Advert.Serial:
		return errOld
	case !known && len(s.adverts) >= MaxAdverts:
		return errFull
	}
	if err := s.write(filepath.Join(advertsDir, at.file()), a.Bytes()); err != nil {
		return err
	}
	s.adverts[at] = a
	return nil
}

// retract takes a retraction: the advert goes if it is not a newer one, and does not come back.
func (s *shelf) retract(r label.SignedRetraction, now time.Time) error {
	if _, _, err := r.Verify(s.roots, now); err != nil {
		return err
	}
	at := place{r.Retraction.Name, r.Retraction.Label}
	old, known := s.retracted[at]
	switch {
	case r.Retraction.Domain != s.domain:
		return errForeign
	case known && r.Retraction.Serial <= old.Retraction.Serial:
		return errOld
	case !known && len(s.retracted) >= MaxAdverts:
		return errFull
	}
	if err := s.write(filepath.Join(retractionsDir, at.file()), r.Bytes()); err != nil {
		return err
	}
	s.retracted[at] = r
	if a, ok := s.adverts[at]; ok && a.Advert.Serial <= r.Retraction.Serial {
		return s.drop(at)
	}
	return nil
}

// permit takes permissions, if they are newer ones.
func (s *shelf) permit(p label.SignedPermissions, now time.Time) error {
	got, err := p.VerifyUnder(s.roots, now)
	if err != nil {
		return err
	}
	if got.Domain != s.domain {
		return errForeign
	}
	if err := got.Current(now); err != nil {
		return err
	}
	if s.permissions != nil {
		if err := got.Follows(s.permissions.Permissions); err != nil {
			return err
		}
	}
	if err := s.write(permissionsFile, p.Bytes()); err != nil {
		return err
	}
	s.permissions = &p
	return nil
}

// revoke takes the root's list of revoked certificates, if it is a newer one.
func (s *shelf) revoke(text []byte) error {
	l, err := s.readList(text)
	if err != nil {
		return err
	}
	if s.revoked != nil && l.Number.Cmp(s.revoked.Number) < 0 {
		return errOld
	}
	if err := s.write(revokedFile, pemOf("X509 CRL", l.Raw)); err != nil {
		return err
	}
	s.revoked = l
	return nil
}

func (s *shelf) readList(text []byte) (*x509.RevocationList, error) {
	p, _ := pem.Decode(text)
	if p == nil || p.Type != "X509 CRL" {
		return nil, errors.New("read list of revoked certificates: not PEM of one")
	}
	l, err := x509.ParseRevocationList(p.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read list of revoked certificates: %w", err)
	}
	if l.Number == nil {
		return nil, errors.New("read list of revoked certificates: it has no number")
	}
	if err := l.CheckSignatureFrom(s.root); err != nil {
		return nil, fmt.Errorf("read list of revoked certificates: it is not the root's: %w", err)
	}
	return l, nil
}

// purge forgets what is over: adverts that ended, and retractions of what is over anyway.
func (s *shelf) purge(now time.Time) (err error) {
	for at, a := range s.adverts {
		if _, over := s.stands(a, now); over != nil {
			err = errors.Join(err, s.drop(at))
		}
	}
	for at, r := range s.retracted {
		if now.Sub(r.Retraction.Issued) > 2*label.MaxAdvertLife {
			delete(s.retracted, at)
			err = errors.Join(err, s.remove(filepath.Join(retractionsDir, at.file())))
		}
	}
	return err
}

func (s *shelf) drop(at place) error {
	delete(s.adverts, at)
	return s.remove(filepath.Join(advertsDir, at.file()))
}

func (s *shelf) remove(name string) error {
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return disk(err)
	}
	return disk(syncDir(filepath.Dir(filepath.Join(s.dir, name))))
}

// write returns when the file is on the disk under its name.
func (s *shelf) write(name string, data []byte) error {
	path := filepath.Join(s.dir, name)
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return disk(err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // has its name by then, if all went well
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return disk(err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return disk(err)
	}
	return disk(syncDir(filepath.Dir(path)))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
