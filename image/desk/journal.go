package desk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/keyrelease/krabox/kra/label"
	"golang.org/x/sys/unix"
)

const (
	journalFile = "journal" // every act of the domain, chained and signed by its label key
	maxJournal  = 64 << 20
)

// Acts of a domain, as its journal calls them.
const (
	actInit     = "init"
	actEnrol    = "enrol"
	actApprove  = "approve"
	actFirmware = "approve-firmware"
	actVendor   = "believe-vendor"
	actEscrow   = "open-escrow"
)

// Journal reads the domain's journal and verifies it. It gives the entries and the digest of the last line.
func (d *Desk) Journal() ([]label.Entry, label.Digest, error) {
	f, err := os.Open(filepath.Join(d.dir, journalFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, label.Digest{}, nil
	}
	if err != nil {
		return nil, label.Digest{}, fmt.Errorf("read journal: %w", err)
	}
	defer func() { _ = f.Close() }()
	return d.readJournal(f)
}

func (d *Desk) readJournal(f io.Reader) ([]label.Entry, label.Digest, error) {
	text, err := io.ReadAll(io.LimitReader(f, maxJournal+1))
	if err != nil || len(text) > maxJournal {
		return nil, label.Digest{}, errors.Join(fmt.Errorf("read journal: at most %d bytes", maxJournal), err)
	}
	return label.ReadJournal(bytes.NewReader(text), d.domain.Label)
}

// note appends an act to the journal and returns when it is on the disk. What the act makes leaves the desk only afterwards. A
// journal that does not verify takes nothing more.
func (d *Desk) note(act, subject string, facts map[string]string) error {
	f, err := os.OpenFile(filepath.Join(d.dir, journalFile), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("note in journal: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("note in journal: %w", err)
	}
	all, last, err := d.readJournal(f)
	if err != nil {
		return fmt.Errorf("note in journal: %w", err)
	}
	if facts == nil {
		facts = map[string]string{}
	}
	line, err := label.Entry{Sequence: uint64(len(all)) + 1, Previous: last, Time: time.Now().UTC().Truncate(time.Second),
		Act: act, Subject: subject, Facts: facts}.Sign(d.key)
	if err != nil {
		return fmt.Errorf("note in journal: %w", err)
	}
	if _, err := f.Write(line); err != nil {
		return fmt.Errorf("note in journal: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("note in journal: %w", err)
	}
	return nil
}
