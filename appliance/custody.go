package appliance

import (
	"context"
	"crypto/rsa"
	"errors"
	"time"

	"github.com/keyrelease/krabox/appliance/release"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// unwrapWithin bounds one batch. It is long: an answer that is given up is an unwrap that only a restart accounts for.
const unwrapWithin = time.Minute

// custody turns grants into unwraps. Only policy.Decide makes a grant.
type custody struct {
	hsm  *hsm.Client
	lost func() // some unwraps may have been done and not answered

	usable func(block.KeyID) error // why a key cannot be used now, or nothing; it waits for nothing
}

// Unwrap outlives ctx: what the token has done must reach the log even when the requester has gone.
func (c custody) Unwrap(ctx context.Context, grants []policy.Grant) ([]release.Unwrapped, receipt.ChainHead, error) {
	return c.open(ctx, grants, c.hsm.Unwrap)
}

// Transcrypt is Unwrap for keys that go on to an RSA key.
func (c custody) Transcrypt(ctx context.Context, to *rsa.PublicKey, grants []policy.Grant) ([]release.Unwrapped, receipt.ChainHead, error) {
	recipient, err := hsm.NewRecipient(to)
	if err != nil { // of a kind that certificates may have and the HSM is not asked to serve
		return c.Unwrap(ctx, grants)
	}
	return c.open(ctx, grants, func(ctx context.Context, wraps []block.Wrap) ([]hsm.Result, receipt.ChainHead, error) {
		return c.hsm.Transcrypt(ctx, recipient, wraps)
	})
}

// An ask is one operation of the HSM on a batch.
type ask func(context.Context, []block.Wrap) ([]hsm.Result, receipt.ChainHead, error)

func (c custody) open(ctx context.Context, grants []policy.Grant, do ask) ([]release.Unwrapped, receipt.ChainHead, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unwrapWithin)
	defer cancel()
	wraps := make([]block.Wrap, len(grants))
	for i, g := range grants {
		wraps[i] = g.Wrap()
	}
	results, head, err := do(ctx, wraps)
	if err != nil {
		c.lost()
		return nil, receipt.ChainHead{}, err
	}
	out := make([]release.Unwrapped, len(results))
	for i, r := range results {
		if err := c.usable(wraps[i].KeyID()); err != nil { // whatever hsmd has done with it
			_ = r.Key.Use(func([]byte) error { return nil })
			out[i] = release.Unwrapped{Seq: r.Seq, Err: err}
			continue
		}
		out[i] = release.Unwrapped{Seq: r.Seq, Key: r.Key, Sealed: r.Sealed, Err: r.Err}
		if errors.Is(r.Err, hsm.ErrNoKey) {
			out[i].Err = release.ErrNoKey
		}
	}
	return out, head, nil
}
