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
	actAdvance  = "advance-epoch"
	actDefine   = "define-label"
	actOperator = "add-operator"
	actForget   = "forget-vendor"

	actUnoperator = "remove-operator"
	actSplit      = "split-recovery"
	actRecover    = "approve-by-recovery"
	actRekey      = "rekey"
	actPerson     = "issue-person"
	actDismiss    = "revoke-person"
	actPeople     = "publish-people"

	actUnfirmware = "remove-firmware"
)

// Journal reads the domain's journal and verifies it. It gives the entries and the digest of the last line.
func (d *Desk) Journal() ([]label.Entry, label.Digest, error) {
	f, err := os.Open(filepath.Join(d.dir, journalFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, label.Digest{}, errJournalGone
	}
	if err != nil {
		return nil, label.Digest{}, fmt.Errorf("read journal: %w", err)
	}
	defer func() { _ = f.Close() }()
	return d.readJournal(f)
}

// A domain's journal begins before the domain does, so that an absent or empty one was taken away.
var errJournalGone = errors.New("read journal: this domain's journal is gone, and with it what the domain has answered and whom it enrolled: " +
	"put it back from where it is kept before the domain does anything more")

func (d *Desk) readJournal(f io.Reader) ([]label.Entry, label.Digest, error) {
	all, last, err := d.entries(f)
	if err == nil && len(all) == 0 {
		err = errJournalGone
	}
	return all, last, err
}

// entries reads whole lines. What follows the last of them is an act that was cut short while it was written: what it would have made
// never left the desk.
func (d *Desk) entries(f io.Reader) ([]label.Entry, label.Digest, error) {
	text, err := io.ReadAll(io.LimitReader(f, maxJournal+1))
	if err != nil || len(text) > maxJournal {
		return nil, label.Digest{}, errors.Join(fmt.Errorf("read journal: at most %d bytes", maxJournal), err)
	}
	return label.ReadJournal(bytes.NewReader(text[:whole(text)]), d.domain.Label)
}

// whole is the length of a text's whole lines.
func whole(text []byte) int { return bytes.LastIndexByte(text, '\n') + 1 }

// dropUnfinished cuts off what follows the last whole line of a journal that verified up to there.
func dropUnfinished(f *os.File) error {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, maxJournal+1))
	if err != nil || whole(text) == len(text) {
		return err
	}
	return f.Truncate(int64(whole(text)))
}

// note appends an act to the journal and returns when it is on the disk. What the act makes leaves the desk only afterwards. A
// journal that does not verify takes nothing more.
func (d *Desk) note(act, subject string, facts map[string]string) error {
	f, err := os.OpenFile(filepath.Join(d.dir, journalFile), os.O_RDWR|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		err = errJournalGone
	}
	if err != nil {
		return fmt.Errorf("note in journal: %w", err)
	}
	return d.append(f, d.readJournal, act, subject, facts)
}

// begin makes the journal of a new domain, with its first act.
func (d *Desk) begin(act, subject string, facts map[string]string) error {
	f, err := os.OpenFile(filepath.Join(d.dir, journalFile), os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("begin journal: %w", err)
	}
	return d.append(f, d.entries, act, subject, facts)
}

// append closes the file.
func (d *Desk) append(f *os.File, read func(io.Reader) ([]label.Entry, label.Digest, error), act, subject string, facts map[string]string) error {
	defer func() { _ = f.Close() }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("note in journal: %w", err)
	}
	all, last, err := read(f)
	if err != nil {
		return fmt.Errorf("note in journal: %w", err)
	}
	if err := dropUnfinished(f); err != nil {
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
