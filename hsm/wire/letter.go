package wire

import (
	"crypto/hpke"
	"errors"
	"fmt"
)

const transferContext = "kra/transfer/v1"

// transferKeySize is AES-256.
const transferKeySize = 32

// transferInfo ties a sealed transfer key to the one transport key that opens it.
func transferInfo(transport []byte) []byte {
	p := PeerOf(transport)
	return append([]byte(transferContext+"\x00"), p[:]...)
}

// SealLetter encrypts a transfer key to a transport key: hsm/REPLICA.md.
func SealLetter(transport, key []byte) ([]byte, error) {
	to, err := hpke.MLKEM768P256().NewPublicKey(transport)
	if err != nil {
		return nil, Refused{Reason: "transport key is malformed"}
	}
	sealed, err := hpke.Seal(to, hpke.HKDFSHA256(), hpke.AES256GCM(), transferInfo(transport), key)
	if err != nil {
		return nil, fmt.Errorf("seal transfer key: %w", err)
	}
	return sealed, nil
}

// OpenLetter returns a transfer key that was sealed to the public half of a transport key. The caller clears it.
func OpenLetter(by hpke.PrivateKey, letter []byte) ([]byte, error) {
	key, err := hpke.Open(by, hpke.HKDFSHA256(), hpke.AES256GCM(), transferInfo(by.PublicKey().Bytes()), letter)
	if err != nil || len(key) != transferKeySize {
		clear(key)
		return nil, errors.New("the transfer key was not sealed to this key")
	}
	return key, nil
}
