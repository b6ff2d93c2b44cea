// Command probe is a daemon in the wrong hands: it tries to get out of its compartment and says what it could do.
//
// It is started in a daemon's place with the daemon's own arguments before its own: "targets" and what to try, as JSON. To its standard
// error it writes a line for each attempt: its name, a tab, and the error; nothing after the tab if it succeeded.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// targets are what lies outside.
type targets struct {
	Read    []string // files
	List    []string // folders
	Write   []string // folders to make a file in
	Mount   string   // folder to mount on
	Unix    []string // socket paths
	TCP     string   // address of a listener
	Process int      // a process of the same user outside
	Shared  int      // key of System V shared memory
}

func main() {
	var t targets
	if err := json.Unmarshal([]byte(os.Args[len(os.Args)-1]), &t); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
	for name, try := range attempts(t) {
		result := ""
		if err := try(); err != nil {
			result = err.Error()
		}
		fmt.Fprintf(os.Stderr, "%s\t%s\n", name, result)
	}
	fmt.Fprintln(os.Stderr, "probe done")
	for {
		daemon.SdNotify(false, daemon.SdNotifyReady+"\n"+daemon.SdNotifyWatchdog)
		time.Sleep(50 * time.Millisecond)
	}
}

func attempts(t targets) map[string]func() error {
	all := map[string]func() error{
		"tcp":                      func() error { return dial("tcp", t.TCP) },
		"see process":              func() error { return see(fmt.Sprintf("/proc/%d", t.Process)) },
		"signal process":           func() error { return syscall.Kill(t.Process, 0) },
		"trace process":            func() error { return trace(t.Process) },
		"read process memory":      func() error { return readMemory(t.Process) },
		"shared memory":            func() error { return shared(t.Shared) },
		"become root":              func() error { return unix.Setresuid(0, 0, 0) },
		"mount":                    func() error { return mount(t.Mount) },
		"make namespace":           func() error { return newNamespace() },
		"set host name":            func() error { return hostName() },
		"make device":              func() error { return device(filepath.Join(t.Write[0], "tpm")) },
		"execute":                  func() error { return exec.Command("/bin/true").Run() },
		"gain by setuid program":   func() error { return noNewPrivileges() },
		"have capabilities":        func() error { return capabilities() },
		"regain capabilities":      func() error { return bounding() },
		"be dumped":                func() error { return dumpable() },
		"raise core limit":         func() error { return coreLimit() },
		"unexpected descriptor":    func() error { return descriptors() },
		"other processes in /proc": func() error { return processes() },
		"raw socket":               func() error { return raw() },
		"loopback up":              func() error { return dialUDP() },
	}
	for _, f := range activation.Files(false) {
		all["inherit "+f.Name()] = func() error { return nil }
	}
	for _, p := range t.Read {
		all["read "+p] = func() error { return readOpen(p) }
	}
	for _, p := range t.List {
		all["list "+p] = func() error { return see(p) }
	}
	for _, p := range t.Write {
		all["write "+p] = func() error { return os.WriteFile(filepath.Join(p, "left-by-probe"), nil, 0o600) }
	}
	for _, p := range t.Unix {
		all["connect "+p] = func() error { return dial("unix", p) }
	}
	return all
}

func readOpen(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

func see(folder string) error {
	names, err := os.ReadDir(folder)
	if err == nil && len(names) == 0 {
		err = errors.New("nothing is there")
	}
	return err
}

func dial(network, address string) error {
	c, err := net.DialTimeout(network, address, 3*time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

func dialUDP() error {
	c, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("x"))
	return err
}

func trace(pid int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceAttach(pid); err != nil {
		return err
	}
	var ws syscall.WaitStatus
	syscall.Wait4(pid, &ws, syscall.WALL, nil)
	return unix.PtraceDetach(pid)
}

func readMemory(pid int) error {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return err
	}
	return f.Close()
}

func shared(key int) error {
	_, err := unix.SysvShmGet(key, 4096, 0)
	return err
}

func mount(at string) error {
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, ""); err != nil {
		return err
	}
	return unix.Unmount(at, 0)
}

// newNamespace leaves the mount namespace on a thread of its own.
func newNamespace() error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		done <- err
	}()
	return <-done
}

func hostName() error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	return unix.Sethostname([]byte(name))
}

func device(at string) error {
	os.Remove(at)
	return unix.Mknod(at, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 224)))
}

func noNewPrivileges() error {
	v, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err == nil && v != 0 {
		err = errors.New("no new privileges")
	}
	return err
}

func capabilities() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&head, &sets[0]); err != nil {
		return err
	}
	if sets == [2]unix.CapUserData{} {
		return errors.New("none")
	}
	return nil
}

func bounding() error {
	for c := range uintptr(40) {
		if v, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err == nil && v != 0 {
			return nil
		}
	}
	return errors.New("none in the bounding set")
}

func dumpable() error {
	v, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err == nil && v != 1 {
		err = fmt.Errorf("dumpable is %d", v)
	}
	return err
}

func coreLimit() error {
	return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 4096, Max: 4096})
}

// descriptors looks for any that was open before main: the standard ones, the given ones and what the runtime made are expected.
func descriptors() error {
	for fd := 3 + len(activation.Files(false)); fd < 64; fd++ {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			return nil // not made by Go: it leaked through execve
		}
	}
	return errors.New("none")
}

func processes() error {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.Trim(n.Name(), "0123456789") == "" && n.Name() != fmt.Sprint(os.Getpid()) {
			return nil
		}
	}
	return errors.New("only this one")
}

func raw() error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}
