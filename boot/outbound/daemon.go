package outbound

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// Listener is the name under which outboundd inherits its socket.
const Listener = "outbound"

// Run is outboundd: it serves until it is told to stop.
func Run(args []string) error {
	f := flag.NewFlagSet("outboundd", flag.ContinueOnError)
	names := f.String("names", "", "folder of the list of name servers")
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err == nil && (f.NArg() > 0 || !filepath.IsAbs(*names)) {
		err = errors.New("usage: outboundd -names FOLDER")
	}
	if err != nil {
		return err
	}
	l, err := inherit()
	if err != nil {
		return fmt.Errorf("inherit descriptors: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go live(ctx)
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("notify supervisor: %w", err)
	}
	return newServer(*names).serve(ctx, l)
}

func inherit() (l net.Listener, err error) {
	for _, f := range activation.Files(true) {
		if f.Name() != Listener || l != nil {
			err = fmt.Errorf("descriptor %.40q is not known", f.Name())
		} else {
			l, err = net.FileListener(f)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	if l == nil {
		return nil, fmt.Errorf("want the descriptor %q", Listener)
	}
	return l, nil
}

// live tells the supervisor that this process runs, as often as it asks.
func live(ctx context.Context) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	for t := time.NewTicker(every / 3); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog) // if it does not arrive, we are restarted
		}
	}
}
