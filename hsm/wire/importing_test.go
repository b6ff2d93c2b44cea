package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyrelease/krabox/kra/block"
)

// TestImporting: what takes wrapped keys in crosses as it is, and what is too large does not.
func TestImporting(t *testing.T) {
	key := Key{SPKI: []byte("spki"), ID: block.KeyIDOfSPKI([]byte("spki")), Suite: P256, Custody: Bound, Origin: Wrapped, Mode: Vault}
	changed := Files{"a/b": []byte("c")}
	to := block.KeyID{7}
	s := stub()
	s.Importing = Importing{
		ImportKey:    func() ([]byte, Files, error) { return []byte("first"), changed, nil },
		NewImportKey: func() ([]byte, Files, error) { return []byte("second"), nil, nil },
		ImportWrapped: func(id block.KeyID, wrapped []byte, c Custody, m Mode) (Key, Files, error) {
			if id != to || !bytes.Equal(wrapped, make([]byte, MaxWrappedKey)) || c != Bound || m != Vault {
				return Key{}, nil, Refused{"another"}
			}
			return key, changed, nil
		},
	}
	c, ctx := start(t, s), t.Context()
	if spki, f, err := c.ImportKey(ctx); err != nil || string(spki) != "first" || !cmp.Equal(f, changed) {
		t.Errorf("ImportKey() = %q, %v, %v", spki, f, err)
	}
	if spki, f, err := c.NewImportKey(ctx); err != nil || string(spki) != "second" || len(f) != 0 {
		t.Errorf("NewImportKey() = %q, %v, %v", spki, f, err)
	}
	if k, f, err := c.ImportWrapped(ctx, to, make([]byte, MaxWrappedKey), Bound, Vault); err != nil || !cmp.Equal(k, key) || !cmp.Equal(f, changed) {
		t.Errorf("ImportWrapped() = %v, %v, %v", k, f, err)
	}
	if _, _, err := c.ImportWrapped(ctx, block.KeyID{}, nil, Bound, Vault); err != (Refused{"another"}) {
		t.Errorf("ImportWrapped() = %v, want the reason", err)
	}
	for what, f := range map[string]func() error{
		"too large": func() error {
			_, _, err := c.ImportWrapped(ctx, to, make([]byte, MaxWrappedKey+1), Bound, Vault)
			return err
		},
		"custody": func() error {
			_, _, err := c.ImportWrapped(ctx, to, nil, Labelled, Vault)
			return err
		},
	} {
		if err := f(); err == nil || errors.Is(err, Refused{"another"}) {
			t.Errorf("%s: %v, want a malformed message", what, err)
		}
	}
}
