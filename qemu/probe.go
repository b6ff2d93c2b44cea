package qemu

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/keyrelease/krabox/image"
)

const probeTime = 15 * time.Second

// runsKVM runs the firmware under KVM until it speaks. A guest of a few
// instructions would not do: there are hosts whose KVM stops with an internal
// error at the first instruction it cannot emulate, well inside the firmware.
func runsKVM(ctx context.Context) bool {
	dir, err := os.MkdirTemp("", "qemu-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	vars, said, socket := filepath.Join(dir, "vars.fd"), filepath.Join(dir, "said"), filepath.Join(dir, "qmp")
	if err := image.CopyFile(vars, firmwareVars); err != nil {
		return false
	}
	guest, err := start("qemu-system-x86_64", append(Guarded.arguments(KVM, vars), "-nodefaults", "-no-user-config", "-display", "none", "-cpu", "host", "-m", "256",
		"-serial", "file:"+said, "-qmp", "unix:"+socket+",server=on,wait=off")...)
	if err != nil {
		return false
	}
	defer guest.kill()
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	return speaks(ctx, guest, socket, said)
}

// speaks waits for the first output, or for a sign that there will be none.
func speaks(ctx context.Context, guest *child, socket, said string) bool {
	var m *monitor
	for guest.running() && ctx.Err() == nil {
		if info, err := os.Stat(said); err == nil && info.Size() > 0 {
			return true
		}
		if m == nil {
			if m, _ = dialMonitor(socket); m != nil {
				defer m.conn.Close()
			}
		} else if status, err := m.status(); err != nil || status != "running" {
			return false
		}
		time.Sleep(awaitPause)
	}
	return false
}

// status is QEMU's run state: "running", "prelaunch", "internal-error", …
func (m *monitor) status() (string, error) {
	answer, err := m.do("query-status", nil)
	if err != nil {
		return "", err
	}
	var s struct {
		Status string `json:"status"`
	}
	if err := json.Unmarshal(answer, &s); err != nil {
		return "", fmt.Errorf("monitor query-status: %w", err)
	}
	return s.Status, nil
}
