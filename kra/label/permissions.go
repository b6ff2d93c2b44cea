package label

import (
	"cmp"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	permissionsContext = "kra/permissions/v1"
	permissionsBlock   = "KRA PERMISSIONS"
)

// Limits of permissions.
const (
	MaxPermissions     = 1024                 // entries
	MaxPermissionsLife = 366 * 24 * time.Hour // between issued and until
	clockSlack         = 5 * time.Minute      // of clocks that are a little behind the desk's
)

// A Mode says what the absence of an entry means.
type Mode string

const (
	Attest Mode = "attest" // who is not granted may not
	Revoke Mode = "revoke" // who is not revoked may
)

// A Standing is what an entry says.
type Standing string

const (
	Granted Standing = "granted"
	Revoked Standing = "revoked"
)

// A Permission grants or revokes labels of platforms. What is empty or zero stands for all: but not both name and key.
type Permission struct {
	Name   string    `json:"name"`   // of the box or platform
	Label  ID        `json:"label"`  // of its labels
	Key    Digest    `json:"key"`    // SHA-256 of the SubjectPublicKeyInfo of its label key or attestation key
	State  Standing  `json:"state"`  //
	Since  time.Time `json:"since"`  // UTC, whole seconds; a grant does not count before
	Reason string    `json:"reason"` // for people; may be empty
}

// Permissions are what a domain lets its boxes and platforms be, from one time to another. They replace whatever of a lower sequence
// was known before.
type Permissions struct {
	Domain   string       `json:"domain"`
	Sequence uint64       `json:"sequence"` // 1 for the first, and never lower than one seen
	Issued   time.Time    `json:"issued"`   // UTC, whole seconds
	Until    time.Time    `json:"until"`    // whoever has nothing newer then, has nothing
	Mode     Mode         `json:"mode"`
	MinEpoch uint64       `json:"minEpoch"` // releases of a lower epoch are not believed; zero: any
	Entries  []Permission `json:"entries"`  // sorted by name, label and key; each of these once
}

// SignedPermissions are permissions with K_label's signature, r and s of 32 bytes each, over SHA-256("kra/permissions/v1", 0, permissions),
// and the certificate of that key.
type SignedPermissions struct {
	Permissions Permissions `json:"permissions"`
	Authority   []byte      `json:"authority"` // DER
	Signature   []byte      `json:"signature"`
}

// Why permissions do not allow something.
var (
	ErrStale      = errors.New("permissions are stale")
	ErrEarly      = errors.New("permissions are not valid yet")
	ErrRevoked    = errors.New("revoked by the domain")
	ErrNotGranted = errors.New("not granted by the domain")
	ErrOldRelease = errors.New("release is below the lowest epoch of the domain")
	ErrRolledBack = errors.New("permissions are older than ones seen before")
)

func (e Permission) check() error {
	switch {
	case e.Name == "" && e.Key == Digest{}:
		return errors.New("an entry has neither name nor key")
	case e.Name != "" && !namePattern.MatchString(e.Name) || e.Label != "" && !namePattern.MatchString(string(e.Label)):
		return errors.New("an entry's name or label is not one")
	case e.State != Granted && e.State != Revoked:
		return fmt.Errorf("an entry of %q is neither granted nor revoked", e.Name)
	case !wholeUTC(e.Since):
		return fmt.Errorf("an entry of %q: since is not in whole seconds of UTC", e.Name)
	case e.Reason != "" && !printable(e.Reason, MaxDescription):
		return fmt.Errorf("an entry of %q: its reason is not printable, or over %d bytes", e.Name, MaxDescription)
	}
	return nil
}

// Compare orders entries by name, label and key.
func (e Permission) Compare(o Permission) int {
	return cmp.Or(cmp.Compare(e.Name, o.Name), cmp.Compare(e.Label, o.Label), slices.Compare(e.Key[:], o.Key[:]))
}

