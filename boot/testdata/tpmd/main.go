// Command tpmd stands in for the TPM's daemon to fail where it is told to: a real one cannot be made to die between two stages.
//
// STATE/script.json says how. Each request is appended to STATE/ops, which also is its memory of the stage, as PCR 14 is a TPM's.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// script says what to answer.
type script struct {
	State      wire.State
	Reason     string
	Refuse     map[string]string // by request: "unseal", "extend open", …
	Unapproved string
	Die        map[string]string // "before" or "after" the request is done; once
}

type fake struct {
	mu    sync.Mutex
	state string
	script
}

func main() {
	log.SetFlags(0)
	f := &fake{}
	flag.StringVar(&f.state, "state", "", "")
	for _, ignored := range []string{"device", "domain", "eventlog", "manifest"} {
		flag.String(ignored, "", "")
	}
	flag.Parse()
	b, err := os.ReadFile(filepath.Join(f.state, "script.json"))
	if err != nil {
		log.Fatal(err)
	}
	if err := json.Unmarshal(b, &f.script); err != nil {
		log.Fatal(err)
	}
	for _, file := range activation.Files(true) {
		if file.Name() == "init" {
			conn, err := net.FileConn(file)
			if err != nil {
				log.Fatal(err)
			}
			go wire.ServeInit(context.Background(), conn, f)
		}
	}
	live()
	f.note("stop")
}

// live keeps the watchdog quiet until SIGTERM.
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

func (f *fake) note(op string) {
	w, err := os.OpenFile(filepath.Join(f.state, "ops"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintln(w, op)
	w.Close()
}

// stage is the last one extended.
func (f *fake) stage() string {
	b, _ := os.ReadFile(filepath.Join(f.state, "ops"))
	last := ""
	for line := range strings.Lines(string(b)) {
		if s, ok := strings.CutPrefix(strings.TrimSpace(line), "extend "); ok {
			last = s
		}
	}
	return last
}

// do notes a request, and dies or refuses as the script says.
func (f *fake) do(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.die(op, "before")
	if why := f.Refuse[op]; why != "" {
		return wire.Refused{Reason: why}
	}
	f.note(op)
	f.die(op, "after")
	return nil
}

func (f *fake) die(op, when string) {
	mark := filepath.Join(f.state, "died")
	if f.Die[op] != when {
		return
	}
	if w, err := os.OpenFile(mark, os.O_CREATE|os.O_EXCL, 0o600); err == nil {
		w.Close()
		log.Fatalf("dies %s %s", when, op)
	}
}

func (f *fake) Status(context.Context) (wire.Status, error) {
	return wire.Status{State: f.State, Reason: f.Reason, Unapproved: f.Unapproved}, f.do("status")
}

func (f *fake) WriteHalf(context.Context, []byte) error { return f.do("half") }

func (f *fake) Extend(_ context.Context, s label.Stage) error { return f.do("extend " + s.String()) }

func (f *fake) Preload(_ context.Context, bundle []byte) (wire.Installed, error) {
	return wire.NewInstalled(label.Box{}, label.Officer{}, 2, nil), f.do("preload " + string(bundle))
}

func (f *fake) Unseal(context.Context) (wire.Opened, label.Record, error) {
	if f.stage() != "open" {
		return wire.Opened{}, label.Record{}, errors.New("not at stage open")
	}
	if err := f.do("unseal"); err != nil {
		return wire.Opened{}, label.Record{}, err
	}
	sealed, half := make([]byte, wire.SecretSize), make([]byte, wire.SecretSize)
	io.ReadFull(strings.NewReader(strings.Repeat("sealed", 10)), sealed)
	o, err := wire.NewOpened(sealed, half)
	return o, label.Record{}, err
}
