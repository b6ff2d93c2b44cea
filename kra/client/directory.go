package client

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// A Directory is what one box publishes: for each access identifier the key to
// encrypt to, every certificate verified to the domain root. Only Agent.Directory
// and ParseDirectory make one.
type Directory struct {
	raw         []byte
	domain, box string
	keys        []Key
}

// A Key is a key-release key whose certificate was verified.
type Key struct {
	certified
	title string
}

// Directory fetches and verifies the agent's directory.
func (a *Agent) Directory(ctx context.Context) (Directory, error) {
	raw, err := a.document(ctx, kra.PathKeys, kra.MaxDirectory)
	if err != nil {
		return Directory{}, fmt.Errorf("fetch directory: %w", err)
	}
	d, err := ParseDirectory(raw, a.trust, time.Now())
	if err != nil {
		return Directory{}, fmt.Errorf("fetch directory from %s: %w", a.URL(), err)
	}
	return d, nil
}

// ParseDirectory verifies a directory that was kept in a file, as of now. One bad
// certificate refuses the whole: no encryptor should choose among the rest.
func ParseDirectory(raw []byte, t Trust, now time.Time) (Directory, error) {
	w, err := kra.ParseDirectory(raw)
	if err != nil {
		return Directory{}, err
	}
	d := Directory{raw: slices.Clone(raw), domain: w.Domain, box: w.Box}
	seen := map[kra.AccessID]bool{}
	for _, k := range w.Keys {
		key, err := t.key(k, now)
		if err != nil {
			return Directory{}, err
		}
		if key.domain != w.Domain {
			return Directory{}, untrusted("verify key of %s: the directory says other than the certificate", k.Access)
		}
		if seen[key.access] {
			return Directory{}, untrusted("verify directory: %s is listed twice", k.Access)
		}
		seen[key.access] = true
		d.keys = append(d.keys, key)
	}
	return d, nil
}

// Bytes returns the directory as it was published, for ParseDirectory.
func (d Directory) Bytes() []byte { return slices.Clone(d.raw) }

// Domain returns the domain that certified the keys.
func (d Directory) Domain() string { return d.domain }

// Box returns the name of the box that published them.
func (d Directory) Box() string { return d.box }

// Keys returns the keys in the order of the directory.
func (d Directory) Keys() []Key { return slices.Clone(d.keys) }

// Lookup returns the key to encrypt to for access.
func (d Directory) Lookup(access kra.AccessID) (Key, bool) {
	for _, k := range d.keys {
		if k.access == access {
			return k, true
		}
	}
	return Key{}, false
}

// Access returns whom the key is for.
func (k Key) Access() kra.AccessID { return k.access }

// Title returns the access identifier's title, such as "Legal team". It is not certified.
func (k Key) Title() string { return k.title }

// ID returns the key's id.
func (k Key) ID() block.KeyID { return k.id }

// Suite returns how file keys are wrapped to it.
func (k Key) Suite() block.Suite { return k.suite }

// Box returns the name of the box whose label key certified it.
func (k Key) Box() string { return k.by.box }

// Until returns when the certificate ends.
func (k Key) Until() time.Time { return k.until }

// Public returns the key.
func (k Key) Public() crypto.PublicKey { return k.pub }

// Certificate returns the certificate that was verified, for clients that encrypt to certificates. Nobody changes it.
func (k Key) Certificate() *x509.Certificate { return k.leaf }

// Recipient returns the key as a recipient for Encrypt.
func (k Key) Recipient() (block.Recipient, error) { return block.NewRecipient(k.pub) }
