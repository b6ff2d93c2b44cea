package wire

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"slices"
)

// SecretSize is the size of the state secret and of the half, each.
const SecretSize = 32

// Contexts of the keys derived from the opened secrets.
const (
	baseContext   = "kra/base/v1"
	storeContext  = "kra/store/v1"
	unlockContext = "kra/attended/v1"
	chainContext  = "kra/chain/v1"
)

// Opened are the two secrets of an enrolled box: the state secret that was sealed, and the half from NV. Only an
// unsealing makes one. The zero Opened holds nothing.
type Opened struct{ take func() (sealed, half []byte) }

// NewOpened takes over the two secrets: the caller must not use the slices again.
func NewOpened(sealed, half []byte) (Opened, error) {
	if len(sealed) != SecretSize || len(half) != SecretSize {
		return Opened{}, errors.New("hold opened secrets: wrong size")
	}
	return Opened{func() ([]byte, []byte) { return sealed, half }}, nil
}

// Valid says that there are secrets.
func (o Opened) Valid() bool { return o.take != nil }

// Use lends the secrets to f, who must not keep them.
func (o Opened) Use(f func(sealed, half []byte) error) error {
	if o.take == nil {
		return errors.New("use opened secrets: nothing was opened")
	}
	return f(o.take())
}

// Wipe clears the secrets; every copy of this Opened is then useless.
func (o Opened) Wipe() {
	if o.take != nil {
		sealed, half := o.take()
		clear(sealed)
		clear(half)
	}
}

// Derive gives the key of the agent's store and the key of the HSM daemon's chain. The half is in the first only: a fresh half ends
// that copies of the store open, and what the chain's key seals is in the store. It panics if nothing was opened: no caller can have a
// use for keys of nothing.
//
//	base   HKDF-SHA256(state secret, "kra/base/v1")
//	store  HKDF-SHA256(base ‖ half, "kra/store/v1")
//	chain  HKDF-SHA256(state secret, "kra/chain/v1")
func Derive(o Opened) (store, chain [32]byte) {
	must(o.Use(func(sealed, half []byte) error {
		base := derive(baseContext, sealed)
		defer clear(base[:])
		store, chain = StoreKey(base, half), derive(chainContext, sealed)
		return nil
	}))
	return store, chain
}

// Base is what process 1 keeps, to know the store's key under another half.
func Base(o Opened) (base [32]byte) {
	must(o.Use(func(sealed, _ []byte) error { base = derive(baseContext, sealed); return nil }))
	return base
}

// StoreKey is the store's key under this half.
func StoreKey(base [32]byte, half []byte) [32]byte { return derive(storeContext, base[:], half) }

// WithUnlock is the store's key of an attended box: the TPM alone does not open it.
//
//	HKDF-SHA256(store key ‖ unlock secret, "kra/attended/v1")
func WithUnlock(store, unlock [32]byte) [32]byte { return derive(unlockContext, store[:], unlock[:]) }

func must(err error) {
	if err != nil {
		panic("wire: " + err.Error())
	}
}

func derive(info string, from ...[]byte) (key [32]byte) {
	ikm := slices.Concat(from...)
	defer clear(ikm)
	k, err := hkdf.Key(sha256.New, ikm, nil, info, len(key))
	if err != nil {
		panic("wire: derive key: " + err.Error())
	}
	defer clear(k)
	return [32]byte(k)
}
