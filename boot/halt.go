package boot

import (
	"time"

	"golang.org/x/sys/unix"
)

// Ending is what the machine does after the last step.
type Ending uint8

const (
	Restart Ending = iota + 1
	PowerOff
)

// Halt is the one way out of process 1: whatever still runs is killed, what was written reaches the disk, and the machine restarts or
// turns off. Daemons were stopped before, the TPM's last. It does not return; no step may keep the next from being done.
func Halt(how Ending, state string) {
	unix.Kill(-1, unix.SIGKILL)
	unix.Sync()
	for unix.Unmount(state, 0) == nil { // there may be one on another
	}
	unix.Mount("", state, "", unix.MS_REMOUNT|unix.MS_RDONLY, "") // if it is busy
	unix.Sync()
	if how == PowerOff {
		unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	for {
		time.Sleep(time.Hour)
	}
}
