package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/keyrelease/krabox/image/fat"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// bootPartition is the name of the ESP in the partition table.
const bootPartition = "kra-esp"

// readPreloaded reads the approvals on the boot partition. The kernel's file system driver is not troubled with what anybody may have
// written: one file is looked up, in memory-safe code and within limits.
func readPreloaded() ([]byte, error) {
	device, err := findPartition("/sys/class/block", bootPartition)
	if err != nil {
		return nil, fmt.Errorf("look for the boot partition: %w", err)
	}
	f, err := os.Open(device)
	if err != nil {
		return nil, fmt.Errorf("open boot partition: %w", err)
	}
	defer f.Close()
	return fat.ReadFile(f, label.PreloadPath, label.MaxPreload)
}

// offerPreloaded gives tpmd the approvals that came with an upgrade, before anything is decided. That there are none, or that they are
// refused, is no fault: what decides is what tpmd holds afterwards.
func (b *box) offerPreloaded(ctx context.Context) {
	if b.o.Preloaded == nil {
		return
	}
	text, err := b.o.Preloaded()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		b.say("approvals on the boot partition: %v", err)
		return
	}
	added := 0
	err = b.tpm(ctx, func(l *wire.Init) (err error) { added, err = l.Preload(ctx, text); return err })
	switch {
	case err != nil:
		b.say("approvals on the boot partition: %v", err)
	case added > 0:
		b.say("approvals on the boot partition: %d are new", added)
	}
}
