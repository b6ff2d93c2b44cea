package hsm

import (
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"fmt"

	"github.com/keyrelease/krabox/hsm/wire"
)

const transportContext = "kra/transport/v1"

// A transport is the key pair to which other boxes seal transfer keys. It is derived from the chain key, so that it is as
// old as the box's sealed state and lies nowhere; the token and its PIN do not hold it. See REPLICA.md.
type transport struct{ key func() hpke.PrivateKey } // in a func, where fmt does not find it

func newTransport(chainKey [32]byte) (transport, error) {
	seed, err := hkdf.Key(sha256.New, chainKey[:], nil, transportContext, 32)
	if err != nil {
		return transport{}, fmt.Errorf("derive transport key: %w", err)
	}
	defer clear(seed)
	key, err := hpke.MLKEM768P256().DeriveKeyPair(seed)
	if err != nil {
		return transport{}, fmt.Errorf("derive transport key: %w", err)
	}
	return transport{func() hpke.PrivateKey { return key }}, nil
}

// public is the key as others get it.
func (t transport) public() []byte { return t.key().PublicKey().Bytes() }

// open returns a transfer key that was sealed to this box. The caller clears it.
func (t transport) open(sealed []byte) ([]byte, error) {
	key, err := wire.OpenLetter(t.key(), sealed)
	if err != nil {
		return nil, wire.Refused{Reason: "the transfer key was not sealed to this box"}
	}
	return key, nil
}
