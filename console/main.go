package console

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/tarm/serial"
	"golang.org/x/term"

	"github.com/keyrelease/krabox/console/wire"
)

// usualBaud is the speed of the serial line if nobody says another: 8 data bits, no parity, one stop bit.
const usualBaud = 115200

// bauds are the speeds that it can have: those with which an image can be built.
var bauds = []int{9600, 19200, 38400, 57600, usualBaud}

// Main is the console program: its flags, its line, its exit code.
func Main(args []string, stdin, stdout, stderr *os.File) int {
	flags := flag.NewFlagSet("console", flag.ContinueOnError)
	flags.SetOutput(stderr)
	admin := flags.String("admin", "/run/kra/admin.sock", "unix socket of the agent")
	tty := flags.String("tty", "", "serial device; standard input and output if empty")
	baud := flags.Int("baud", usualBaud, "speed of the serial device")
	idle := flags.Duration("idle", IdleLimit, "log out after this much silence")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil: // the flags have said it
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "console: unexpected argument %q\n", flags.Arg(0))
		return 2
	case !slices.Contains(bauds, *baud):
		fmt.Fprintf(stderr, "console: no line of %d baud: want one of %v\n", *baud, bauds)
		return 2
	}
	line, err := open(*tty, *baud, stdin, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "console:", err)
		return 1
	}
	defer line.restore()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		t := New(line, wire.NewClient(*admin), *idle)
		t.window, t.serial = line.window, *tty != ""
		err := t.Run(ctx)
		for errors.Is(err, ErrLeft) && *tty != "" { // nobody can leave the box's own line
			err = t.Run(ctx)
		}
		ended <- err
	}()
	select {
	case err = <-ended:
	case <-ctx.Done(): // a read of the line cannot be stopped: the process ends under it
	}
	if err != nil && !errors.Is(err, ErrLeft) {
		fmt.Fprintln(stderr, "console:", err)
		return 1
	}
	return 0
}

// A port is where a person sits.
type port struct {
	io.Reader
	io.Writer
	restore func()                                // puts it back as it was
	window  func() (columns, rows int, err error) // nil: it is no terminal of this machine's
}

func open(tty string, baud int, stdin, stdout *os.File) (port, error) {
	if tty != "" {
		p, err := serial.OpenPort(&serial.Config{Name: tty, Baud: baud}) // no read timeout: it would read as the end of the line
		if err != nil {
			return port{}, fmt.Errorf("open %s: %w", tty, err)
		}
		return port{p, p, func() {}, nil}, nil // closing would wait for the read that nothing ends; the process ends under it
	}
	fd := int(stdin.Fd())
	if !term.IsTerminal(fd) {
		return port{stdin, stdout, func() {}, nil}, nil
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return port{}, fmt.Errorf("set terminal: %w", err)
	}
	return port{stdin, stdout, func() { term.Restore(fd, old) }, func() (int, int, error) { return term.GetSize(fd) }}, nil
}
