package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// giveDevices makes each device the property of the one daemon that uses it.
func giveDevices(tty string) error {
	for i := 0; i < 50; i++ { // the driver may still be looking for its chip
		if _, err := os.Stat(imageTPM); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	var errs []error
	if _, err := os.Stat(imageTPM); err != nil {
		errs = append(errs, errors.New("there is no TPM"))
	} else if err := giveTo(imageTPM, uidTPMD, uidTPMD, 0o600); err != nil {
		errs = append(errs, fmt.Errorf("give TPM: %w", err))
	}
	if tty != "" {
		if err := giveTo(tty, uidConsole, uidConsole, 0o600); err != nil {
			errs = append(errs, fmt.Errorf("give console: %w", err))
		}
	}
	return errors.Join(errs...)
}

// copyEventLog makes the firmware's log readable for the TPM's daemon. A machine without one has an empty path.
func copyEventLog(from, run string) (string, error) {
	b, err := os.ReadFile(from)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read event log: %w", err)
	}
	if err := os.MkdirAll(run, 0o711); err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	to := filepath.Join(run, "eventlog")
	if err := os.WriteFile(to, b, 0o400); err != nil {
		return "", fmt.Errorf("copy event log: %w", err)
	}
	return to, giveTo(to, uidTPMD, uidTPMD, 0o400)
}
