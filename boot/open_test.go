package boot

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/keyrelease/krabox/boot/machine"
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

// handedOver is the key that krad would be started with.
func handedOver(t *testing.T, v *vault) (k [secretSize]byte) {
	t.Helper()
	f, err := v.pipe(storeKey)
	must(t, err)
	defer f.Close()
	_, err = io.ReadFull(f, k[:])
	must(t, err)
	return k
}

// TestVaultTurns: krad is started with the key that the TPM's half gives, with the unlock secret where there is one; a half that the TPM has
// refused changes nothing, and one of which nobody knows leaves no key.
func TestVaultTurns(t *testing.T) {
	v, err := newVault()
	must(t, err)
	t.Cleanup(v.close)
	if _, err := v.unlock([32]byte{1}); err == nil {
		t.Error("an empty vault was unlocked")
	}
	if _, err := v.renew(machine.Unattended, [32]byte{}); err == nil {
		t.Error("an empty vault has drawn a half")
	}
	o := opened(t)
	base := wire.Base(o)
	plain, _ := wire.Derive(o)
	v.fill(o)
	var half []byte
	takes := func(b []byte) error { half = bytes.Clone(b); return nil }
	if _, err := v.turn(takes); err == nil || half != nil {
		t.Error("a half was written that nobody has drawn")
	}

	one, two := [32]byte{1}, [32]byte{2}
	unlocked := func(secret *[32]byte) [32]byte {
		k := wire.StoreKey(base, half)
		if half == nil {
			k = plain
		}
		if secret != nil {
			k = wire.WithUnlock(k, *secret)
		}
		return k
	}
	for _, step := range []struct {
		name   string
		how    machine.Opening
		secret [32]byte
		want   *[32]byte
	}{
		{"as before, which is unattended", machine.AsBefore, one, nil},
		{"with one", machine.WithSecret, one, &one},
		{"as before, which is with one", machine.AsBefore, two, &one},
		{"with two", machine.WithSecret, two, &two},
		{"unattended", machine.Unattended, two, nil},
		{"as before, which is unattended again", machine.AsBefore, two, nil},
	} {
		before := handedOver(t, v)
		_, err := v.renew(step.how, step.secret)
		must(t, err)
		if handedOver(t, v) != before {
			t.Errorf("%s: krad gets another key before the TPM has the half", step.name)
		}
		if sure, err := v.turn(func([]byte) error { return wire.Refused{Reason: "no"} }); !sure || err == nil || handedOver(t, v) != before {
			t.Errorf("%s: refused: %v, %v", step.name, sure, err)
		}
		next, err := v.renew(step.how, step.secret)
		must(t, err)
		sure, err := v.turn(takes)
		if got := handedOver(t, v); err != nil || !sure || got != next || got != unlocked(step.want) || got == before {
			t.Errorf("%s: %v, %v; as foretold %v, as it must be %v", step.name, sure, err, got == next, got == unlocked(step.want))
		}
		if !bytes.Equal(v.page[atHalf:atEnd], make([]byte, atEnd-atHalf)) {
			t.Errorf("%s: the half is still there", step.name)
		}
	}
	key, err := v.unlock(two)
	must(t, err)
	if got := handedOver(t, v); got != key || got != unlocked(&two) {
		t.Error("an unlocked box starts krad with another key")
	}

	_, err = v.renew(machine.AsBefore, one)
	must(t, err)
	if sure, err := v.turn(func([]byte) error { return errors.New("the line went dead") }); sure || err == nil {
		t.Errorf("nobody knows: %v, %v", sure, err)
	}
	if _, err := v.pipe(storeKey); err == nil || !bytes.Equal(v.page, make([]byte, len(v.page))) {
		t.Error("krad is started although nobody knows the key")
	}
}
