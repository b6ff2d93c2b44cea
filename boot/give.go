package boot

import (
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/boot/compartment"
	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/boot/outbound"
	"github.com/keyrelease/krabox/tpm/wire"
)

// prepareFolders makes the folders and gives each to its daemon.
func (b *box) prepareFolders() error {
	for _, f := range []struct {
		path string
		uid  int
		mode os.FileMode
	}{
		{b.o.Run, 0, 0o711}, // its sockets are reached by name and not listed
		{b.o.State, 0, 0o711},
		{b.tokensDir(), uidHSMD, 0o700},
		{namesDir(b.o.Run), 0, 0o755},
		{b.stateDir("tpm"), uidTPMD, 0o700},
		{b.stateDir("krad"), uidKRAD, 0o700},
	} {
		if err := b.folder(f.path, f.uid, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// folder makes a folder, if it is not there, and gives it to a daemon's user.
func (b *box) folder(path string, uid int, mode os.FileMode) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if err := b.give(path, uid, mode); err != nil {
		return fmt.Errorf("give folder: %w", err)
	}
	return nil
}

// give makes a daemon's user the owner, where daemons have users.
func (b *box) give(path string, uid int, mode os.FileMode) error {
	if b.o.Kind == compartment.Open {
		return os.Chmod(path, mode&^0o077)
	}
	return giveTo(path, uid, uid, mode)
}

// listen makes the socket that clients of the user reach under a path, once; later calls return the same one.
func (b *box) listen(name string, client int) (net.Listener, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.ports[name]; l != nil {
		return l, nil
	}
	path := b.socket(name)
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := b.give(path, client, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("give socket: %w", err)
	}
	b.ports[name] = l
	return l, nil
}

// openPorts opens the network's side of a box: that of an enrolled one, or the port on which a factory box meets its desk while its
// console says so.
func (b *box) openPorts(mode string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := map[string]map[string]string{modeEnrolled: {"release": b.o.Release, "health": b.o.Health}, modeFactory: {"enrol": b.o.Release}}
	for name, address := range open[mode] {
		if address == "" || b.ports[name] != nil {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("open %s port: %w", name, err)
		}
		b.ports[name] = l
	}
	return nil
}

func (b *box) closePorts(names ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range names {
		if l := b.ports[name]; l != nil {
			l.Close()
			delete(b.ports, name)
		}
	}
}

// lend adds a copy of a listener to a gift.
func (g *gift) lend(name string, l net.Listener) error {
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		return fmt.Errorf("copy listener %s: %w", name, err)
	}
	g.add(name, f)
	return nil
}

// connect adds one end of a new connection to a gift and returns the other.
func (g *gift) connect(name string) (net.Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make connection %s: %w", name, err)
	}
	near := os.NewFile(uintptr(fds[0]), name)
	defer near.Close()
	g.add(name, os.NewFile(uintptr(fds[1]), name))
	c, err := net.FileConn(near)
	if err != nil {
		return nil, fmt.Errorf("make connection %s: %w", name, err)
	}
	return c, nil
}

// filled returns a gift that fill could fill, or nothing is kept of it.
func filled(fill func(*gift) error) (*gift, error) {
	g := &gift{}
	if err := fill(g); err != nil {
		g.over()
		return nil, err
	}
	return g, nil
}

func (b *box) forTPMD() (*gift, error) {
	return filled(func(g *gift) error {
		l, err := b.listen("tpm", uidKRAD)
		if err != nil {
			return err
		}
		if err := g.lend("tpm", l); err != nil {
			return err
		}
		c, err := g.connect("init")
		if err != nil {
			return err
		}
		b.setLink(wire.NewInit(c))
		g.end = func() {
			b.setLink(nil)
			c.Close()
		}
		return nil
	})
}

// forHSMD makes the token's folder again if it was lost: what is in it comes from the sealed state, and hsmd may not make it.
func (b *box) forHSMD() (*gift, error) {
	if err := b.folder(b.tokensDir(), uidHSMD, 0o700); err != nil {
		return nil, err
	}
	return filled(func(g *gift) error {
		l, err := b.listen("hsm", uidKRAD)
		if err != nil {
			return err
		}
		if err := g.lend("hsm", l); err != nil {
			return err
		}
		return g.secret(b.vault, chainKey)
	})
}

// secret adds a key to a gift.
func (g *gift) secret(v *vault, which secretName) error {
	f, err := v.pipe(which)
	if err == nil {
		g.add("secret", f)
	}
	return err
}

func (b *box) forOutbound() (*gift, error) {
	return filled(func(g *gift) error {
		l, err := b.listen(outbound.Listener, uidKRAD)
		if err != nil {
			return err
		}
		return g.lend(outbound.Listener, l)
	})
}

func (b *box) forKRAD() (*gift, error) {
	return filled(func(g *gift) error {
		admin, err := b.listen("admin", uidConsole)
		if err != nil {
			return err
		}
		if err := g.lend("admin", admin); err != nil {
			return err
		}
		if err := b.lendPorts(g); err != nil {
			return err
		}
		if mode, _ := b.Mode(); mode == modeEnrolled {
			if err := g.secret(b.vault, storeKey); err != nil {
				return err
			}
		}
		return b.serveMachine(g)
	})
}

func (b *box) lendPorts(g *gift) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range []string{"release", "health", "enrol"} {
		if l := b.ports[name]; l != nil {
			if err := g.lend(name, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// serveMachine answers this krad's requests until it has ended.
func (b *box) serveMachine(g *gift) error {
	c, err := g.connect("machine")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := machine.Serve(ctx, c, handler{b}); err != nil {
			b.say("krad: %v", err)
		}
	}()
	g.end = func() { cancel(); <-done }
	return nil
}
