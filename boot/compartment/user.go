package compartment

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// secureBits make root an ordinary user and lock it so: no execve and no change of user gives a capability back.
const secureBits = noRoot | noRoot<<1 | noAmbientRaise | noAmbientRaise<<1

// Secure bits of linux/securebits.h; each is followed by the bit that locks it.
const (
	noRoot         = 1 << 0
	noAmbientRaise = 1 << 6
)

// dropCapabilities empties the bounding set; becomeUser empties the others.
func dropCapabilities(p Policy) error {
	if p.Kind != Sealed {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, secureBits, 0, 0, 0); err != nil {
		return fmt.Errorf("set secure bits: %w", err)
	}
	for c := uintptr(0); ; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) && c > unix.CAP_AUDIT_READ {
			return nil // past the last capability of this kernel
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
}

// becomeUser leaves root for good and reads back that it did. Only this thread changes; the others end at execve.
func becomeUser(p Policy) error {
	if p.Kind != Sealed {
		return nil
	}
	if err := errors.Join(setGroups(), setIDs(p)); err != nil {
		return err
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capset(&head, &sets[0]); err != nil {
		return fmt.Errorf("clear capabilities: %w", err)
	}
	if err := unix.Capget(&head, &sets[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	if sets != [2]unix.CapUserData{} {
		return errors.New("capabilities are left")
	}
	if err := unix.Setresuid(0, 0, 0); err == nil {
		return errors.New("root is still to be had")
	}
	return nil
}

func setGroups() error {
	_, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
	if e != 0 {
		return fmt.Errorf("leave groups: %w", e)
	}
	return nil
}

func setIDs(p Policy) error {
	if err := unix.Setresgid(p.GID, p.GID, p.GID); err != nil {
		return fmt.Errorf("set group: %w", err)
	}
	if err := unix.Setresuid(p.UID, p.UID, p.UID); err != nil {
		return fmt.Errorf("set user: %w", err)
	}
	return nil
}
