package boot

import (
	"context"
	"errors"
	"time"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// refuse makes the box a locked one before any daemon but the TPM's runs: the stage is extended, the keys are wiped, and the reason is
// said, in this order.
func (b *box) refuse(ctx context.Context, reason string) {
	if ctx.Err() != nil {
		return // stopped, not refused
	}
	b.vault.wipe()
	if err := b.extendLocked(ctx); err != nil {
		// Whatever stage the TPM is in, nobody is left to use it: only this process starts tpmd.
		b.drop("tpmd", errKill)
		reason += "; the stage could not be set, the TPM's daemon is stopped"
	}
	b.setMode(modeLocked, reason)
	b.say("locked: %s", reason)
}

// extendLocked tries again where extend does not, perhaps with the next tpmd: to lock twice is to be locked.
func (b *box) extendLocked(ctx context.Context) error {
	for until := time.Now().Add(b.ground.pace.tpmd); ; pause(ctx, b.ground.pace.least) {
		err := b.extend(ctx, label.Locked)
		var refused wire.Refused
		if err == nil || errors.As(err, &refused) || ctx.Err() != nil || time.Now().After(until) {
			return err
		}
	}
}

// lockNow locks a running box: those who hold opened keys are killed, not asked. The caller starts the agent again, without keys.
func (b *box) lockNow(ctx context.Context, reason string) {
	b.drop("krad", errKill)
	b.drop("hsmd", errKill)
	b.closePorts("release", "health", "hsm")
	b.refuse(ctx, reason)
}
