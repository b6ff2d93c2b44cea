package wire

import (
	"context"

	"github.com/keyrelease/krabox/kra/label"
)

// A Holding is a secret in the TPM, or one that the TPM alone can use or give out: that it is there, never what it is.
type Holding struct {
	Kind     HoldingKind `json:"kind"`
	Label    label.ID    `json:"label,omitempty"`    // of a label key
	Escrowed bool        `json:"escrowed,omitempty"` // a copy that the domain alone can read lies on the disk
}

// A HoldingKind is a kind of secret. The zero kind is none.
type HoldingKind string

// The kinds.
const (
	StorageSeed     HoldingKind = "storage seed"
	EndorsementSeed HoldingKind = "endorsement seed"
	AttestationKey  HoldingKind = "attestation key"
	LabelKey        HoldingKind = "label key"
	StateSecret     HoldingKind = "state secret"
	StateHalf       HoldingKind = "half of the state"
	PresencePhrase  HoldingKind = "presence passphrase"
	OwnerAuth       HoldingKind = "ownerAuth"
	LockoutAuth     HoldingKind = "lockoutAuth"
	PlatformAuth    HoldingKind = "platformAuth"
)

// Holdings asks what secrets there are, in the order of the kinds.
func (c *Client) Holdings(ctx context.Context) ([]Holding, error) {
	a, err := c.do(ctx, request{Op: opHoldings})
	return a.Holdings, err
}

// Zeroize makes an end of all that the box holds: nothing on it opens again, here or from any copy. A Refused says what to do instead.
func (c *Client) Zeroize(ctx context.Context) error {
	_, err := c.do(ctx, request{Op: opZeroize})
	return err
}
