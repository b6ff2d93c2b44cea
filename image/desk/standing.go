package desk

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// PermissionsFile is the newest permissions of the domain, in the public part of its folder.
const PermissionsFile = "permissions.json"

// Acts about permissions, as the journal calls them.
const (
	actRevoke  = "revoke"
	actGrant   = "grant"
	actRestore = "restore"
	actPublish = "publish"

	factKey         = "key"
	factNumber      = "number"      // of the permissions that the act made
	factPermissions = "permissions" // their digest
)

// UsualValidity is how long permissions hold, unless it is said otherwise: boxes and clients stop when they have nothing newer then.
const UsualValidity = 7 * 24 * time.Hour

// A Whom says whom an act about permissions is about: all that is empty or zero stands for all, but not both name and key.
type Whom struct {
	Name   string
	Label  label.ID
	Key    label.Digest // SHA-256 of the SubjectPublicKeyInfo of a label key or attestation key
	Reason string
}

func (w Whom) entry(s label.Standing, now time.Time) label.Permission {
	return label.Permission{Name: w.Name, Label: w.Label, Key: w.Key, State: s, Since: now, Reason: w.Reason}
}

func (w Whom) String() string {
	s := w.Name
	if s == "" {
		s = "key " + w.Key.String()
	}
	if w.Label != "" {
		s += " as " + string(w.Label)
	}
	return s
}

func (w Whom) facts() map[string]string {
	facts := map[string]string{}
	for k, v := range map[string]string{"label": string(w.Label), "reason": w.Reason} {
		if v != "" {
			facts[k] = v
		}
	}
	if w.Key != (label.Digest{}) {
		facts[factKey] = w.Key.String()
	}
	return facts
}

// Revoke takes labels from a platform: in new permissions, and as far as the domain has certified it, in the root's list of revoked
// certificates, for readers that know of X.509 only.
func (d *Desk) Revoke(w Whom) (label.SignedPermissions, error) {
	now := time.Now().UTC().Truncate(time.Second)
	return d.change(actRevoke, w, func(p *label.Permissions) error {
		p.Entries = put(p.Entries, w.entry(label.Revoked, now))
		return nil
	})
}

// Grant lets a platform have labels. In mode revoke it has them anyway.
func (d *Desk) Grant(w Whom) (label.SignedPermissions, error) {
	now := time.Now().UTC().Truncate(time.Second)
	return d.change(actGrant, w, func(p *label.Permissions) error {
		e := w.entry(label.Granted, now)
		if slices.ContainsFunc(p.Entries, func(o label.Permission) bool { return o.Compare(e) == 0 && o.State == label.Revoked }) {
			return fmt.Errorf("%s is revoked: restore it first", w)
		}
		p.Entries = put(p.Entries, e)
		return nil
	})
}

// Restore takes back exactly one revocation or grant.
func (d *Desk) Restore(w Whom) (label.SignedPermissions, error) {
	return d.change(actRestore, w, func(p *label.Permissions) error {
		e := w.entry(label.Granted, time.Time{})
		left := slices.DeleteFunc(slices.Clone(p.Entries), func(o label.Permission) bool { return o.Compare(e) == 0 })
		if len(left) == len(p.Entries) {
			return fmt.Errorf("there is no word about %s; 'domain publish -list' shows all", w)
		}
		p.Entries = left
		return nil
	})
}

// A Terms is what permissions say beside their entries. What is zero stays as it was.
type Terms struct {
	Mode     label.Mode
	MinEpoch uint64 // it never goes down
	Valid    time.Duration
}

// Publish signs the permissions anew.
func (d *Desk) Publish(t Terms) (label.SignedPermissions, error) {
	return d.sign(actPublish, d.domain.Name, map[string]string{}, t, func(*label.Permissions) error { return nil })
}

func (d *Desk) change(act string, w Whom, f func(*label.Permissions) error) (label.SignedPermissions, error) {
	return d.sign(act, w.String(), w.facts(), Terms{}, f)
}

// put is the entries with one more, or another in the place of the one about the same.
func put(all []label.Permission, e label.Permission) []label.Permission {
	all = slices.DeleteFunc(slices.Clone(all), func(o label.Permission) bool { return o.Compare(e) == 0 })
	all = append(all, e)
	slices.SortFunc(all, label.Permission.Compare)
	return all
}

// sign makes the next permissions: changed, numbered, dated, signed, prepared, noted, and then put in their place.
func (d *Desk) sign(act, subject string, facts map[string]string, t Terms, f func(*label.Permissions) error) (s label.SignedPermissions, err error) {
	err = d.alone(func() error { s, err = d.signNext(act, subject, facts, t, f); return err })
	if err != nil {
		return s, fmt.Errorf("%s: %w", act, err)
	}
	return s, nil
}

func (d *Desk) signNext(act, subject string, facts map[string]string, t Terms, f func(*label.Permissions) error) (s label.SignedPermissions, err error) {
	old, err := d.Permissions()
	if err != nil {
		return s, err
	}
	p := old.Permissions
	p.Sequence++
	if err := errors.Join(t.put(&p), f(&p)); err != nil {
		return s, err
	}
	if s, err = p.Sign(d.key, d.authority); err != nil {
		return s, err
	}
	list, err := d.revocationList(p)
	if err != nil {
		return s, err
	}
	if err := d.prepare(s, list); err != nil {
		return s, err
	}
	facts[factNumber], facts[factPermissions] = strconv.FormatUint(p.Sequence, 10), p.Digest().String()
	facts["until"], facts["mode"], facts["min-epoch"] = p.Until.Format(time.RFC3339), string(p.Mode), strconv.FormatUint(p.MinEpoch, 10)
	if err := d.note(act, subject, facts); err != nil {
		return s, err
	}
	return s, d.settle()
}

// put sets dates and terms.
func (t Terms) put(p *label.Permissions) error {
	valid := t.Valid
	if valid == 0 {
		valid = UsualValidity
		if !p.Until.IsZero() {
			valid = p.Until.Sub(p.Issued)
		}
	}
	if t.Mode != "" {
		p.Mode = t.Mode
	}
	if t.MinEpoch != 0 && t.MinEpoch < p.MinEpoch {
		return fmt.Errorf("the lowest epoch is %d, and never goes down", p.MinEpoch)
	}
	p.MinEpoch = max(p.MinEpoch, t.MinEpoch)
	p.Issued = time.Now().UTC().Truncate(time.Second)
	p.Until = p.Issued.Add(valid.Truncate(time.Second))
	return nil
}
