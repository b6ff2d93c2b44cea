package boot

import (
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/boot/outbound"
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
		b.hangUp("tpm")
		reason += "; the stage could not be set, the TPM's daemon is stopped"
	}
	b.setMode(modeLocked, reason)
	b.say("locked: %s", reason)
}

// hangUp lets who asks a daemon that is stopped for good know at once, instead of waiting for an answer.
func (b *box) hangUp(name string) {
	b.mu.Lock()
	l := b.ports[name]
	b.mu.Unlock()
	u, ok := l.(*net.UnixListener)
	if !ok || unblock(u) != nil {
		return // there is no socket to wait at
	}
	go func() {
		for {
			c, err := u.Accept()
			if err != nil {
				return // closed with the box
			}
			c.Close()
		}
	}()
}

// unblock undoes what handing a descriptor to a daemon did to this process's copy: an Accept that blocks in the kernel is not
// ended by Close.
func unblock(l *net.UnixListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) { set = unix.SetNonblock(int(fd), true) }); err != nil {
		return err
	}
	return set
}

// extendLocked tries again where extend does not, perhaps with the next tpmd: to lock twice is to be locked.
func (b *box) extendLocked(ctx context.Context) error {
	for until := time.Now().Add(b.ground.pace.tpmd); ; pause(ctx, b.ground.pace.least) {
		err := b.extend(ctx, label.Locked)
		var refused wire.Refused
		hopeless := errors.As(err, &refused) || errors.Is(err, errNoTPMD)
		if err == nil || hopeless || ctx.Err() != nil || time.Now().After(until) {
			return err
		}
	}
}

// lockNow locks a running box: those who hold opened keys are killed, not asked. The caller starts the agent again, without keys.
func (b *box) lockNow(ctx context.Context, reason string) {
	b.drop("krad", errKill)
	b.drop("outboundd", errKill)
	b.drop("hsmd", errKill)
	b.closePorts("release", "health", "enrol", "hsm", outbound.Listener)
	b.dropNetwork()
	b.refuse(ctx, reason)
}
