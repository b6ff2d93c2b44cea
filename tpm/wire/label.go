package wire

import (
	"context"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// BindSecret seals up to 128 bytes to a label of this box, without needing the label now.
func (c *Client) BindSecret(ctx context.Context, l label.ID, secret []byte) ([]byte, error) {
	a, err := c.do(ctx, request{Op: opBind, Label: l, Secret: secret})
	return a.Blob, err
}

// OpenSecret gives back what was bound to a label. When the box may not sign as that label now, it is a Refused. That a blob opens says
// nothing of who made it.
func (c *Client) OpenSecret(ctx context.Context, l label.ID, blob []byte) ([]byte, error) {
	a, err := c.do(ctx, request{Op: opOpen, Label: l, Blob: blob})
	return a.Secret, err
}

// Present gives the presence passphrase of an operator: the label may sign for the time said, in whole seconds and at most
// label.MaxPresence. The TPM counts.
func (c *Client) Present(ctx context.Context, l label.ID, passphrase []byte, during time.Duration) error {
	_, err := c.do(ctx, request{Op: opPresent, Label: l, Secret: passphrase, Seconds: int(during / time.Second)})
	return err
}

// OperatorChallenge gives what an operator's token is to sign, a label.OperatorChallenge in PEM. The time begins now.
func (c *Client) OperatorChallenge(ctx context.Context, l label.ID, during time.Duration) ([]byte, error) {
	a, err := c.do(ctx, request{Op: opAsk, Label: l, Seconds: int(during / time.Second)})
	return a.PEM, err
}

// OperatorAnswer gives the token's answer to the last challenge, a label.OperatorAnswer in PEM.
func (c *Client) OperatorAnswer(ctx context.Context, text []byte) error {
	_, err := c.do(ctx, request{Op: opAnswer, Text: text})
	return err
}

// Absent ends an operator's presence for a label.
func (c *Client) Absent(ctx context.Context, l label.ID) error {
	_, err := c.do(ctx, request{Op: opAbsent, Label: l})
	return err
}

// Advance moves the epoch forward, if the domain approved that for what runs, and gives the epoch. Otherwise it is a Refused.
func (c *Client) Advance(ctx context.Context) (uint64, error) {
	a, err := c.do(ctx, request{Op: opAdvance})
	return a.Epoch, err
}
