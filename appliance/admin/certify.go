package admin

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// Whoever reads the directory wants every certificate in it to be valid. Those of the current keys are renewed long before they end.
const (
	certifyEvery  = time.Hour
	certifyBefore = 60 * 24 * time.Hour // of the end
	certifyWarn   = 30 * 24 * time.Hour // of it: health says so
	certifyAtOnce = 32                  // keys in one change
	certifyAgain  = 24 * time.Hour      // after what failed
)

// A certified is a certificate of a current key.
type certified struct {
	access kra.AccessID
	key    block.KeyID
	until  time.Time
}

// certificates are the ends of the certificates of current keys.
type certificates struct {
	looked time.Time           // when they were last looked at, or will have been; by no clock that anybody sets
	until  map[*byte]time.Time // by the certificate, which never changes where it lies
	first  *certified          // that ends first
}

// ending returns those that end soon or have ended, the first to end first.
func (a *Agent) ending() (soon []certified) {
	st, now := a.c.Store.State(), a.now()
	until := make(map[*byte]time.Time, len(a.certs.until))
	a.certs.first = nil
	for _, x := range st.Accesses() {
		if len(x.Keys) == 0 {
			continue
		}
		chain := st.Certificate(x.ID, x.Keys[0])
		if len(chain) == 0 || len(chain[0]) == 0 {
			continue
		}
		at := &chain[0][0]
		end, known := a.certs.until[at]
		if !known {
			leaf, err := x509.ParseCertificate(chain[0])
			if err != nil {
				continue // the state takes none that does not parse
			}
			end = leaf.NotAfter
		}
		until[at] = end
		c := certified{x.ID, x.Keys[0], end}
		if a.certs.first == nil || end.Before(a.certs.first.until) {
			a.certs.first = &c
		}
		if now.Add(certifyBefore).After(end) {
			soon = append(soon, c)
		}
	}
	a.certs.until = until
	slices.SortFunc(soon, func(x, y certified) int {
		return cmp.Or(x.until.Compare(y.until), cmp.Compare(x.access, y.access), bytes.Compare(x.key[:], y.key[:]))
	})
	return soon
}

// certify renews certificates by a trusted clock, some at once: a change costs the TPM a write.
func (a *Agent) certify(ctx context.Context) error {
	a.change.Lock()
	defer a.change.Unlock()
	if time.Since(a.certs.looked) < certifyEvery {
		return nil
	}
	a.certs.looked = time.Now()
	soon := a.ending()
	if _, err := a.trusted(); err != nil || len(soon) == 0 {
		return nil
	}
	some := soon[:min(len(soon), certifyAtOnce)]
	s := &step{a: a, ctx: ctx, officer: store.Officer{Name: byClock}, out: io.Discard, line: fmt.Sprintf("certify the key of %s", some[0].access)}
	if n := len(some) - 1; n > 0 {
		s.line += fmt.Sprintf(" and of %d more", n)
	}
	err := s.recertify(ctx, some)
	s.finish(ctx, err)
	if err != nil {
		a.certs.looked = time.Now().Add(certifyAgain - certifyEvery)
		return fmt.Errorf("%s: %w", s.line, err)
	}
	if a.ending(); len(soon) > len(some) {
		a.certs.looked = time.Time{} // the next follow
	}
	return nil
}

func (s *step) recertify(ctx context.Context, some []certified) error {
	if err := s.act(ctx); err != nil {
		return err
	}
	var changes []store.Change
	for _, c := range some {
		k, ok := s.state().Key(c.key)
		if !ok {
			return fmt.Errorf("there is no key %s", c.key)
		}
		chain, err := s.a.c.TPM.LeafKeyRelease(ctx, k.SPKI, string(c.access), usage(k.Suite))
		if err != nil {
			return err
		}
		leaf, err := x509.ParseCertificate(chain[0])
		if err != nil {
			return err
		}
		if !leaf.NotAfter.After(c.until) {
			return errOutlives
		}
		changes = append(changes, store.CertificateSet{Access: c.access, Key: c.key, Chain: chain})
	}
	return s.commit(ctx, changes...)
}

var errOutlives = errors.New("a certificate cannot outlive the box's own, which end then too; have those renewed: enrol request, at the desk domain rekey, enrol install, reboot")

// Certificates says which certificate of a current key ends first, if that is soon: it should have been renewed.
func (a *Agent) Certificates() error {
	a.change.Lock()
	defer a.change.Unlock()
	first := a.certs.first
	if first == nil || a.now().Add(certifyWarn).Before(first.until) {
		return nil
	}
	return fmt.Errorf("the certificate of the key of %s ends %s, and then nobody can encrypt to anything of this box; it is renewed by itself by a trusted clock (time show, log show), "+
		"or by access keys without the key, and then with it", first.access, stamp(first.until))
}
