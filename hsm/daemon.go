package hsm

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/keyrelease/krabox/kra/label"
)

// The descriptors that hsmd inherits, by name.
const (
	fdListener = "hsm"    // unix socket on which krad asks
	fdSecret   = "secret" // pipe with the chain key, 32 bytes and the end; token files are sealed with a key derived from it
)

// stuckAfter is longer than any key takes to generate, even on an emulated machine.
const stuckAfter = 3 * time.Minute

var (
	errFailed = errors.New("the module is beyond help in this process")
	errStuck  = errors.New("a call into the module does not return")
)

// Run is hsmd: it serves the custodian until it is told to end, or fails. Whoever supervises it starts it again; it
// keeps nothing between two lives. With the word token first it is the desk's hand on a key of the domain, and with probe it
// tries a token that a box might have; then it is no daemon.
func Run(args []string) error {
	retune()
	keepProcessors()
	if err := harden(); err != nil {
		return fmt.Errorf("harden process: %w", err)
	}
	if len(args) > 0 && args[0] == tokenCommand {
		return runSigner(args[1:], os.Stdin, os.Stdout)
	}
	if len(args) > 0 && args[0] == probeCommand {
		return runProbe(args[1:], os.Stdout)
	}
	config, life, err := parseFlags(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	listener, key, err := inherit()
	if err != nil {
		return fmt.Errorf("inherit descriptors: %w", err)
	}
	c, err := New(config, key)
	clear(key[:])
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return errors.Join(serve(ctx, c, listener, life), c.Close())
}

// Code is the exit code of a process that ends with err.
func Code(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	return 1
}

func parseFlags(args []string) (c Config, life time.Duration, err error) {
	f := flag.NewFlagSet("hsmd", flag.ContinueOnError)
	f.StringVar(&c.Module, "module", "/usr/lib/softhsm/libsofthsm2.so", "PKCS#11 library")
	f.StringVar(&c.Parameters, "parameters", "", "for C_Initialize, if the library takes some there (NSS)")
	f.StringVar(&c.Dir, "tokens", "", "folder on a tmpfs for SoftHSM's token; empty for a module that keeps its own")
	f.StringVar(&c.Label, "label", "kra", "token label")
	f.StringVar(&c.Box, "box", "", "this box's name in its domain")
	domain := f.String("domain", "", "public part of the domain, whose other boxes may be given copies of keys; empty: none may")
	f.IntVar(&c.Loaded, "loaded", usualLoaded, fmt.Sprintf("keys in vault mode that are loaded at a time, as session objects, two of a hybrid key: 1 to %d", mostLoaded))
	f.IntVar(&c.Destroyed, "destroyed", usualDestroyed(), "session objects that are destroyed before hsmd ends, to be started again, for what SoftHSM keeps of each; 0: never")
	f.DurationVar(&life, "life", leastLife, "but not before it has run for so long")
	if err := f.Parse(args); err != nil {
		return Config{}, 0, err
	}
	switch {
	case f.NArg() != 0:
		return Config{}, 0, fmt.Errorf("unexpected argument %.40q", f.Arg(0))
	case c.Loaded < 1 || c.Loaded > mostLoaded:
		return Config{}, 0, fmt.Errorf("-loaded %d: want 1 to %d", c.Loaded, mostLoaded)
	case c.Destroyed < 0 || c.Destroyed > mostWear || life < 0 || life > 24*time.Hour:
		return Config{}, 0, fmt.Errorf("-destroyed %d, -life %v: want at most %d and a day", c.Destroyed, life, mostWear)
	}
	c, err = c.of(*domain)
	return c, life, err
}

// of completes a configuration with the domain in a file, if there is one.
func (c Config) of(file string) (Config, error) {
	if file == "" {
		return c, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return Config{}, fmt.Errorf("read domain: %w", err)
	}
	if c.Domain, err = label.ParseDomain(b); err != nil {
		return Config{}, fmt.Errorf("read domain: %w", err)
	}
	return c, nil
}

// inherit takes the listener and the chain key.
func inherit() (l net.Listener, key [32]byte, err error) {
	for _, f := range activation.Files(true) {
		switch f.Name() {
		case fdListener:
			l, err = net.FileListener(f)
		case fdSecret:
			err = readKey(f, key[:])
		default:
			err = fmt.Errorf("descriptor %.40q is not known", f.Name())
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, key, err
		}
	}
	if l == nil || key == [32]byte{} {
		return nil, key, fmt.Errorf("want the descriptors %q and %q", fdListener, fdSecret)
	}
	return l, key, nil
}

// readKey fills key with all that r has.
func readKey(r io.Reader, key []byte) error {
	if _, err := io.ReadFull(r, key); err != nil {
		return fmt.Errorf("read chain key: %w", err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return errors.New("read chain key: more than 32 bytes")
	}
	return nil
}

// serve answers until ctx ends, the module fails, or so much was done that it is to begin anew.
func serve(ctx context.Context, c *Custodian, l net.Listener, life time.Duration) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	go func() {
		select {
		case <-c.Failed():
			fail(errFailed)
		case <-ctx.Done():
		}
	}()
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("notify supervisor: %w", err)
	}
	go petWatchdog(ctx, c, fail)
	end := enough(ctx, c, life)
	err := c.Service().Serve(ctx, l, end)
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) // a courtesy
	if cause := context.Cause(ctx); errors.Is(cause, errFailed) || errors.Is(cause, errStuck) {
		// The module may hang in its own shutdown.
		fmt.Fprintln(os.Stderr, "hsmd:", cause)
		os.Exit(1)
	}
	select {
	case <-end:
		return errors.Join(err, errSpent)
	default:
		return err
	}
}

// petWatchdog tells the supervisor that no session is stuck, as often as it asks.
func petWatchdog(ctx context.Context, c *Custodian, fail func(error)) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		every = time.Minute
	}
	tick := time.NewTicker(every / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if t := c.token.Load(); t != nil && t.pool.stuck(stuckAfter, now) {
				fail(errStuck)
				return
			}
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog) // if it does not arrive, we are restarted
		}
	}
}
