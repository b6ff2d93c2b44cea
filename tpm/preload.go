package tpm

import (
	"context"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// Preload takes approvals that lay on the boot partition, where anybody may have put them. What the domain signed for all its boxes is
// added, as if an operator had pasted it; nothing else is.
func (a *Agent) Preload(ctx context.Context, text []byte) (wire.Installed, error) {
	if _, err := label.OpenPreload(text, a.domain); err != nil {
		return wire.Installed{}, wire.Refused{Reason: err.Error()}
	}
	return a.EnrolInstall(ctx, text)
}
