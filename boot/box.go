package boot

import (
	"context"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/keyrelease/krabox/boot/disks"
	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/boot/outbound"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// The modes that krad is told.
const (
	modeFactory  = "factory"
	modeEnrolled = "enrolled"
	modeLocked   = "locked"

	modeMaintenance = "maintenance"
)

// end says how a boot ended.
type end uint8

const (
	endStop end = iota + 1 // the caller's context ended
	endReboot
	endPowerOff
)

// A box is one boot of the daemons. One goroutine, in runBox, starts and stops them and locks; the others only read and ask.
type box struct {
	o      Options
	ground *ground
	asks   chan ask // from krad; taken by the one goroutine
	vault  *vault   // the keys opened in this boot; empty unless enrolled

	name string // that the domain gave the box, says the TPM's daemon; set before any other is started

	clockSteps atomic.Int32 // how often krad set the clock

	clerk disks.Clerk // of the disks that krad asks about

	sensors sensors

	mu     sync.Mutex       // guards all below
	units  map[string]*unit // the daemons that were started and not given up, by name
	link   *wire.Init       // to the tpmd that runs now
	mode   string
	reason string                  // of a locked box, or of one in maintenance
	stage  label.Stage             // last one extended
	ports  map[string]net.Listener // by the name under which a daemon inherits it
	wired  bool                    // krad has said what the network is to be
}

// ask is a wish of krad that ends or changes this boot.
type ask struct {
	end  end
	lock string // reason; set when end is not
}

// runBox does one boot from the first daemon to the last one's end.
func runBox(ctx context.Context, o Options) (end, error) {
	b, err := newBox(o)
	if err != nil {
		return 0, err
	}
	defer b.close()
	defer b.stop() // not by ctx: in order
	b.decide(ctx)
	if ctx.Err() != nil {
		return endStop, nil
	}
	krad, err := b.startAgent()
	for err == nil {
		select {
		case a := <-b.asks:
			if a.lock == "" {
				pause(ctx, b.ground.pace.courtesy)
				return a.end, nil
			}
			b.lockNow(ctx, a.lock)
			krad, err = b.startAgent()
		case failed := <-krad.first:
			b.answered(failed)
		case <-ctx.Done():
			return endStop, nil
		}
	}
	return 0, err
}

func newBox(o Options) (*box, error) {
	b := &box{o: o, asks: make(chan ask, 4), units: map[string]*unit{}, ports: map[string]net.Listener{}, sensors: sensors{class: o.Sensors}}
	b.ground = &ground{
		forge: newForge(), pace: o.patience(), stage1: filepath.Join(o.BinDir, "stage1"), run: o.Run, out: o.Output, say: b.say,
	}
	v, err := newVault()
	if err != nil {
		b.ground.forge.close()
		return nil, err
	}
	b.vault = v
	if o.Disks != nil {
		b.clerk.Drawer = *o.Disks
	}
	if b.ground.listed, err = readRoster(o.Manifest); err != nil {
		b.close()
		return nil, err
	}
	if err := b.prepareFolders(); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *box) say(format string, args ...any) {
	if b.o.Say != nil {
		b.o.Say(fmt.Sprintf(format, args...))
	}
}

// stop ends all daemons: first those that answer others, last the TPM's, which shuts the TPM down.
func (b *box) stop() {
	for _, name := range []string{"console", "krad", "outboundd", "hsmd", "tpmd"} {
		b.drop(name, errStop)
	}
}

// close gives back what a stopped box holds.
func (b *box) close() {
	b.vault.close()
	b.closePorts("release", "health", "enrol", "admin", "tpm", "hsm", outbound.Listener)
	b.ground.forge.close()
}

// keep starts a daemon and keeps it alive.
func (b *box) keep(s spec) *unit {
	u := b.ground.keep(s)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.units[s.name] = u
	return u
}

// drop ends a daemon, if it was started.
func (b *box) drop(name string, cause error) {
	b.mu.Lock()
	u := b.units[name]
	b.mu.Unlock()
	if u == nil {
		return
	}
	u.stop(cause)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.units, name)
}

// startAgent starts hsmd, outboundd and krad as the mode wants them, and does not wait: krad may ask to lock before it is ready.
func (b *box) startAgent() (krad *unit, err error) {
	mode, _ := b.Mode()
	if err := b.openPorts(mode); err != nil {
		return nil, err
	}
	if mode == modeEnrolled {
		b.keep(b.hsmdSpec())
		if b.hasNetwork() {
			b.keep(b.outboundSpec())
		}
	}
	return b.keep(b.kradSpec()), nil
}

// answered goes on when krad is ready, or seems never to be: then the console must say so.
func (b *box) answered(failed error) {
	if failed != nil {
		b.say("the agent does not start: %v", failed)
	} else {
		b.ensureNetwork()
		b.tellUp()
	}
	b.mu.Lock()
	running := b.units["console"] != nil
	b.mu.Unlock()
	if !running && b.o.TTY != "" {
		b.keep(b.consoleSpec())
	}
}

// ensureNetwork asks a DHCP server for an address if krad, now that it is ready, has said nothing: a box is reachable before
// anybody has configured it.
func (b *box) ensureNetwork() {
	b.mu.Lock()
	wired, mode := b.wired, b.mode
	b.mu.Unlock()
	if wired || mode != modeEnrolled || b.o.Hardware == nil {
		return
	}
	if err := b.o.Hardware.SetNetwork(context.Background(), machine.Network{Mode: machine.DHCP}); err != nil {
		b.say("network: %v", err)
	}
}

// dropNetwork takes the box off the network, when there is one.
func (b *box) dropNetwork() {
	if b.o.Hardware == nil {
		return
	}
	if err := b.o.Hardware.SetNetwork(context.Background(), machine.Network{Mode: machine.Off}); err != nil {
		b.say("network: %v", err)
	}
}

func (b *box) tellUp() {
	mode, reason := b.Mode()
	up := Up{Mode: mode, Reason: reason, Admin: b.socket("admin"), Status: b.Status}
	b.mu.Lock()
	if l := b.ports["release"]; l != nil {
		up.Release = l.Addr()
	}
	if l := b.ports["health"]; l != nil {
		up.Health = l.Addr()
	}
	b.mu.Unlock()
	if b.o.Up != nil {
		b.o.Up(up)
	}
}

// Mode is the mode of the box and, when it is locked or in maintenance, why.
func (b *box) Mode() (mode, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mode, b.reason
}

func (b *box) setMode(mode, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mode, b.reason = mode, reason
}

// Status is the box's answer to machine.Client.Status.
func (b *box) Status() machine.Status {
	b.mu.Lock()
	s := machine.Status{Mode: b.mode, Reason: b.reason, Stage: "none"}
	if b.stage != 0 {
		s.Stage = b.stage.String()
	}
	for _, name := range slices.Sorted(maps.Keys(b.units)) {
		s.Services = append(s.Services, b.units[name].status())
	}
	b.mu.Unlock()
	s.Programs, s.Strangers = b.ground.listed.running("/proc")
	if b.o.Hardware != nil {
		s.Ports, s.Network = b.o.Hardware.Ports()
	}
	if b.o.Sensors != "" {
		s.Sensors = b.sensors.now()
	}
	return s
}
