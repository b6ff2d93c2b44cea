package boot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyrelease/krabox/boot/machine"
)

// handler does for krad what it may ask of process 1.
type handler struct{ b *box }

func (h handler) Reboot() error            { return h.wish(ask{end: endReboot}) }
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

// maxClockSteps is how often the clock may be set in one boot: a krad in the wrong hands must not walk through the years and
// collect a certificate for each day.
const maxClockSteps = 8

func (h handler) SetNetwork(ctx context.Context, n machine.Network) error {
	if h.b.o.Hardware == nil {
		return errors.New("the network of this host is not the agent's to set")
	}
	if mode, _ := h.b.Mode(); mode == modeLocked {
		return errors.New("a locked box has no network")
	}
	h.b.mu.Lock()
	h.b.wired = true
	h.b.mu.Unlock()
	return h.b.o.Hardware.SetNetwork(ctx, n)
}

func (h handler) Status() machine.Status { return h.b.Status() }
