package qemu

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

const (
	serialID      = "console"
	defaultMemory = 512
	defaultCPUs   = 2
)

// arguments is the machine: q35, UEFI, TPM 2.0 (CRB), one disk, one network card, one serial line, nothing else but what the
// configuration says. What is plugged in shows in PCR 2 and 4: romfile= keeps the card's option ROM out.
func (m *Machine) arguments(c Config) []string {
	cpu := "max"
	if m.host.accelerator == KVM {
		cpu = "host"
	}
	args := []string{
		"-S", "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-parallel", "none",
		"-cpu", cpu,
		"-smp", strconv.Itoa(orElse(c.CPUs, defaultCPUs)), "-m", strconv.Itoa(orElse(c.Memory, defaultMemory)),
		"-chardev", "socket,id=tpm,path=" + m.socket("tpm"), "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0",
		"-drive", "id=disk,if=none," + c.drive(),
	}
	if c.Stick != "" {
		args = append(args, "-drive", "id=stick,if=none,format=raw,file="+escape(c.Stick))
	}
	for _, device := range c.disk() {
		args = append(args, "-device", device)
	}
	args = append(args,
		"-netdev", c.network(), "-device", cmp.Or(c.Card, "virtio-net-pci")+",netdev=net,mac=52:54:00:6b:72:61,romfile=",
		"-chardev", "pty,id="+serialID, "-serial", "chardev:"+serialID,
		"-qmp", "unix:"+m.socket("qmp")+",server=on,wait=off")
	if !c.Clock.IsZero() {
		args = append(args, "-rtc", "base="+c.Clock.UTC().Format("2006-01-02T15:04:05"))
	}
	return append(args, c.Firmware.arguments(m.host.accelerator, c.Box.Vars())...)
}

func (c Config) disk() []string {
	if len(c.Disk) > 0 {
		return c.Disk
	}
	return []string{"nvme,drive=disk,serial=kra"}
}

func (c Config) drive() string {
	if c.Drive != "" {
		return "file=" + c.Drive
	}
	return "format=raw,file=" + escape(c.Box.Disk())
}

// network is a user-mode network: the host reaches the forwarded ports. Without a gateway the guest reaches nobody.
func (c Config) network() string {
	n := "user,id=net"
	if !c.Gateway {
		n += ",restrict=on"
	}
	for i, guest := range c.Forward {
		host := 0 // QEMU binds any free port
		if i == 0 {
			host = c.Port
		}
		n += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", host, guest)
	}
	return n
}

func startTPM(state, socket string) (*child, error) {
	return start("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state+",mode=0600", "--ctrl", "type=unixio,path="+socket)
}

// escape doubles the commas that would end a value of QEMU's option syntax.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }

func orElse(v, otherwise int) int {
	if v == 0 {
		return otherwise
	}
	return v
}
