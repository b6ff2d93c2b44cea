// Package appliance assembles the agent: it opens log, store and token in the order that makes each the judge of the next,
// and then serves.
//
//	NV record ─► store.Open ─► audit.Open, prefix root ─► receipt key ─► fresh state, NV ─► token ─► book ─► TLS leaf ─► port
//	     └──────────┴─────────────────┴── any contradiction: process 1 is asked to lock the box
package appliance

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/keyrelease/krabox/appliance/admin"
	"github.com/keyrelease/krabox/appliance/selftest"
	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/kra/label"
	tpm "github.com/keyrelease/krabox/tpm/wire"
)

// options are krad's command line.
type options struct {
	mode     console.Mode
	reason   string
	state    string // folder: store.db, log/
	tpm, hsm string // sockets
	domain   string // file
	manifest string // file; absent on an ordinary host
	outbound string // socket of outboundd; empty on an ordinary host
}

func parseOptions(args []string) (o options, err error) {
	f := flag.NewFlagSet("krad", flag.ContinueOnError)
	mode := f.String("mode", "", "factory, enrolled, maintenance or locked")
	f.StringVar(&o.reason, "reason", "", "why the box is locked or in maintenance")
	f.StringVar(&o.state, "state", "/state/krad", "folder of store and log")
	f.StringVar(&o.tpm, "tpm", "/run/kra/tpm.sock", "socket of tpmd")
	f.StringVar(&o.hsm, "hsm", "/run/kra/hsm.sock", "socket of hsmd")
	f.StringVar(&o.domain, "domain", "/etc/kra/domain.json", "public part of the domain")
	f.StringVar(&o.manifest, "manifest", "/etc/kra/manifest.json", "what the image is; may be absent")
	f.StringVar(&o.outbound, "outbound", "", "socket of outboundd, for connections out of the box; empty: the network is this host's")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	switch o.mode = console.Mode(*mode); o.mode {
	case console.Factory, console.Enrolled, console.Locked, console.Maintenance:
		return o, nil
	}
	return o, fmt.Errorf("-mode %q is none of factory, enrolled, maintenance, locked", *mode)
}

// Main runs krad until it is told to stop.
func Main(args []string) error {
	o, err := parseOptions(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	in, err := inherit()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	a := &agent{o: o, in: in, log: slog.New(slog.NewTextHandler(os.Stderr, nil)), started: time.Now(), tests: selftest.New()}
	if err := a.prepare(); err != nil {
		return err
	}
	if err := a.selfTest(); err != nil {
		return a.serveError(ctx, err)
	}
	if o.mode == console.Enrolled {
		return a.serveEnrolled(ctx)
	}
	return a.serveRestricted(ctx)
}

// An agent is krad. What is below tpm exists in enrolled mode only.
type agent struct {
	o       options
	in      inherited
	log     *slog.Logger
	started time.Time

	tests   *selftest.Suite
	passed  int // of them at the start
	domain  label.Domain
	version string
	machine *machine.Client // nil on an ordinary host
	tpm     *tpm.Client

	unlocked admin.Typed // what opened a box that waited; zero: nothing had to
}

// prepare reads what every mode needs.
func (a *agent) prepare() error {
	b, err := os.ReadFile(a.o.domain)
	if err != nil {
		return fmt.Errorf("read domain: %w", err)
	}
	if a.domain, err = label.ParseDomain(b); err != nil {
		return fmt.Errorf("read domain: %w", err)
	}
	if a.version, err = imageVersion(a.o.manifest); err != nil {
		return err
	}
	if a.tpm, err = tpm.Dial(a.o.tpm); err != nil {
		return err
	}
	if a.in.machine != nil {
		a.machine = machine.NewClient(a.in.machine)
	}
	return nil
}

// imageVersion returns what the image says it is: a claim for people; what runs, the TPM says.
func imageVersion(file string) (string, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "not from an image", nil
	}
	if err != nil {
		return "", fmt.Errorf("read manifest: %w", err)
	}
	var m struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return "", fmt.Errorf("read manifest: %w", err)
	}
	return m.Version, nil
}

func (a *agent) adminConfig() admin.Config {
	c := admin.Config{Mode: a.o.mode, Reason: a.o.reason, Domain: a.domain, Version: a.version, Started: a.started, TPM: a.tpm,
		Health: func() []string { return nil }, Failed: a.tests.Health, SelfTest: a.testAgain}
	if a.machine != nil {
		c.Machine = a.machine
	}
	return c
}

func (a *agent) storeFile() string { return filepath.Join(a.o.state, "store.db") }
func (a *agent) logDir() string    { return filepath.Join(a.o.state, "log") }

// ready tells the supervisor that the agent serves, and from then on that it is alive, until ctx ends.
func ready(ctx context.Context, log *slog.Logger) {
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Error("notify supervisor", "err", err)
	}
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	go func() {
		for t := time.NewTicker(every / 3); ; {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				if _, err := daemon.SdNotify(false, daemon.SdNotifyWatchdog); err != nil {
					log.Error("notify supervisor", "err", err)
				}
			}
		}
	}()
}
