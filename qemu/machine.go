package qemu

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// A Config says how to start a box. The zero values of all but Box are sensible.
type Config struct {
	Box     Box
	Memory  int    // MiB; 512 when zero
	CPUs    int    // 2 when zero
	Forward []int  // TCP ports of the guest to reach from this host
	Port    int    // host port of the first forwarded one; a free one when zero
	Gateway bool   // give the guest a way out: 10.0.2.2 is this host, its loopback too
	Drive   string // QEMU drive to use in place of the box's disk, such as "nbd:unix:/path,format=raw"

	Card string   // QEMU's model of the network card; virtio-net-pci when empty
	Disk []string // QEMU's devices that hold the drive "disk", and what else is plugged in; an NVMe disk when empty

	Stick string // raw image that a device may hold as the drive "stick", and that Plug plugs in; none when empty

	Clock    time.Time // of the clock chip when the box starts; this host's when zero
	Firmware Firmware  // Guarded when zero
}

// A Machine is a running box.
//
//	Start -> running -> (guest powers off) Wait -> stopped
//	            |  ^
//	            |  '-- Reset, or the guest's own reboot
//	            '-> Cut -> stopped
type Machine struct {
	*Line   // the serial line
	host    *Host
	box     Box
	work    string // sockets; removed when stopped
	qemu    *child
	tpm     *child
	monitor *monitor
	ports   map[int]string // guest port -> address on this host
	once    sync.Once
}

// errStart adds what the programs said to the reason why a start did not succeed.
func (m *Machine) errStart(err error) error {
	for _, c := range []*child{m.tpm, m.qemu} {
		if c != nil && c.stderr.String() != "" {
			err = fmt.Errorf("%w; %s", err, c.stderr)
		}
	}
	return fmt.Errorf("start box: %w", err)
}

// Start powers a box on. The processor is held until the serial line is open, so that no output is lost.
func (h *Host) Start(c Config) (*Machine, error) {
	work, err := os.MkdirTemp("", "qemu-") // short: a unix socket's path has a limit of 108 bytes
	if err != nil {
		return nil, fmt.Errorf("start box: %w", err)
	}
	m := &Machine{host: h, box: c.Box, work: work, ports: map[int]string{}}
	if err := m.start(c); err != nil {
		err = m.errStart(err)
		m.Cut()
		return nil, err
	}
	h.starts.Add(1)
	return m, nil
}

func (m *Machine) start(c Config) (err error) {
	if m.tpm, err = startTPM(c.Box.TPM(), m.socket("tpm")); err != nil {
		return err
	}
	if err := await(m.tpm, m.host.Scale(awaitTime), func() error { _, err := os.Stat(m.socket("tpm")); return err }); err != nil {
		return err
	}
	if m.qemu, err = start("qemu-system-x86_64", m.arguments(c)...); err != nil {
		return err
	}
	err = await(m.qemu, m.host.Scale(awaitTime), func() (err error) { m.monitor, err = dialMonitor(m.socket("qmp")); return err })
	if err != nil {
		return err
	}
	tty, err := m.terminal()
	if err != nil {
		return err
	}
	if m.Line, err = openLine(tty, c.Box.Log(), m.host.Scale); err != nil {
		return err
	}
	if err := m.findPorts(c.Forward); err != nil {
		return err
	}
	_, err = m.monitor.do("cont", nil)
	return err
}

func (m *Machine) socket(name string) string { return filepath.Join(m.work, name) }

// terminal asks QEMU which pseudo-terminal is the serial line.
func (m *Machine) terminal() (string, error) {
	answer, err := m.monitor.do("query-chardev", nil)
	if err != nil {
		return "", err
	}
	found := regexp.MustCompile(`pty:(/dev/pts/\d+)`).FindSubmatch(answer)
	if found == nil {
		return "", fmt.Errorf("no pseudo-terminal in %s", answer)
	}
	return string(found[1]), nil
}

// findPorts asks QEMU which host ports it was given: it bound port 0, so no other process can have taken them meanwhile.
func (m *Machine) findPorts(guest []int) error {
	if len(guest) == 0 {
		return nil
	}
	table, err := m.monitor.human("info usernet")
	if err != nil {
		return err
	}
	// TCP[HOST_FORWARD]  15  127.0.0.1 34567  10.0.2.15  8443  0  0
	row := regexp.MustCompile(`TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)`)
	for _, r := range row.FindAllStringSubmatch(table, -1) {
		port, err := strconv.Atoi(r[2])
		if err != nil {
			return err
		}
		m.ports[port] = net.JoinHostPort("127.0.0.1", r[1])
	}
	for _, port := range guest {
		if m.ports[port] == "" {
			return fmt.Errorf("port %d is not forwarded:\n%s", port, table)
		}
	}
	return nil
}

// Addr is where a forwarded port of the guest is reached on this host.
func (m *Machine) Addr(guest int) string { return m.ports[guest] }

// Break sends a BREAK on the serial line.
func (m *Machine) Break() error {
	_, err := m.monitor.do("chardev-send-break", map[string]string{"id": serialID})
	return err
}

// Reset presses the reset button: processor and TPM start again, the disk keeps what it has.
func (m *Machine) Reset() error {
	_, err := m.monitor.do("system_reset", nil)
	return err
}

// Plug plugs a device in while the box runs: its id, QEMU's name of it, and its properties.
func (m *Machine) Plug(id, device string, properties map[string]string) error {
	arguments := map[string]string{"id": id, "driver": device}
	maps.Copy(arguments, properties)
	_, err := m.monitor.do("device_add", arguments)
	return err
}

// Pull pulls out what Plug has plugged in. The guest hears of it a moment later.
func (m *Machine) Pull(id string) error {
	_, err := m.monitor.do("device_del", map[string]string{"id": id})
	return err
}

// Snapshot copies the running box into dir as a power cut at this moment would
// leave it: the processor stands still while disk and TPM state are copied.
func (m *Machine) Snapshot(dir string) (box Box, err error) {
	if _, err := m.monitor.do("stop", nil); err != nil {
		return Box{}, fmt.Errorf("snapshot: %w", err)
	}
	defer func() {
		if _, e := m.monitor.do("cont", nil); e != nil {
			err = errors.Join(err, fmt.Errorf("snapshot: %w", e))
		}
	}()
	return m.box.Copy(dir)
}

// Wait waits until the guest has powered off.
func (m *Machine) Wait(limit time.Duration) error {
	select {
	case <-m.qemu.done:
		m.Cut()
		return nil
	case <-time.After(m.host.Scale(limit)):
		return fmt.Errorf("wait for power off: still running after %v", m.host.Scale(limit))
	}
}

// Running says whether the machine has power.
func (m *Machine) Running() bool { return m.qemu.running() }

// Cut cuts the power of box, disk and TPM at once, and frees what the machine held. It may be called again.
func (m *Machine) Cut() {
	m.once.Do(func() {
		if m.qemu != nil {
			m.qemu.kill()
		}
		if m.tpm != nil {
			m.tpm.kill()
		}
		if m.monitor != nil {
			_ = m.monitor.conn.Close()
		}
		if m.Line != nil {
			m.Line.close()
		}
		_ = os.RemoveAll(m.work)
	})
}
