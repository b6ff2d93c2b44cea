package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/boot/compartment"
	"github.com/keyrelease/krabox/boot/machine"
)

// namespaces are those of a sealed compartment, but for what its spec shares. The network namespace is empty but for a loopback that
// is down: a daemon has the sockets it inherits and those it finds as files.
const namespaces = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// A gift is what one start of a daemon inherits.
type gift struct {
	names []string
	files []*os.File // the daemon's ends; closed here once it runs
	end   func()     // called when the daemon has ended; may be nil
}

// add puts a descriptor under a name.
func (g *gift) add(name string, f *os.File) {
	g.names, g.files = append(g.names, name), append(g.files, f)
}

func (g *gift) close() {
	for _, f := range g.files {
		f.Close()
	}
	g.files = nil
}

func (g *gift) over() {
	g.close()
	if g.end != nil {
		g.end()
	}
}

// once starts the daemon and returns when it has ended, with the reason.
func (u *unit) once(ctx context.Context) error {
	p := u.spec.confine
	if err := errors.Join(u.ground.listed.check(u.ground.stage1), u.ground.listed.check(p.Program)); err != nil {
		return err
	}
	n, err := listenNotices(u.noticePath(), p.UID, p.GID)
	if err != nil {
		return err
	}
	defer n.close()
	g, err := u.spec.gives()
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	defer g.over()
	out := &output{name: u.spec.name, to: u.ground.out}
	cmd := u.command(g, out)
	u.set(func(s *machine.Service) { s.State = machine.Starting })
	if err := u.ground.forge.start(cmd); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	g.close()
	u.set(func(s *machine.Service) { s.PID = cmd.Process.Pid })
	err = u.watch(ctx, cmd, n)
	if last := out.lastWords(); last != "" {
		return fmt.Errorf("%w: %s", err, last)
	}
	return err
}

// command is stage1 with the daemon's policy. Its environment holds nothing but the protocol of sd_notify and socket passing.
func (u *unit) command(g *gift, out *output) *exec.Cmd {
	p := u.spec.confine
	c := exec.Command(u.ground.stage1, p.Command()...)
	c.Dir = "/"
	c.Env = []string{
		"NOTIFY_SOCKET=" + u.noticePath(),
		"LISTEN_PID=1", fmt.Sprintf("LISTEN_FDS=%d", len(g.files)), "LISTEN_FDNAMES=" + strings.Join(g.names, ":"),
	}
	if u.spec.watched {
		c.Env = append(c.Env, "WATCHDOG_PID=1", fmt.Sprintf("WATCHDOG_USEC=%d", u.ground.pace.watchdog.Microseconds()))
	}
	c.ExtraFiles = g.files
	c.Stdout, c.Stderr = out, out
	c.WaitDelay = time.Second // for whoever holds the pipe after the daemon
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if p.Kind == compartment.Sealed {
		c.SysProcAttr.Cloneflags = namespaces &^ u.spec.shares
	}
	return c
}

// watch follows a running daemon to its end and says why it ended.
func (u *unit) watch(ctx context.Context, cmd *exec.Cmd, n *notices) error {
	said := make(chan string, 16)
	go n.read(cmd.Process.Pid, u.spec.confine.UID, said)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err := u.follow(ctx, cmd, said, ended)
	n.close()
	for range said { // let the reader go
	}
	return err
}

func (u *unit) follow(ctx context.Context, cmd *exec.Cmd, said <-chan string, ended <-chan error) error {
	patience := time.NewTimer(u.ground.pace.startup)
	defer patience.Stop()
	if !u.spec.watched {
		patience.Stop()
		u.hear("READY=1")
	}
	for {
		select {
		case line := <-said:
			if u.hear(line) && u.spec.watched {
				patience.Reset(u.ground.pace.watchdog)
			}
		case <-patience.C:
			cmd.Process.Kill()
			<-ended
			return errors.New("gave no sign of life and was killed")
		case err := <-ended:
			return errors.New(exitWords(err))
		case <-ctx.Done():
			return u.end(ctx, cmd, ended)
		}
	}
}

// end stops a running daemon: politely, unless the cause of the stop is errKill.
func (u *unit) end(ctx context.Context, cmd *exec.Cmd, ended <-chan error) error {
	if !errors.Is(context.Cause(ctx), errKill) {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
			return ctx.Err()
		case <-time.After(u.ground.pace.grace):
			u.ground.say("%s: does not stop and is killed", u.spec.name)
		}
	}
	cmd.Process.Kill()
	<-ended
	return ctx.Err()
}
