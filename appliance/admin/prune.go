package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/kra/receipt"
)

// Old records go in two steps, by different people:
//
//	log export ─► kra log verify ─► log exported SIZE ROOT (auditor) ─► log prune before INDEX (officer, and a second one)
//
// The auditor names what the verified export has: the number of its records, and their root.

func (s *step) logExported(ctx context.Context, c console.LogExported) error {
	if s.officer.Given {
		return errors.New("somebody else has chosen your passphrase, and could be you; first: officer passphrase")
	}
	if _, err := s.a.c.Log.Exported(c.Size, c.Root); err != nil {
		return err
	}
	set := store.ExportedSet{Exported: store.Exported{Size: c.Size, Root: c.Root, By: s.officer.Name, At: s.a.now()}}
	if _, err := store.Apply(s.state(), set); err != nil {
		return err
	}
	if err := s.confirm("Do you keep an export of the first %d records of this log, up to this root, that kra log verify has found good? Officers may then remove them from "+
		"this box, and what they say is in your export only.", c.Size); err != nil {
		return err
	}
	if err := s.commit(ctx, set); err != nil {
		return err
	}
	return s.say("The export of the first %d records is acknowledged. Two officers can remove them: log prune before %[1]d", c.Size)
}

// exported is the auditor's word that is in the state, held against the log.
func (s *step) exported(before int64) (store.Exported, audit.Exported, error) {
	word := s.state().Exported()
	if word.Size == 0 {
		return word, audit.Exported{}, errors.New("no auditor has acknowledged an export of this log; an auditor does: log export, kra log verify, log exported SIZE ROOT")
	}
	if before > word.Size {
		return word, audit.Exported{}, fmt.Errorf("%s has acknowledged the export of the first %d records, and not of all before record %d", word.By, word.Size, before)
	}
	e, err := s.a.c.Log.Exported(word.Size, word.Root)
	return word, e, err
}

// logPrune removes old records. What it asks says what goes; it waits for a second officer, and is done on a full disk too.
func (s *step) logPrune(ctx context.Context, c console.LogPrune) error {
	word, e, err := s.exported(c.Before)
	if err != nil {
		return err
	}
	if err := s.forwardedBefore(c.Before); err != nil {
		return err
	}
	r, err := s.a.c.Log.Removable(e, c.Before)
	if err != nil {
		return err
	}
	first, err := s.timeOf(r.From)
	if err != nil {
		return err
	}
	last, err := s.timeOf(r.To - 1)
	if err != nil {
		return err
	}
	if err := s.confirm("Remove records %d to %d of the log from this box, of %s to %s, for good? Who had what then, and why, is afterwards only in the export, which %s acknowledged on %s. "+
		"Receipts of these records go on verifying. %d KiB become free.", r.From, r.To-1, stamp(first), stamp(last), printable(word.By), stamp(word.At), r.Bytes>>10); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	did, err := s.a.c.Log.Prune(e, r.To)
	if err != nil && did.To > did.From {
		return fmt.Errorf("records %d to %d were removed, and then it stopped: %w", did.From, did.To-1, err)
	}
	if err != nil {
		return err
	}
	root, err := s.a.c.Log.RootAt(word.Size)
	if err != nil || [32]byte(root) != word.Root {
		return errors.Join(errors.New("the root of the exported records is another one now"), err)
	}
	return s.say("Records %d to %d were removed; %d KiB are free. The log begins with record %d, and its roots are what they were.", did.From, did.To-1, did.Bytes>>10, did.To)
}

// forwardedBefore refuses while the syslog server, if there is one, is not known to have all records before one.
func (s *step) forwardedBefore(before int64) error {
	to := s.state().Syslog()
	if to.Host == "" {
		return nil
	}
	next := int64(0)
	if s.a.c.Delivered != nil {
		next = s.a.c.Delivered()
	}
	if before > next {
		return fmt.Errorf("the syslog server %s is not known to have record %d yet, nor what comes after it; see: syslog show", syslogServer(to), next)
	}
	return nil
}

// timeOf is when a record was made.
func (s *step) timeOf(record int64) (at time.Time, err error) {
	err = s.a.c.Log.Records(record, record+1, func(_ int64, r receipt.Record) error {
		p, err := receipt.ParsePublic(r.Public)
		at = p.Time.Time()
		return err
	})
	return at, err
}

// begins is the first record that there is.
func (s *step) begins() int64 {
	below, _ := s.a.c.Log.Removed()
	return below
}

// removedBefore shows what became of old records.
func (s *step) removedBefore() error {
	if word := s.state().Exported(); word.Size > 0 {
		field(s, "exported", fmt.Sprintf("the first %d records, root %x, as %s acknowledged on %s", word.Size, word.Root[:], printable(word.By), stamp(word.At)))
	}
	below, at := s.a.c.Log.Removed()
	if below == 0 {
		return nil
	}
	return field(s, "removed", fmt.Sprintf("records below %d, on %s", below, stamp(at)))
}
