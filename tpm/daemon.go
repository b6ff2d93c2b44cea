package tpm

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// pool is the kernel's random generator.
const pool = "/dev/urandom"

// Names of tpmd's inherited descriptors.
const (
	initName  = "init"
	agentName = "tpm"
)

type flags struct{ device, state, domain, eventLog, manifest, model, serial string }

func parseFlags(args []string) (f flags, err error) {
	s := flag.NewFlagSet("tpmd", flag.ContinueOnError)
	s.StringVar(&f.device, "device", "/dev/tpm0", "TPM: a device, or unix:PATH of an swtpm")
	s.StringVar(&f.state, "state", "/state/tpm", "folder of key blobs, approvals and escrow")
	s.StringVar(&f.domain, "domain", "/etc/kra/domain.json", "public part of the domain")
	s.StringVar(&f.eventLog, "eventlog", "/sys/kernel/security/tpm0/binary_bios_measurements", "event log of the firmware; may be missing")
	s.StringVar(&f.manifest, "manifest", "/etc/kra/manifest.json", "what the image says it is; may be missing")
	s.StringVar(&f.model, "model", unknown, "what the machine's firmware calls it")
	s.StringVar(&f.serial, "serial", unknown, "the machine's number")
	if err := s.Parse(args); err != nil {
		return f, err
	}
	if s.NArg() > 0 {
		return f, fmt.Errorf("parse flags: unexpected %q", s.Arg(0))
	}
	return f, nil
}

// Daemon is tpmd: it opens the TPM, takes its inherited descriptors and serves until ctx ends.
func Daemon(ctx context.Context, log *slog.Logger, args []string) error {
	f, err := parseFlags(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	agent, err := f.open()
	if err != nil {
		return err
	}
	defer func() { _ = agent.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	n := 0
	for name, files := range inherited() {
		for _, file := range files {
			if err := takeOver(ctx, log, &all, name, file, agent); err != nil {
				return err
			}
			n++
		}
	}
	if n == 0 {
		return errors.New("serve: no descriptor was inherited (LISTEN_FDS)")
	}
	go watchdog(ctx)
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	select {
	case <-ctx.Done():
		_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
		return nil
	case <-agent.Broken():
		return errBroken // a new process may reach the TPM again
	}
}

func inherited() map[string][]*os.File {
	m := map[string][]*os.File{}
	for _, f := range activation.Files(true) {
		m[f.Name()] = append(m[f.Name()], f)
	}
	return m
}

func (f flags) open() (*Agent, error) {
	b, err := os.ReadFile(f.domain)
	if err != nil {
		return nil, fmt.Errorf("read domain: %w", err)
	}
	d, err := label.ParseDomain(b)
	if err != nil {
		return nil, err
	}
	return Open(Config{Device: f.device, Folder: f.state, Domain: d, Software: software(f.manifest), Model: f.model, Serial: f.serial, Pool: pool,
		EventLog: func() ([]byte, error) { return eventLog(f.eventLog) }, Now: time.Now})
}

// software is a claim for people; an image without a manifest makes none.
func software(path string) string {
	var m struct {
		Version string `json:"version"`
	}
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &m) != nil || m.Version == "" || len(m.Version) > label.MaxDescription {
		return unknown
	}
	return m.Version
}

func eventLog(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// takeOver serves one inherited descriptor. Process 1's is a connection: nobody else can get one.
func takeOver(ctx context.Context, log *slog.Logger, all *sync.WaitGroup, name string, file *os.File, agent *Agent) error {
	defer func() { _ = file.Close() }() // net dups it
	switch name {
	case initName:
		conn, err := net.FileConn(file)
		if err != nil {
			return fmt.Errorf("take descriptor %q: %w", name, err)
		}
		all.Go(func() { report(log, "init channel", wire.ServeInit(ctx, conn, agent)) })
	case agentName:
		l, err := net.FileListener(file)
		if err != nil {
			return fmt.Errorf("take descriptor %q: %w", name, err)
		}
		all.Go(func() { accept(ctx, log, all, l, agent) })
	default:
		return fmt.Errorf("take descriptor %q: unknown name", name)
	}
	return nil
}

// maxClients bounds the agent's connections: one krad needs one.
const maxClients = 16

func accept(ctx context.Context, log *slog.Logger, all *sync.WaitGroup, l net.Listener, agent *Agent) {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	slots := make(chan struct{}, maxClients)
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() == nil {
				log.Error("accept", "error", err)
			}
			return
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			defer func() { _ = conn.Close() }()
			report(log, "agent channel", wire.ServeAgent(ctx, conn, agent))
		})
	}
}

func report(log *slog.Logger, channel string, err error) {
	if err != nil {
		log.Warn("channel ends", "channel", channel, "error", err)
	}
}

// watchdog says that the process lives, as often as its supervisor wants to hear it.
func watchdog(ctx context.Context) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		}
	}
}