func wholeUTC(t time.Time) bool {
	return t.Location() == time.UTC && t.Nanosecond() == 0 && t.Year() >= 1970 && t.Year() <= 9999
}

func (p Permissions) check() error {
	switch {
	case !hostName(p.Domain):
		return errors.New("domain is not a host name")
	case p.Sequence == 0:
		return errors.New("sequence is zero")
	case !wholeUTC(p.Issued) || !wholeUTC(p.Until):
		return errors.New("issued or until is not in whole seconds of UTC")
	case !p.Issued.Before(p.Until) || p.Until.Sub(p.Issued) > MaxPermissionsLife:
		return fmt.Errorf("until is not after issued, or more than %d days", MaxPermissionsLife/(24*time.Hour))
	case p.Mode != Attest && p.Mode != Revoke:
		return errors.New("mode is neither attest nor revoke")
	case p.Entries == nil || len(p.Entries) > MaxPermissions:
		return fmt.Errorf("entries are null or more than %d", MaxPermissions)
	}
	for i, e := range p.Entries {
		if err := e.check(); err != nil {
			return err
		}
		if i > 0 && p.Entries[i-1].Compare(e) >= 0 {
			return errors.New("entries are not sorted, or one is there twice")
		}
	}
	return nil
}

// covers says that an entry is about a label of a platform with one of these keys.
func (e Permission) covers(l ID, name string, keys []Digest) bool {
	return (e.Name == "" || e.Name == name) && (e.Label == "" || e.Label == l) && (e.Key == Digest{} || slices.Contains(keys, e.Key))
}

// Current says that the permissions hold at this time: an error is ErrStale or ErrEarly.
func (p Permissions) Current(at time.Time) error {
	switch {
	case p.Sequence == 0:
		return fmt.Errorf("%w: there are none", ErrStale)
	case at.Before(p.Issued.Add(-clockSlack)):
		return fmt.Errorf("%w: number %d was issued %s", ErrEarly, p.Sequence, p.Issued.Format(time.RFC3339))
	case !at.Before(p.Until):
		return fmt.Errorf("%w: number %d held until %s", ErrStale, p.Sequence, p.Until.Format(time.RFC3339))
	}
	return nil
}

// Allows says whether the platform with this name and label key may be this label at this time; more are further keys of it, such as
// its attestation key. A revocation counts from when it is read, and against any grant. The error is one of ErrStale, ErrEarly,
// ErrRevoked and ErrNotGranted. The zero value allows nothing.
func (p Permissions) Allows(l ID, name string, key Digest, at time.Time, more ...Digest) error {
	if err := p.Current(at); err != nil {
		return err
	}
	granted := false
	keys := append([]Digest{key}, more...)
	for _, e := range p.Entries {
		switch {
		case !e.covers(l, name, keys):
		case e.State == Revoked:
			return fmt.Errorf("%w: label %q of %q since %s%s", ErrRevoked, l, name, e.Since.Format(time.RFC3339), because(e.Reason))
		case !at.Before(e.Since.Add(-clockSlack)):
			granted = true
		}
	}
	if p.Mode != Revoke && !granted {
		return fmt.Errorf("%w: label %q of %q", ErrNotGranted, l, name)
	}
	return nil
}

