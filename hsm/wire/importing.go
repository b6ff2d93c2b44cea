package wire

import (
	"bytes"
	"context"

	"github.com/keyrelease/krabox/kra/block"
)

// MaxWrappedKey bounds a private key that comes wrapped to the import key: what RSA-3072 makes of a key, and a wrapped key.
const MaxWrappedKey = 384 + MaxWrapped

// An Importing is the part of a Service that takes in keys which were wrapped elsewhere.
type Importing struct {
	ImportKey     func() (spki []byte, changed Files, err error)
	NewImportKey  func() (spki []byte, changed Files, err error)
	ImportWrapped func(to block.KeyID, wrapped []byte, c Custody, m Mode) (Key, Files, error)
}

// do writes a successful answer, or returns why there is none.
func (x Importing) do(w *writer, v verb, r *reader) error {
	switch v {
	case verbImportKey, verbNewImportKey:
		if err := r.done(); err != nil {
			return err
		}
		get := x.ImportKey
		if v == verbNewImportKey {
			get = x.NewImportKey
		}
		spki, changed, err := get()
		w.bytes(spki)
		w.files(changed)
		return err
	case verbImportWrapped:
		custody, mode := Custody(r.enum(uint8(Replicable))), Mode(r.enum(uint8(modeLast)))
		var to block.KeyID
		r.fixed(to[:])
		wrapped := r.bytes(MaxWrappedKey)
		if err := r.done(); err != nil {
			return err
		}
		key, changed, err := x.ImportWrapped(to, wrapped, custody, mode)
		w.key(key)
		w.files(changed)
		return err
	}
	return errVerb
}

// ImportKey returns the public key (SubjectPublicKeyInfo, DER; RSA-3072) to which private keys are wrapped for this token, and makes it
// where there is none. It may be shown to nobody before the changed files are committed.
func (c *Client) ImportKey(ctx context.Context) (spki []byte, changed Files, err error) {
	return c.importKey(ctx, verbImportKey)
}

// NewImportKey is ImportKey, with a new key in place of the one that there is: what was wrapped to that opens no more.
func (c *Client) NewImportKey(ctx context.Context) (spki []byte, changed Files, err error) {
	return c.importKey(ctx, verbNewImportKey)
}

func (c *Client) importKey(ctx context.Context, v verb) (spki []byte, changed Files, err error) {
	err = c.simple(ctx, v, nothing, func(r *reader) { spki, changed = bytes.Clone(r.bytes(MaxPKCS8)), r.files() })
	return spki, changed, err
}

// ImportWrapped takes in a private key that was wrapped to the import key: see hsm/IMPORT.md. It is in the clear in the token only. To is
// the id of the import key that it says it is for, zero if it does not say.
func (c *Client) ImportWrapped(ctx context.Context, to block.KeyID, wrapped []byte, custody Custody, m Mode) (k Key, changed Files, err error) {
	err = c.call(ctx, verbImportWrapped, 64+MaxWrappedKey, func(w *writer) { w.u8(uint8(custody)); w.u8(uint8(m)); w.fixed(to[:]); w.bytes(wrapped) },
		func(b []byte) error { return parse(b, func(r *reader) { k, changed = r.key(), r.files() }) })
	return k, changed, err
}
