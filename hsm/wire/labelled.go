package wire

import (
	"bytes"
	"context"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

// Limits of keys that are bound to a label.
const (
	MaxLoaded      = 64      // in use at a time
	MaxEnclosed    = 8 << 10 // bytes of an enclosed key; RSA-3072 takes 2.4 KiB
	LabelSecret    = 32      // bytes of a label's secret
	maxLabel       = 63      // bytes of a label's name
	maxLabelAnswer = 1 << 10 // bytes set aside for an answer
)

// An Enclosed is a private key that is bound to a label of the box. It is in no token and, but for this, nowhere: in here it is
// wrapped by the token it was made in and encrypted under a secret that can be had while the box has the label.
type Enclosed struct {
	Key    []byte   // SubjectPublicKeyInfo, DER
	Label  label.ID // which it was made for, and opens for alone
	Sealed []byte   // see hsm/LABEL.md
}

// A Labelling is the part of a Service that makes and loads keys bound to a label.
type Labelling struct {
	Enclose func(s Suite, l label.ID, secret []byte) (Key, Enclosed, error)
	Load    func(e Enclosed, secret []byte) (Key, error)
	Unload  func(id block.KeyID) error
	Loaded  func() ([]Key, error)
}

func (w *writer) enclosed(e Enclosed) {
	w.bytes(e.Key)
	w.string(string(e.Label))
	w.bytes(e.Sealed)
}

func (r *reader) enclosed() Enclosed {
	return Enclosed{Key: bytes.Clone(r.bytes(MaxPKCS8)), Label: r.label(), Sealed: bytes.Clone(r.bytes(MaxEnclosed))}
}

// label reads the name of a label.
func (r *reader) label() label.ID {
	l, err := label.ParseID(r.string(maxLabel))
	r.bad = r.bad || err != nil
	return l
}

// secret reads a label's secret, as a part of the message.
func (r *reader) secret() []byte { return r.take(LabelSecret) }

// do writes a successful answer, or returns why there is none.
func (x Labelling) do(w *writer, v verb, r *reader) error {
	switch v {
	case verbEnclose:
		s, l, secret := Suite(r.enum(uint8(SuiteLast))), r.label(), r.secret()
		if err := r.done(); err != nil {
			return err
		}
		k, e, err := x.Enclose(s, l, secret)
		w.key(k)
		w.enclosed(e)
		return err
	case verbLoad:
		e, secret := r.enclosed(), r.secret()
		if err := r.done(); err != nil {
			return err
		}
		k, err := x.Load(e, secret)
		w.key(k)
		return err
	case verbUnload:
		var id block.KeyID
		r.fixed(id[:])
		if err := r.done(); err != nil {
			return err
		}
		return x.Unload(id)
	case verbLoaded:
		if err := r.done(); err != nil {
			return err
		}
		keys, err := x.Loaded()
		w.keys(keys)
		return err
	}
	return errVerb
}

// Enclose makes a key that is bound to a label, of which nothing stays in the token. The secret is of LabelSecret bytes, and for
// this key alone; the caller clears it. A module that has no trusted wrapping is Refused.
func (c *Client) Enclose(ctx context.Context, s Suite, l label.ID, secret []byte) (k Key, e Enclosed, err error) {
	err = c.call(ctx, verbEnclose, maxLabelAnswer, func(w *writer) { w.u8(uint8(s)); w.string(string(l)); w.fixed(secret) }, func(b []byte) error {
		return parse(b, func(r *reader) { k, e = r.key(), r.enclosed() })
	})
	return k, e, err
}

// Load makes a key usable, until it is unloaded or hsmd ends. What was enclosed for another label, under another secret, by
// another token, or is not whole, is Refused. One that is loaded stays so. The caller clears the secret.
func (c *Client) Load(ctx context.Context, e Enclosed, secret []byte) (k Key, err error) {
	err = c.call(ctx, verbLoad, maxLabelAnswer+len(e.Key)+len(e.Sealed), func(w *writer) { w.enclosed(e); w.fixed(secret) }, func(b []byte) error {
		return parse(b, func(r *reader) { k = r.key() })
	})
	return k, err
}

// Unload ends the use of a key that was loaded; ErrNoKey if it is not.
func (c *Client) Unload(ctx context.Context, id block.KeyID) error {
	return c.simple(ctx, verbUnload, func(w *writer) { w.fixed(id[:]) }, func(*reader) {})
}

// Loaded returns the keys that are loaded, ordered by id.
func (c *Client) Loaded(ctx context.Context) (keys []Key, err error) {
	err = c.simple(ctx, verbLoaded, nothing, func(r *reader) { keys = r.keys() })
	return keys, err
}
