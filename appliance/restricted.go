package appliance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/keyrelease/krabox/appliance/admin"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	tpm "github.com/keyrelease/krabox/tpm/wire"
)

// serveRestricted serves the console of a box that is factory, locked or in maintenance: no store, no log, no port.
func (a *agent) serveRestricted(ctx context.Context) error {
	c := a.adminConfig()
	if a.o.mode == console.Factory {
		c.Install, c.Port = a.install, a.in.enrol
	}
	if a.o.mode == console.Locked {
		c.Erase = a.erase
	}
	if a.o.mode == console.Locked || a.o.mode == console.Maintenance {
		c.Health = func() []string { return []string{string(a.o.mode) + ": " + a.o.reason} }
	}
	agent, err := admin.New(c)
	if err != nil {
		return err
	}
	return a.serveAdmin(ctx, agent)
}

// install creates the store of a box whose bundle was accepted and completes the enrolment by the first NV record. A store
// that an interrupted enrolment left is made anew: nothing in it was ever acknowledged.
func (a *agent) install(ctx context.Context, i tpm.Installed) error {
	key, err := i.StoreKey()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.o.state, 0o700); err != nil {
		return fmt.Errorf("create store: %w", err)
	}
	st, err := store.Create(ctx, a.storeFile(), key, a.tpm, store.BoxSet{Box: i.Box}, store.OfficerAdd{Name: i.Officer.Name, Hash: i.Officer.Hash, Duty: store.Chief})
	if err != nil {
		return err
	}
	return st.Close()
}

// erase removes what the agent has on the disk. Files that are open stay open, and nothing of them is on the disk.
func (a *agent) erase() error {
	all, err := os.ReadDir(a.o.state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range all {
		err = errors.Join(err, os.RemoveAll(filepath.Join(a.o.state, e.Name())))
	}
	if err != nil {
		return fmt.Errorf("erase state: %w", err)
	}
	return nil
}

// How long the console's requests may take to be read. Answers take as long as they take: a key, a TPM.
const adminReadWithin = 30 * time.Second

// serveAdmin serves the console's socket until ctx ends.
func (a *agent) serveAdmin(ctx context.Context, e wire.Executor) error {
	return a.serveAdminOn(ctx, a.in.admin, e)
}

func (a *agent) serveAdminOn(ctx context.Context, l net.Listener, e wire.Executor) error {
	s := &http.Server{Handler: wire.Handler(e), ReadTimeout: adminReadWithin, MaxHeaderBytes: 8 << 10}
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if s.Shutdown(end) != nil {
			s.Close()
		}
	})
	defer stop()
	ready(ctx, a.log)
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve console: %w", err)
	}
	return nil
}
