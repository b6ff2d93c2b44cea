package hsm

import (
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"fmt"

	"github.com/keyrelease/krabox/hsm/wire"
)

const (
	transportContext = "kra/transport/v1"
	transferContext  = "kra/transfer/v1"
)

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

// transferInfo ties a sealed transfer key to the one transport key that opens it.
func transferInfo(transport []byte) []byte {
	p := wire.PeerOf(transport)
	return append([]byte(transferContext+"\x00"), p[:]...)
}

// sealTransfer encrypts a transfer key to another box.
func sealTransfer(transport, key []byte) ([]byte, error) {
	to, err := hpke.MLKEM768P256().NewPublicKey(transport)
	if err != nil {
		return nil, wire.Refused{Reason: "transport key is malformed"}
	}
	sealed, err := hpke.Seal(to, hpke.HKDFSHA256(), hpke.AES256GCM(), transferInfo(transport), key)
	if err != nil {
		return nil, fmt.Errorf("seal transfer key: %w", err)
	}
	return sealed, nil
}

// open returns a transfer key that was sealed to this box. The caller clears it.
func (t transport) open(sealed []byte) ([]byte, error) {
	key, err := hpke.Open(t.key(), hpke.HKDFSHA256(), hpke.AES256GCM(), transferInfo(t.public()), sealed)
	if err != nil || len(key) != aesKeySize {
		clear(key)
		return nil, wire.Refused{Reason: "the transfer key was not sealed to this box"}
	}
	return key, nil
}
