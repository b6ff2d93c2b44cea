package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

var someEnclosed = Enclosed{Key: []byte("spki"), Label: "attended", Sealed: []byte("sealed")}

func rewriteLabelled(w *writer, r *reader, v verb) {
	switch v {
	case verbEnclose:
		w.u8(r.enum(uint8(SuiteLast)))
		w.string(string(r.label()))
		w.fixed(r.secret())
	case verbLoad:
		w.enclosed(r.enclosed())
		w.fixed(r.secret())
	case verbUnload:
		var id block.KeyID
		r.fixed(id[:])
		w.fixed(id[:])
	}
}

func rewriteLabelledAnswer(w *writer, r *reader, v verb) {
	switch v {
	case verbEnclose:
		w.key(r.key())
		w.enclosed(r.enclosed())
	case verbLoad:
		w.key(r.key())
	case verbLoaded:
		w.keys(r.keys())
	}
}

// TestLabelling: what binds keys to a label crosses as it is, and what is no label, or too large, does not.
func TestLabelling(t *testing.T) {
	key := Key{SPKI: []byte("spki"), ID: block.KeyIDOfSPKI([]byte("spki")), Suite: P256, Custody: Labelled, Origin: Generated, Mode: Resident}
	secret := bytes.Repeat([]byte{7}, LabelSecret)
	s := stub()
	s.Labelling = Labelling{
		Enclose: func(s Suite, l label.ID, with []byte) (Key, Enclosed, error) {
			if s != P256 || l != "attended" || !bytes.Equal(with, secret) {
				return Key{}, Enclosed{}, Refused{"another"}
			}
			return key, someEnclosed, nil
		},
		Load: func(e Enclosed, with []byte) (Key, error) {
			if !cmp.Equal(e, someEnclosed) || !bytes.Equal(with, secret) {
				return Key{}, Refused{"another"}
			}
			return key, nil
		},
		Unload: func(id block.KeyID) error {
			if id != key.ID {
				return ErrNoKey
			}
			return nil
		},
		Loaded: func() ([]Key, error) { return []Key{key}, nil },
	}
	c, ctx := start(t, s), t.Context()
	k, e, err := c.Enclose(ctx, P256, "attended", secret)
	if err != nil || !cmp.Equal(k, key) || !cmp.Equal(e, someEnclosed) {
		t.Errorf("Enclose = %v, %v, %v", k, e, err)
	}
	if k, err := c.Load(ctx, e, secret); err != nil || !cmp.Equal(k, key) {
		t.Errorf("Load = %v, %v", k, err)
	}
	if all, err := c.Loaded(ctx); err != nil || !cmp.Equal(all, []Key{key}) {
		t.Errorf("Loaded = %v, %v", all, err)
	}
	if err := c.Unload(ctx, key.ID); err != nil {
		t.Errorf("Unload = %v", err)
	}
	if err := c.Unload(ctx, block.KeyID{}); !errors.Is(err, ErrNoKey) {
		t.Errorf("Unload = %v, want %v", err, ErrNoKey)
	}
	if _, _, err := c.Enclose(ctx, P256, "key-release", secret); err != (Refused{"another"}) {
		t.Errorf("Enclose = %v, want the reason", err)
	}
	malformed := func(what string, err error) {
		t.Helper()
		if err == nil || err == (Refused{"another"}) {
			t.Errorf("%s: %v, want a malformed message", what, err)
		}
	}
	_, _, err = c.Enclose(ctx, P256, "Not A Label", secret)
	malformed("what is no label", err)
	_, _, err = c.Enclose(ctx, P256, "attended", secret[1:])
	malformed("a short secret", err)
	for what, e := range map[string]Enclosed{"no label": {Key: e.Key, Sealed: e.Sealed}, "a long key": {make([]byte, MaxPKCS8+1), e.Label, e.Sealed},
		"too much sealed": {e.Key, e.Label, make([]byte, MaxEnclosed+1)}} {
		_, err := c.Load(ctx, e, secret)
		malformed(what, err)
	}
}

// TestParcelHasOneForm: what is enclosed reads back as it was, and nothing but that.
func TestParcelHasOneForm(t *testing.T) {
	for _, p := range someParcels {
		b := p.Bytes()
		again, err := ParseParcel(b)
		if err != nil || !bytes.Equal(again.Bytes(), b) {
			t.Errorf("%v is read as %v, %v", p, again, err)
		}
		for _, bad := range [][]byte{b[:len(b)-1], append(bytes.Clone(b), 0), nil} {
			if _, err := ParseParcel(bad); err == nil {
				t.Errorf("%x is read as a parcel", bad)
			}
		}
	}
}
