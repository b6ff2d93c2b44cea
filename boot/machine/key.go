package machine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
)

// A Key is a secret of 32 bytes as it crosses this connection, which nobody else hears: hexadecimal in JSON, and no text elsewhere.
type Key [32]byte

// String hides it.
func (Key) String() string { return "(a secret)" }

// GoString hides it.
func (Key) GoString() string { return "machine.Key{}" }

// MarshalText is for JSON.
func (k Key) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, k[:]), nil }

// UnmarshalText is for JSON.
func (k *Key) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(k)) {
		return errors.New("a secret of another length")
	}
	if _, err := hex.Decode(k[:], text); err != nil {
		return errors.New("a secret that is not hexadecimal")
	}
	return nil
}

// An Opening says what shall open the state from the next start on, beside the TPM.
type Opening string

// The openings.
const (
	AsBefore   Opening = "as before"  // with the unlock secret that this boot was given, or without one
	Unattended Opening = "unattended" // without
	WithSecret Opening = "with secret"
)

// Unlock gives process 1 the unlock secret of an attended box and returns the store's key that it makes. Later agents of this boot are
// started with that key.
func (c *Client) Unlock(ctx context.Context, secret Key) (Key, error) {
	return key(c.ask(ctx, request{Do: verbUnlock, Secret: &secret}))
}

// Renew has process 1 draw a fresh half of the state's key and returns the store's key that there will be with it. Nothing is changed before Turn.
// The secret goes with WithSecret only.
func (c *Client) Renew(ctx context.Context, how Opening, secret Key) (Key, error) {
	r := request{Do: verbRenew, Opening: how}
	if how == WithSecret {
		r.Secret = &secret
	}
	return key(c.ask(ctx, r))
}

// Turn has the TPM take the half of the last Renew. From then on the store's key of before is nobody's. A Refused means that nothing has
// changed.
func (c *Client) Turn(ctx context.Context) error { return c.do(ctx, request{Do: verbTurn}) }

func key(r reply, err error) (Key, error) {
	switch {
	case err != nil:
		return Key{}, err
	case r.Key == nil:
		return Key{}, errors.New("machine: answer without a key")
	}
	return *r.Key, nil
}

// checkKey is check for what is about the state's key.
func (r request) checkKey() error {
	want := request{Do: r.Do, Secret: r.Secret}
	switch {
	case r.Do == verbUnlock && r.Secret == nil:
		return errors.New("unlock secret is missing")
	case r.Do == verbRenew:
		want.Opening = r.Opening
		switch r.Opening {
		case AsBefore, Unattended, WithSecret:
		default:
			return fmt.Errorf("no opening %q", string(r.Opening))
		}
		if (r.Secret != nil) != (r.Opening == WithSecret) {
			return fmt.Errorf("opening %q with a secret, or without: the other was wanted", string(r.Opening))
		}
	case r.Do == verbTurn:
		want.Secret = nil
	}
	if want != r {
		return fmt.Errorf("request %q carries fields of another", string(r.Do))
	}
	return nil
}

func replyKey(k Key, err error) reply {
	if err != nil {
		return reply{Error: err.Error()}
	}
	return reply{Key: &k}
}