// Revocation returns the entry by which a platform with this name and label key is this label no more, whether the permissions are
// current or not; false if there is none.
func (p Permissions) Revocation(l ID, name string, key Digest) (Permission, bool) {
	i := slices.IndexFunc(p.Entries, func(e Permission) bool { return e.State == Revoked && e.covers(l, name, []Digest{key}) })
	if i < 0 {
		return Permission{}, false
	}
	return p.Entries[i], true
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

// Runs says whether a release of this epoch may be believed.
func (p Permissions) Runs(epoch uint64) error {
	if epoch < p.MinEpoch {
		return fmt.Errorf("%w: it is of epoch %d, the lowest is %d", ErrOldRelease, epoch, p.MinEpoch)
	}
	return nil
}

func (p Permissions) signed() [32]byte { return digestOf(permissionsContext, p) }

// Digest names the permissions: it is what K_label signs.
func (p Permissions) Digest() Digest { return p.signed() }

// Follows says whether p may replace what was known: the same, or of a higher sequence. Whoever asks keeps the highest he saw.
func (p Permissions) Follows(known Permissions) error {
	switch {
	case p.Sequence < known.Sequence:
		return fmt.Errorf("%w: number %d, and number %d is known", ErrRolledBack, p.Sequence, known.Sequence)
	case p.Sequence == known.Sequence && p.Digest() != known.Digest():
		return fmt.Errorf("%w: there are two of number %d", ErrRolledBack, p.Sequence)
	}
	return nil
}

// Sign has K_label sign the permissions; authority is that key's certificate.
func (p Permissions) Sign(key crypto.Signer, authority []byte) (SignedPermissions, error) {
	if err := p.check(); err != nil {
		return SignedPermissions{}, fmt.Errorf("sign permissions: %w", err)
	}
	sig, err := signDigest(key, p.signed())
	if err != nil {
		return SignedPermissions{}, fmt.Errorf("sign permissions: %w", err)
	}
	s := SignedPermissions{p, authority, sig}
	if n := len(s.Bytes()); n > MaxDocument {
		return SignedPermissions{}, fmt.Errorf("sign permissions: %d bytes, at most %d", n, MaxDocument)
	}
	return s, s.check()
}

func (s SignedPermissions) check() error {
	if len(s.Authority) == 0 || len(s.Authority) > maxCertificate || len(s.Signature) != signatureSize {
		return errors.New("authority or signature is missing or too long")
	}
	return s.Permissions.check()
}

// Verify checks form and signature against the domain that a box has in its image. Whether they hold now is for Current and Allows.
func (s SignedPermissions) Verify(d Domain) (Permissions, error) {
	if err := s.check(); err != nil {
		return Permissions{}, fmt.Errorf("verify permissions: %w", err)
	}
	if s.Permissions.Domain != d.Name || !d.Label.Verify(s.Permissions.signed(), s.Signature) {
		return Permissions{}, fmt.Errorf("verify permissions: not signed by the label key of domain %q", d.Name)
	}
	return s.Permissions, nil
}

// VerifyUnder checks form and signature for whoever has the domain's root only: the authority certificate is held against it, now.
func (s SignedPermissions) VerifyUnder(roots *x509.CertPool, now time.Time) (Permissions, error) {
	if err := s.check(); err != nil {
		return Permissions{}, fmt.Errorf("verify permissions: %w", err)
	}
	_, root, err := Asked{Roots: roots, Now: now}.path([][]byte{s.Authority})
	if err != nil {
		return Permissions{}, fmt.Errorf("verify permissions: authority certificate: %w", err)
	}
	key, _, err := ReadAuthority(root, s.Permissions.Domain, s.Authority)
	if err != nil {
		return Permissions{}, fmt.Errorf("verify permissions: %w", err)
	}
	return s.Verify(Domain{Name: s.Permissions.Domain, Label: key})
}

// Bytes is the one JSON form.
func (s SignedPermissions) Bytes() []byte { return encode(s) }

// Armored is a PEM block of Bytes, which can be pasted.
func (s SignedPermissions) Armored() []byte { return armor(permissionsBlock, s.Bytes()) }

// ParsePermissions reads the one JSON form, or a text with a PEM block of it; it does not check the signature.
func ParsePermissions(b []byte) (SignedPermissions, error) {
	if len(b) == 0 || b[0] != '{' {
		doc, err := unarmor(permissionsBlock, b)
		if err != nil {
			return SignedPermissions{}, fmt.Errorf("parse permissions: %w", err)
		}
		b = doc
	}
	var s SignedPermissions
	if err := decode(b, &s, func() error { return s.check() }); err != nil {
		return SignedPermissions{}, fmt.Errorf("parse permissions: %w", err)
	}
	return s, nil
}
