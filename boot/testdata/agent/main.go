// Command agent stands in for krad, hsmd and outboundd: it tells who asks what it was started with, and passes requests on to process 1.
//
// Its listener takes lines: "who" is answered with a report, the requests with "ok" or the error.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/keyrelease/krabox/boot/machine"
)

// report is what it was started with.
type report struct {
	Args   []string
	Names  []string
	Secret string // SHA-256 of what came through the pipe; empty without a pipe
	PID    int
}

func main() {
	log.SetFlags(0)
	r := report{Args: os.Args[1:], PID: os.Getpid()}
	var asks net.Listener
	var m *machine.Client
	for _, f := range activation.Files(true) {
		r.Names = append(r.Names, f.Name())
		switch f.Name() {
		case "admin", "hsm", "outbound":
			l, err := net.FileListener(f)
			fatal(err)
			asks = l
		case "machine":
			c, err := net.FileConn(f)
			fatal(err)
			m = machine.NewClient(c)
		case "secret":
			b, err := io.ReadAll(f)
			fatal(err)
			sum := sha256.Sum256(b)
			r.Secret = hex.EncodeToString(sum[:])
		}
	}
	go answer(asks, m, r)
	if len(r.Args) > 0 && os.Getenv("NOTIFY_SOCKET") != "" && lockAtOnce(r.Args) {
		fatal(m.Lock(context.Background(), "found at the start"))
	}
	live()
}

// lockAtOnce says whether the state folder asks for a lock before READY.
func lockAtOnce(args []string) bool {
	line := strings.Join(args, " ")
	_, rest, ok := strings.Cut(line, "-state ")
	if !ok || !strings.Contains(line, "-mode enrolled") {
		return false
	}
	dir, _, _ := strings.Cut(rest, " ")
	_, err := os.Stat(dir + "/lock-at-start")
	return err == nil
}

func fatal(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func live() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	daemon.SdNotify(false, daemon.SdNotifyReady)
	for ctx.Err() == nil {
		daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func answer(l net.Listener, m *machine.Client, r report) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s := bufio.NewScanner(c)
		for s.Scan() {
			fmt.Fprintln(c, one(s.Text(), m, r))
		}
		c.Close()
	}
}

func one(line string, m *machine.Client, r report) string {
	var out any = "ok"
	var err error
	ctx := context.Background()
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "who":
		out = r
	case "reboot":
		err = m.Reboot(ctx)
	case "maintenance":
		err = m.Maintenance(ctx)
	case "poweroff":
		err = m.PowerOff(ctx)
	case "lock":
		err = m.Lock(ctx, rest)
	case "clock":
		err = m.SetClock(ctx, time.Now())
	case "wrong-clock":
		err = m.SetClock(ctx, time.Now().Add(time.Hour))
	case "network":
		err = m.SetNetwork(ctx, machine.Network{Mode: machine.DHCP})
	case "status":
		out, err = m.Status(ctx)
	case "unlock":
		out, err = digest(m.Unlock(ctx, machine.Key{1}))
	case "renew":
		out, err = digest(m.Renew(ctx, machine.AsBefore, machine.Key{}))
	case "turn":
		err = m.Turn(ctx)
	}
	if err != nil {
		out = err.Error()
	}
	b, err := json.Marshal(out)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func digest(k machine.Key, err error) (string, error) {
	sum := sha256.Sum256(k[:])
	return hex.EncodeToString(sum[:]), err
}
