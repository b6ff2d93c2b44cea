package boot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/tpm/wire"
)

// handler does for krad what it may ask of process 1.
type handler struct{ b *box }

func (h handler) Reboot() error { return h.wish(ask{end: endReboot}) }

// Maintenance leaves word for the next boot, where nothing that is sealed can be read before it is decided.
func (h handler) Maintenance() error {
	if err := askForMaintenance(h.b.o.State); err != nil {
		return err
	}
	return h.Reboot()
}

func (h handler) PowerOff() error          { return h.wish(ask{end: endPowerOff}) }
func (h handler) Lock(reason string) error { return h.wish(ask{lock: reason}) }

// wish leaves word with the goroutine that owns the box.
func (h handler) wish(a ask) error {
	select {
	case h.b.asks <- a:
		return nil
	default:
		return errors.New("busy with an earlier request")
	}
}

// hostTolerance is how far a host's clock may be from an officer's word that it is right.
const hostTolerance = 2 * time.Minute

// SetClock sets the clock of the machine. That of a host is only vouched for.
func (h handler) SetClock(t time.Time) error {
	if h.b.o.Hardware == nil {
		if off := time.Until(t).Abs(); off > hostTolerance {
			return fmt.Errorf("the clock of this host is not the agent's to set, and it differs by %s", off.Round(time.Second))
		}
		return nil
	}
	if h.b.clockSteps.Add(1) > maxClockSteps {
		return fmt.Errorf("the clock was set %d times since the box started; restart the box to set it again", maxClockSteps)
	}
	h.b.say("clock set to %s", t.UTC().Format(time.DateTime))
	return h.b.o.Hardware.SetClock(t)
}

// AdjustClock slews the clock of the machine. That of a host is left alone.
func (h handler) AdjustClock(by time.Duration) error {
	if h.b.o.Hardware == nil {
		return nil
	}
	return h.b.o.Hardware.AdjustClock(by)
}

// maxClockSteps is how often the clock may be set in one boot: a krad in the wrong hands must not walk through the years and
// collect a certificate for each day.
const maxClockSteps = 8

func (h handler) SetNetwork(ctx context.Context, n machine.Network) error {
	if h.b.o.Hardware == nil {
		return errors.New("the network of this host is not the agent's to set")
	}
	switch mode, _ := h.b.Mode(); mode {
	case modeLocked:
		return errors.New("a locked box has no network")
	case modeMaintenance:
		return errors.New("a box in maintenance has no network")
	}
	h.b.mu.Lock()
	h.b.wired = true
	h.b.mu.Unlock()
	return h.b.o.Hardware.SetNetwork(ctx, n)
}

// Disk is the clerk's. A box that has opened nothing has nothing to keep or to restore.
func (h handler) Disk(q machine.DiskRequest) (machine.DiskReply, error) {
	if h.b.o.Disks == nil {
		return machine.DiskReply{}, errors.New("the disks of this host are not the agent's: print the backup, or paste it")
	}
	if mode, _ := h.b.Mode(); mode != modeEnrolled {
		return machine.DiskReply{}, fmt.Errorf("a box that is %s touches no disks", mode)
	}
	return h.b.clerk.Do(q)
}

func (h handler) Status() machine.Status { return h.b.Status() }

func (h handler) Program(at int) (machine.Program, error) { return h.b.ground.listed.program(at) }

// Unlock and Renew are the vault's.
func (h handler) Unlock(secret machine.Key) (machine.Key, error) {
	k, err := h.b.vault.unlock(secret)
	return k, err
}

func (h handler) Renew(how machine.Opening, secret machine.Key) (machine.Key, error) {
	k, err := h.b.vault.renew(how, secret)
	return k, err
}

// Turn has the TPM take the fresh half. To write it twice is to write it once, so what merely broke is tried again. When it stays open
// whether the TPM has it, the next boot finds out.
func (h handler) Turn(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // of a krad that may go away
	sure, err := h.b.vault.turn(func(half []byte) error { return h.b.writeHalf(ctx, half) })
	if !sure {
		h.b.say("nobody knows which half of the state's key the TPM has: %v", err)
		return errors.Join(err, h.wish(ask{end: endReboot}))
	}
	return err
}

// writeHalf tries until the TPM's daemon has answered, for as long as one may take to start again. A refusal says that nothing was written only if
// no try before it was left without an answer.
func (b *box) writeHalf(ctx context.Context, half []byte) error {
	var unanswered error
	for until := time.Now().Add(b.ground.pace.tpmd); ; pause(ctx, b.ground.pace.least) {
		err := b.tpm(ctx, func(l *wire.Init) error { return l.WriteHalf(ctx, half) })
		var refused wire.Refused
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused) && unanswered == nil:
			return err
		case errors.As(err, &refused) || time.Now().After(until):
			return fmt.Errorf("%v; before that: %v", err, unanswered)
		}
		unanswered = err
	}
}
