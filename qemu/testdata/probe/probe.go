// Command probe is process 1 of the test image: it prints what the TPM measured and obeys a few words.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"securityfs", "/sys/kernel/security"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			fmt.Println("PROBE mount", m[1], err)
		}
	}
	measurements()
	modules()
	state()
	fmt.Println("PROBE ready")
	obey()
}

func measurements() {
	for i := range 16 {
		b, err := os.ReadFile(fmt.Sprintf("/sys/class/tpm/tpm0/pcr-sha256/%d", i))
		if err != nil {
			fmt.Println("PROBE no pcr", i, err)
			continue
		}
		fmt.Println("PROBE pcr", i, strings.ToLower(strings.TrimSpace(string(b))))
	}
	b, err := os.ReadFile("/sys/kernel/security/tpm0/binary_bios_measurements")
	if err != nil {
		fmt.Println("PROBE no event log", err)
	}
	fmt.Printf("PROBE eventlog %x\n", b)
	show("/proc/cmdline")
	show("/sys/kernel/security/lockdown")
	show("/proc/1/comm")
}

func show(path string) {
	b, err := os.ReadFile(path)
	if err != nil {
		b = []byte(err.Error())
	}
	fmt.Println("PROBE file", path, strings.TrimSpace(string(b)))
}

func modules() {
	list, err := os.ReadFile("/etc/kra/modules")
	if err != nil {
		fmt.Println("PROBE no modules", err)
		return
	}
	for name := range strings.Lines(string(list)) {
		f, err := os.Open(strings.TrimSpace(name))
		if err == nil {
			err = unix.FinitModule(int(f.Fd()), "", 0)
			f.Close()
		}
		if err != nil {
			fmt.Println("PROBE module", strings.TrimSpace(name), err)
		}
	}
	links, err := net.Interfaces()
	for _, l := range links {
		fmt.Println("PROBE link", l.Name, l.HardwareAddr, err)
	}
}

// state counts boots in a file of the state partition.
func state() {
	if err := unix.Mount("/dev/nvme0n1p2", "/state", "ext4", 0, ""); err != nil {
		fmt.Println("PROBE no state", err)
		return
	}
	old, _ := os.ReadFile("/state/boots")
	err := os.WriteFile("/state/boots", append(old, 'x'), 0o600)
	fmt.Println("PROBE boots", len(old)+1, err)
	unix.Sync()
}

func obey() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		switch words := strings.Fields(in.Text()); {
		case len(words) == 0:
		case words[0] == "poweroff":
			_ = unix.Unmount("/state", 0)
			_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
		case words[0] == "reboot":
			_ = unix.Unmount("/state", 0)
			_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
		case words[0] == "sum":
			sum := 0
			for i, c := range []byte(in.Text()) {
				sum += (i + 1) * int(c)
			}
			fmt.Println("PROBE sum", len(in.Text()), sum)
		default:
			fmt.Printf("PROBE heard %q\n", in.Text())
		}
	}
	fmt.Println("PROBE end of input", in.Err())
}
