package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keyrelease/krabox/kra/label"
)

// maintenanceFile is the officer's word for the next boot. Who can write to the disk can leave it too, and gains a box that serves
// nothing, which he could have had by pulling the plug.
const maintenanceFile = "maintenance"

// maintain goes to the stage where nothing opens and no label key signs but those of root and maintenance, instead of open: firmware that
// is new cannot be told from firmware that lies, so the domain has to say first that it is good. It is no way around anything: from this
// stage there is none to open.
func (b *box) maintain(ctx context.Context, reason string) error {
	if err := b.extend(ctx, label.Maintenance); err != nil {
		return err
	}
	b.setMode(modeMaintenance, reason)
	b.say("maintenance: %s", reason)
	return nil
}

// askForMaintenance returns when the word is on the disk.
func askForMaintenance(state string) error {
	f, err := os.OpenFile(filepath.Join(state, maintenanceFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("leave word for the next boot: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("leave word for the next boot: %w", err)
	}
	return syncFolder(state)
}

// maintenanceAsked takes the word back: it counts once. What cannot be taken back counts too.
func maintenanceAsked(state string) (bool, error) {
	err := os.Remove(filepath.Join(state, maintenanceFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return true, fmt.Errorf("an officer asked for it, and will until the disk can be written: %w", err)
	}
	return true, syncFolder(state)
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("write to the disk: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("write to the disk: %w", err)
	}
	return nil
}
