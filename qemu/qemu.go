// Package qemu runs a box in a virtual machine, with a software TPM and its console on a serial line.
//
//	host, err := qemu.Probe(ctx)              // KVM if it really runs a guest, else TCG; every timeout is scaled
//	box, err := qemu.NewBox(dir, "dist/kra.img", keys) // the domain's Secure Boot certificates
//	m, err := host.Start(qemu.Config{Box: box, Forward: []int{8443}})
//	defer m.Cut()
//	_, err = m.Expect(`login: $`, time.Minute)
//	err = m.Send("status")
package qemu

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"time"
)

// An Accelerator is how QEMU executes the guest.
type Accelerator string

// KVM runs the guest on the processor, TCG translates its instructions.
const (
	KVM Accelerator = "kvm"
	TCG Accelerator = "tcg"
)

// slowdown is how much longer TCG may take than KVM. Timeouts are given as for KVM on an idle host.
const slowdown = 6

// A Host is a machine that can run boxes. It counts the starts, so that a test
// run can show that its machines were not left out. Safe for concurrent use.
type Host struct {
	accelerator Accelerator
	starts      *atomic.Int64
}

// Probe finds out what this machine can do, by running a guest: /dev/kvm is
// often there and does not work.
func Probe(ctx context.Context) (*Host, error) {
	for _, need := range []string{"qemu-system-x86_64", "swtpm"} {
		if _, err := exec.LookPath(need); err != nil {
			return nil, fmt.Errorf("probe host: %w", err)
		}
	}
	for _, need := range []string{guardedCode, firmwareVars} {
		if _, err := os.Stat(need); err != nil {
			return nil, fmt.Errorf("probe host: %w", err)
		}
	}
	h := &Host{accelerator: TCG, starts: new(atomic.Int64)}
	if runsKVM(ctx) {
		h.accelerator = KVM
	}
	return h, nil
}

// Accelerator says how guests run on this host.
func (h *Host) Accelerator() Accelerator { return h.accelerator }

// Scale stretches a time that suits KVM on an idle host to one that suits this host now.
func (h *Host) Scale(d time.Duration) time.Duration { return h.Idle(d) * time.Duration(crowd()) }

// Idle stretches a time that suits KVM to one that suits this host when it is idle.
func (h *Host) Idle(d time.Duration) time.Duration {
	if h.accelerator == TCG {
		d *= slowdown
	}
	return d
}

// maxCrowd bounds what a busy host is forgiven.
const maxCrowd = 8

// crowd is how many share each processor of this host, about: 1 on an idle one.
func crowd() int {
	var load float64
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(b), &load) // an odd one is no load
	}
	return min(max(int(load)/runtime.NumCPU(), 1), maxCrowd)
}

// Starts is how many machines were started.
func (h *Host) Starts() int { return int(h.starts.Load()) }
