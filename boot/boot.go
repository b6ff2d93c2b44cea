// Package boot is process 1 of the appliance: it mounts, measures, opens, starts the daemons in their compartments and keeps them
// alive, locks, and halts.
//
// The same supervisor runs the daemons on an ordinary host, without namespaces and without root: see Run.
package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"github.com/keyrelease/krabox/boot/compartment"
	"github.com/keyrelease/krabox/boot/disks"
	"github.com/keyrelease/krabox/boot/machine"
)

// Options say where things are and what is under them. All paths are absolute.
type Options struct {
	Kind   compartment.Kind // Sealed needs root; Open runs the daemons as the caller
	Run    string           // folder for sockets and tokens, on tmpfs; made if absent
	State  string           // folder for what lasts: tpm/ and krad/; made if absent
	BinDir string           // tpmd, hsmd, krad, console and stage1

	TPM      string // what tpmd takes as -device: /dev/tpm0 or unix:/path
	EventLog string // the firmware's event log; may be empty
	Sensors  string // where the kernel shows the machine's sensors; empty: there are none
	Domain   string // file with the domain's public part
	Manifest string // file that says what the image is; empty on an ordinary host
	Model    string // what the machine's firmware calls it; empty: it does not say
	Serial   string // the machine's number, likewise
	Module   string // PKCS#11 library
	Release  string // TCP address of the release port of an enrolled box, such as ":443"
	Health   string // the same for health; empty: none
	TTY      string // serial line for the console; empty: no console is started
	Baud     int    // its speed; 0: the console's usual one

	// Fault is why the box must be locked whatever its TPM says, such as a missing state partition. Empty: no fault.
	Fault string
	// Preloaded returns approvals that lie where an upgrade left them, a place that anybody can write to; fs.ErrNotExist: there are none.
	// Nil: nobody looks.
	Preloaded func() ([]byte, error)
	// Hardware does what krad asks of the machine; nil refuses.
	Hardware Hardware
	// Disks is where disks are that a backup may be put on; nil: there are none for the agent.
	Disks *disks.Drawer
	// Reset is what happens between the end of all daemons and their next start when krad asks for a restart: a fresh TPM reset on a
	// host; on the box it does not return. Nil: nothing happens.
	Reset func(context.Context) error
	// Up is called each time krad first answers after a boot or after a lock; nil: nobody is told. It must not block.
	Up func(Up)
	// Say prints one line for the operator; nil: nobody listens.
	Say func(line string)
	// Output receives what daemons write to their standard error, a line at a time under their name; nil: it is dropped.
	Output io.Writer

	// Restart is the longest wait before a daemon that ended is started again; zero: 10 s.
	Restart time.Duration

	pace pace // zero: boxPace
}

// Hardware is what lies under the daemons and may be set through krad. Its methods are called by several goroutines.
type Hardware interface {
	SetClock(t time.Time) error
	AdjustClock(by time.Duration) error
	// SetNetwork ends what an earlier call began. It returns when the configuration is accepted, not when it has come true.
	SetNetwork(ctx context.Context, n machine.Network) error
	// Ports says what interfaces there are and, in words, what the network is doing.
	Ports() ([]machine.Port, string)
}

// Up is what runs and where to reach it.
type Up struct {
	Mode    string
	Reason  string   // of a locked box, or of one in maintenance
	Release net.Addr // nil unless the box is enrolled
	Health  net.Addr // nil unless asked for and enrolled
	Admin   string   // path of the console's socket
	Status  func() machine.Status
}

// Run boots the daemons, and again each time krad asks for a restart, until krad asks to power off (nil), ctx ends (nil) or
// they cannot be started (an error). A refusal by the TPM is no error: the box is then locked and says so. When Run returns, no
// process is left.
func Run(ctx context.Context, o Options) error {
	if err := o.check(); err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	for {
		end, err := runBox(ctx, o)
		if err != nil {
			return fmt.Errorf("boot: %w", err)
		}
		if end != endReboot {
			return nil
		}
		if o.Reset == nil {
			continue
		}
		if err := o.Reset(ctx); err != nil {
			return fmt.Errorf("reset machine: %w", err)
		}
	}
}

func (o Options) check() error {
	if o.Kind != compartment.Sealed && o.Kind != compartment.Open {
		return errors.New("kind of compartment is not set")
	}
	for what, path := range map[string]string{"run": o.Run, "state": o.State, "program": o.BinDir, "domain": o.Domain, "module": o.Module} {
		if !filepath.IsAbs(path) || filepath.Clean(path) != path {
			return fmt.Errorf("%s path %q is not absolute and clean", what, path)
		}
	}
	if o.TPM == "" || o.Release == "" {
		return errors.New("no TPM device or no release address")
	}
	return nil
}
