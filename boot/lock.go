package boot

import (
	"context"

	"github.com/keyrelease/krabox/kra/label"
)

// refuse makes the box a locked one before any daemon but the TPM's runs: the stage is extended, the keys are wiped, and the reason is
// said, in this order.
func (b *box) refuse(ctx context.Context, reason string) {
	if ctx.Err() != nil {
		return // stopped, not refused
	}
	b.vault.wipe()
	err := b.extend(ctx, label.Locked)
	if err != nil { // once more, perhaps with the next tpmd: to lock twice is to be locked
		err = b.extend(ctx, label.Locked)
	}
	if err != nil {
		// Whatever stage the TPM is in, nobody is left to use it: only this process starts tpmd.
		b.drop("tpmd", errKill)
		reason += "; the stage could not be set, the TPM's daemon is stopped"
	}
	b.setMode(modeLocked, reason)
	b.say("locked: %s", reason)
}

// lockNow locks a running box: those who hold opened keys are killed, not asked. The caller starts the agent again, without keys.
func (b *box) lockNow(ctx context.Context, reason string) {
	b.drop("krad", errKill)
	b.drop("hsmd", errKill)
	b.closePorts("release", "health", "hsm")
	b.refuse(ctx, reason)
}
