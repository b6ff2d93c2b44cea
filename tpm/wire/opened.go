package wire

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
)

// SecretSize is the size of the state secret and of the half, each.
const SecretSize = 32

// Contexts of the keys derived from the opened secrets.
const (
	storeContext = "kra/store/v1"
	chainContext = "kra/chain/v1"
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

// Derive gives the key of the agent's store and the key of the HSM daemon's chain, by HKDF-SHA256 over state secret and
// half. It panics if nothing was opened: no caller can have a use for keys of nothing.
func Derive(o Opened) (store, chain [32]byte) {
	if err := o.Use(func(sealed, half []byte) error {
		store, chain = derive(sealed, half, storeContext), derive(sealed, half, chainContext)
		return nil
	}); err != nil {
		panic("wire: " + err.Error())
	}
	return store, chain
}

func derive(sealed, half []byte, info string) (key [32]byte) {
	ikm := append(append(make([]byte, 0, 2*SecretSize), sealed...), half...)
	defer clear(ikm)
	k, err := hkdf.Key(sha256.New, ikm, nil, info, len(key))
	if err != nil {
		panic("wire: derive key: " + err.Error())
	}
	defer clear(k)
	return [32]byte(k)
}
