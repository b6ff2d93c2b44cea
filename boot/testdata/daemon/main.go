// Command daemon behaves as its last argument says, well or badly, under the protocol of sd_notify and socket passing.
package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

func main() {
	switch how := os.Args[len(os.Args)-1]; how {
	case "good":
		ready()
		beat(forever)
	case "quiet": // never says READY
		wait()
	case "stuck": // stops saying WATCHDOG
		ready()
		beat(3)
		wait()
	case "deaf": // does not even notice that nobody listens
		ready()
		wait()
	case "crash":
		ready()
		fmt.Fprintln(os.Stderr, "no more of this")
		os.Exit(3)
	case "early":
		os.Exit(4)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		ready()
		beat(forever)
	case "proxy": // a child says READY in its parent's name
		child := exec.Command(os.Args[0], "child")
		child.Env = []string{"NOTIFY_SOCKET=" + os.Getenv("NOTIFY_SOCKET")}
		child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		fmt.Fprintln(os.Stderr, "child:", child.Run())
		wait()
	case "child":
		ready()
	case "files": // writes what it inherited into its first file
		files()
	default:
		fmt.Fprintf(os.Stderr, "behaviour %q is unknown\n", how)
		os.Exit(2)
	}
}

const forever = 1 << 30

func ready() { notify(daemon.SdNotifyReady + "\nSTATUS=all is well") }

func notify(s string) {
	if sent, err := daemon.SdNotify(false, s); !sent || err != nil {
		fmt.Fprintln(os.Stderr, "notify:", sent, err)
		os.Exit(5)
	}
}

func beat(n int) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		fmt.Fprintln(os.Stderr, "watchdog:", every, err)
		os.Exit(6)
	}
	for range n {
		time.Sleep(every / 3)
		notify(daemon.SdNotifyWatchdog)
	}
}

func wait() { time.Sleep(time.Hour) }

func files() {
	var said []string
	for _, f := range activation.Files(true) {
		what := f.Name()
		if c, err := net.FileConn(f); err == nil {
			fmt.Fprintln(c, "hello")
			what += " connection"
		} else if l, err := net.FileListener(f); err == nil {
			what += " listener " + l.Addr().Network()
		} else {
			b := make([]byte, 64)
			n, _ := f.Read(b)
			m, err := f.Read(b[n:])
			what += fmt.Sprintf(" %x %d %v", b[:n], m, err)
		}
		said = append(said, what)
	}
	notify("STATUS=" + strings.Join(said, ", ") + "; env " + strings.Join(os.Environ(), " "))
	notify(daemon.SdNotifyReady)
	beat(forever)
}
