package tpm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// Advance moves the epoch to the newest release for which the domain approved that, if that release runs: older ones neither open nor
// sign any more, and it never goes back. The TPM decides. It gives the epoch that is in force then.
func (a *Agent) Advance(ctx context.Context) (uint64, error) {
	leave, err := a.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	return a.advance()
}

func (a *Agent) advance() (uint64, error) {
	srk, err := a.ready()
	if err != nil {
		return 0, err
	}
	epoch, err := a.epochValue()
	if err != nil {
		return 0, err
	}
	var ahead []label.Approval
	for _, p := range a.approvals {
		if p.Advances() && p.Version > epoch {
			ahead = append(ahead, p)
		}
	}
	if len(ahead) == 0 {
		return epoch, wire.Refused{Reason: fmt.Sprintf("the box holds no approval to move the epoch beyond %d", epoch)}
	}
	found, err := a.device.readPCRs()
	if err != nil {
		return epoch, err
	}
	p, err := choose(ahead, label.KeyRelease, label.Epoch, found, epoch, nil)
	if err != nil {
		return epoch, wire.Refused{Reason: fmt.Sprintf("the epoch moves to %d when that release runs: %v", ahead[0].Version, err)}
	}
	if err := opens(a.approvals, found, p.Version); err != nil {
		return epoch, wire.Refused{Reason: fmt.Sprintf("after epoch %d this box would not open again: %v", p.Version, err)}
	}
	if err := a.device.write(srk, a.epoch(), written, granted{Approval: p}, u64(p.Version)); err != nil {
		return epoch, refuse(err)
	}
	return p.Version, nil
}

// tryAdvance says what became of a bundle's approval to move the epoch: it is done, or kept until it can be done.
func (a *Agent) tryAdvance(b label.Bundle) (string, error) {
	if !slices.ContainsFunc(b.Approvals, label.Approval.Advances) {
		return "", nil
	}
	epoch, err := a.advance()
	var refused wire.Refused
	switch {
	case errors.As(err, &refused):
		return "the epoch stays: " + refused.Reason, nil
	case err != nil:
		return "", err
	}
	return fmt.Sprintf("the epoch is %d now: no older release opens or signs on this box any more", epoch), nil
}
