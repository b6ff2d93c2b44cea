package appliance

import (
	"errors"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// TestPermittedPlatforms: a platform is held to name, keys and the lowest version that its domain permits, at all times.
func TestPermittedPlatforms(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	h := label.Holder{Domain: "example.org", Label: "analysis", Name: "build7"}
	key, ak := label.Digest{1}, label.Digest{2}
	of := func(m label.Mode, entries ...label.Permission) label.Permissions {
		for i := range entries {
			entries[i].Since = now
		}
		return label.Permissions{Domain: "example.org", Sequence: 1, Issued: now, Until: now.Add(time.Hour), Mode: m, MinEpoch: 3, Entries: entries}
	}
	for name, c := range map[string]struct {
		p       label.Permissions
		version uint64
		at      time.Duration
		want    error
	}{
		"nobody is revoked":           {of(label.Revoke), 3, 0, nil},
		"nothing was confirmed":       {of(label.Revoke), 0, 0, nil},
		"an old version":              {of(label.Revoke), 2, 0, label.ErrOldRelease},
		"revoked by name":             {of(label.Revoke, label.Permission{Name: "build7", State: label.Revoked}), 3, 0, label.ErrRevoked},
		"revoked by label key":        {of(label.Revoke, label.Permission{Key: key, State: label.Revoked}), 3, 0, label.ErrRevoked},
		"revoked by attestation key":  {of(label.Revoke, label.Permission{Key: ak, State: label.Revoked}), 3, 0, label.ErrRevoked},
		"revoked, nothing confirmed":  {of(label.Revoke, label.Permission{Name: "build7", State: label.Revoked}), 0, 0, label.ErrRevoked},
		"another is revoked":          {of(label.Revoke, label.Permission{Name: "build8", State: label.Revoked}), 3, 0, nil},
		"not granted":                 {of(label.Attest), 3, 0, label.ErrNotGranted},
		"granted":                     {of(label.Attest, label.Permission{Name: "build7", State: label.Granted}), 3, 0, nil},
		"granted, but an old version": {of(label.Attest, label.Permission{Name: "build7", State: label.Granted}), 2, 0, label.ErrOldRelease},
		"stale":                       {of(label.Revoke), 3, time.Hour, label.ErrStale},
	} {
		if err := permitted(c.p, h, c.version, now.Add(c.at), key, ak); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v; want %v", name, err, c.want)
		}
	}
}
