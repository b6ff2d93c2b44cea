package boot

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const clockChip = "/dev/rtc0"

// setClock sets the system clock, and the clock chip where there is one so that the next boot begins near the truth.
func setClock(t time.Time) error {
	tv := unix.NsecToTimeval(t.UnixNano())
	if err := unix.Settimeofday(&tv); err != nil {
		return fmt.Errorf("set clock: %w", err)
	}
	f, err := os.Open(clockChip)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open clock chip: %w", err)
	}
	defer f.Close()
	if err := unix.IoctlSetRTCTime(int(f.Fd()), chipTime(t)); err != nil {
		return fmt.Errorf("set clock chip: %w", err)
	}
	return nil
}

// adjustClock has the kernel slew the system clock, as adjtime(3) does: at 0.5 ms in a second, whatever is asked for how often.
func adjustClock(by time.Duration) error {
	const once = 0x8001 // ADJ_OFFSET_SINGLESHOT of adjtimex(2)
	if _, err := unix.Adjtimex(&unix.Timex{Modes: once, Offset: by.Microseconds()}); err != nil {
		return fmt.Errorf("adjust clock: %w", err)
	}
	return nil
}

// chipTime is t in UTC as rtc(4) counts: months from 0, years from 1900.
func chipTime(t time.Time) *unix.RTCTime {
	t = t.UTC()
	return &unix.RTCTime{
		Sec: int32(t.Second()), Min: int32(t.Minute()), Hour: int32(t.Hour()),
		Mday: int32(t.Day()), Mon: int32(t.Month()) - 1, Year: int32(t.Year()) - 1900,
	}
}
