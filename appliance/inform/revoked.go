package inform

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// ErrRevoked means that a certificate of a chain was revoked.
var ErrRevoked = errors.New("certificate is revoked")

// Revoked returns an error unless a verified chain still stands: ErrRevoked, or another if that must be known and is not.
// Once an anchor has a revocation list, each certificate of a chain under it must be covered by a list of its own issuer
// that is not overdue; chains under an anchor without one are not asked about.
func (w *World) Revoked(chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("check revocation: no certificate")
	}
	var lists []Revocation
	for _, r := range w.conf.Revocations {
		if slices.ContainsFunc(r.Anchors, chain[len(chain)-1].Equal) {
			lists = append(lists, r)
		}
	}
	if len(lists) == 0 {
		return nil
	}
	for i, c := range chain[:len(chain)-1] {
		if err := w.covered(lists, c, chain[i+1], now); err != nil {
			return fmt.Errorf("check revocation of %.200q: %w", c.Subject, err)
		}
	}
	return nil
}

// covered finds the issuer's list.
func (w *World) covered(lists []Revocation, c, issuer *x509.Certificate, now time.Time) error {
	err := fmt.Errorf("no revocation list of its issuer %.200q is known", issuer.Subject)
	for _, r := range lists {
		list := w.found[r.Alias].list
		if list == nil || !list.Of(issuer) {
			continue
		}
		switch {
		case list.Revoked(c.SerialNumber):
			return ErrRevoked
		case list.Stale(now):
			err = fmt.Errorf("revocation list %s is overdue since %s", r.Alias, list.Until().UTC().Format(time.DateTime))
		default:
			return nil
		}
	}
	return err
}

// Certificates returns the chains, leaf first and newest first, that the key repositories have for a decryptor, by the
// name that a request claims: with the alias of an anchor or without. Nothing in them is verified: whoever published them,
// a chain counts only if it leads to an anchor of the box.
func (w *World) Certificates(claim string) [][]*x509.Certificate {
	name := claim
	if alias, rest, ok := strings.Cut(claim, ":"); ok {
		if _, err := kra.ParseAnchor(alias); err == nil {
			name = rest
		}
	}
	var all [][]*x509.Certificate
	for _, r := range w.conf.Repositories {
		if image := w.found[r.Alias].repository; image != nil {
			all = append(all, image.Chains(name)...)
		}
	}
	return all
}
