package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/signal"
	"syscall"
	"time"

	"github.com/keyrelease/krabox/kra/board"
)

// runServe is 'kra directory serve': the board of a domain.
func runServe(t *tool, ctx context.Context, fs *flag.FlagSet, args []string) error {
	dir := fs.String("dir", "", "keep what is posted in `DIR`")
	listen := fs.String("listen", "127.0.0.1:8080", "answer on `ADDRESS`; without -tls-cert on this machine only")
	cert := fs.String("tls-cert", "", "PEM `FILE` of the server's certificate")
	key := fs.String("tls-key", "", "PEM `FILE` of its private key, if not in the same file")
	at := fs.String("at", "", "the `URL` by which others reach it, for the page")
	set := t.settings(fs, setRoot)
	words, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(words) > 0 || *dir == "" {
		return usagef("want 'kra directory serve -dir DIR [-listen ADDRESS] [-tls-cert FILE]'")
	}
	tr, err := set.trust()
	if err != nil {
		return err
	}
	roots := tr.Certificates()
	if len(roots) != 1 {
		return usagef("a board has one domain root, and %d were given", len(roots))
	}
	conf, err := serverTLS(*cert, *key, *listen)
	if err != nil {
		return err
	}
	signal.Reset(syscall.SIGINT, syscall.SIGTERM) // a server ends in order
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *listen)
	if err != nil {
		return err
	}
	url := *at
	if url == "" {
		url = "http://" + l.Addr().String()
	}
	if conf != nil {
		l = tls.NewListener(l, conf)
		if *at == "" {
			url = "https://" + l.Addr().String()
		}
	}
	s, err := board.NewServer(board.Config{Root: roots[0], Dir: *dir, At: url, Clock: time.Now, Log: slog.New(slog.NewTextHandler(t.stderr, nil))})
	if err != nil {
		return err
	}
	fmt.Fprintf(t.stdout, "board of domain %s at %s\n", plain(s.Domain()), url)
	return s.Serve(ctx, l)
}

// serverTLS is nil for plain HTTP, which is for this machine only: a proxy in front may be what speaks TLS.
func serverTLS(cert, key, listen string) (*tls.Config, error) {
	if cert == "" {
		a, err := netip.ParseAddrPort(listen)
		if err != nil || !a.Addr().IsLoopback() {
			return nil, usagef("without -tls-cert it answers on this machine only: -listen 127.0.0.1:PORT, not %s", listen)
		}
		return nil, nil
	}
	if key == "" {
		key = cert
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read server certificate %s: %w", cert, err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}, nil
}
