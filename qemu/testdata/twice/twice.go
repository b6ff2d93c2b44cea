// Command twice is process 1 of an image that its domain approved by mistake:
// it opens the box as it should, lets the stage advance, and then asks for the
// secrets again, also of a TPM daemon that remembers nothing.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

func main() {
	if len(os.Args) > 1 { // the child: go-systemd's protocol wants its own process id
		env := []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=init", "LISTEN_PID=" + strconv.Itoa(os.Getpid())}
		fmt.Println("TWICE exec", unix.Exec("/bin/tpmd", []string{"tpmd"}, env))
		return
	}
	for _, m := range [][3]string{{"proc", "/proc", "proc"}, {"sysfs", "/sys", "sysfs"}, {"devtmpfs", "/dev", "devtmpfs"},
		{"securityfs", "/sys/kernel/security", "securityfs"}, {"/dev/nvme0n1p2", "/state", "ext4"}} {
		if err := unix.Mount(m[0], m[1], m[2], 0, ""); err != nil {
			fmt.Println("TWICE mount", m[1], err)
		}
	}
	if err := twice(); err != nil {
		fmt.Println("TWICE", err)
	}
	fmt.Println("TWICE end")
	_ = unix.Unmount("/state", 0)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func twice() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	init, kill, err := daemon()
	if err != nil {
		return err
	}
	if err := init.Extend(ctx, label.Open); err != nil {
		return err
	}
	_, _, err = init.Unseal(ctx)
	fmt.Println("TWICE first:", err)
	if err := init.Extend(ctx, label.Running); err != nil {
		return err
	}
	_, _, err = init.Unseal(ctx)
	fmt.Println("TWICE second:", err)
	kill()
	if init, kill, err = daemon(); err != nil {
		return err
	}
	defer kill()
	_, _, err = init.Unseal(ctx)
	fmt.Println("TWICE of a new daemon:", err)
	return nil
}

// daemon starts tpmd with a connection of process 1.
func daemon() (*wire.Init, func(), error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	mine, its := os.NewFile(uintptr(pair[0]), "mine"), os.NewFile(uintptr(pair[1]), "its")
	defer mine.Close()
	defer its.Close()
	cmd := exec.Command("/proc/self/exe", "child")
	cmd.ExtraFiles = []*os.File{its}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	conn, err := net.FileConn(mine)
	if err != nil {
		return nil, nil, err
	}
	return wire.NewInit(conn), func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }, nil
}
