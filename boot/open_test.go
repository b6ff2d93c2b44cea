package boot

import (
	"bytes"
	"io"
	"testing"

	"github.com/keyrelease/krabox/tpm/wire"
)

func opened(t *testing.T) wire.Opened {
	t.Helper()
	o, err := wire.NewOpened(bytes.Repeat([]byte{1}, wire.SecretSize), bytes.Repeat([]byte{2}, wire.SecretSize))
	must(t, err)
	return o
}

func TestVaultHandsOverAndForgets(t *testing.T) {
	v, err := newVault()
	must(t, err)
	t.Cleanup(v.close)
	if _, err := v.pipe(storeKey); err == nil {
		t.Error("an empty vault handed over a key")
	}
	o := opened(t)
	store, chain := wire.Derive(o)
	v.fill(o)
	o.Use(func(sealed, half []byte) error {
		if !bytes.Equal(sealed, make([]byte, len(sealed))) || !bytes.Equal(half, make([]byte, len(half))) {
			t.Error("what was unsealed is still there")
		}
		return nil
	})
	for range 2 { // a second time, as after a crash
		for which, want := range map[secretName][32]byte{storeKey: store, chainKey: chain} {
			f, err := v.pipe(which)
			must(t, err)
			got, err := io.ReadAll(f)
			f.Close()
			if err != nil || !bytes.Equal(got, want[:]) {
				t.Errorf("key %d = %x, %v; want %x", which, got, err, want)
			}
		}
	}
	v.wipe()
	if !bytes.Equal(v.page, make([]byte, len(v.page))) {
		t.Error("a wiped vault is not empty")
	}
	if _, err := v.pipe(chainKey); err == nil {
		t.Error("a wiped vault handed over a key")
	}
}
