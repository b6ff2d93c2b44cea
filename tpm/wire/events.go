package wire

import (
	"context"
	"errors"

	"github.com/keyrelease/krabox/kra/label"
)

// Limits of what is told of an event log; with them it fits a frame.
const (
	MaxEvents    = 1000
	MaxEventText = 120 // bytes
)

// Events is the log of the firmware and the boot loader, and what it adds up to.
type Events struct {
	Count   int          `json:"count"`  // of all there are
	Events  []Event      `json:"events"` // the first MaxEvents
	Differs []Difference `json:"differs,omitempty"`
}

// An Event is one entry of the log, behind the one that begins it.
type Event struct {
	PCR    uint32 `json:"pcr"`
	Type   string `json:"type"`             // in the words of the TCG's profile
	Digest string `json:"digest,omitempty"` // SHA-256, in hexadecimal; empty: it extended nothing
	Text   string `json:"text,omitempty"`   // printable ASCII of its data, at most MaxEventText bytes
}

// A Difference is a register that holds something else than its events add up to.
type Difference struct {
	PCR   int          `json:"pcr"`
	Log   label.Digest `json:"log"`
	TPM   label.Digest `json:"tpm"`
	After string       `json:"after,omitempty"` // who extends it after the log in each boot; empty: nobody should have
}

// Events asks for the event log. That there is none, or that it cannot be read, is a Refused.
func (c *Client) Events(ctx context.Context) (Events, error) {
	a, err := c.do(ctx, request{Op: opEvents})
	switch {
	case err != nil:
		return Events{}, err
	case a.Events == nil:
		return Events{}, errors.New("events: empty answer")
	}
	return *a.Events, nil
}
