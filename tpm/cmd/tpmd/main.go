// Command tpmd owns the TPM of a box: nothing else opens it.
//
// It is given its descriptors by name (LISTEN_FDS): "init", a connected stream on which process 1 may extend and
// unseal, and "tpm", a listening socket for the agent. Either may be missing.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/keyrelease/krabox/tpm"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := tpm.Daemon(ctx, log, os.Args[1:]); err != nil {
		log.Error("tpmd ends", "error", err)
		os.Exit(1)
	}
}
