package admin

import (
	"fmt"

	charges "github.com/keyrelease/krabox/appliance/usage"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/kra/receipt"
)

// usageExport counts from the log itself: what was charged can be shown there, record by record.
func (s *step) usageExport(c console.UsageExport) error {
	if err := s.begin(s.ctx); err != nil {
		return err
	}
	size := s.a.c.Log.Head().Size
	if c.From >= size {
		return fmt.Errorf("the log has %d records, the last is number %d", size, size-1)
	}
	if below, at := s.a.c.Log.Removed(); c.From < below {
		return fmt.Errorf("records below %d were exported and removed on %s; what is here: usage export from %[1]d", below, stamp(at))
	}
	tally := charges.New()
	err := s.a.c.Log.Records(c.From, size, func(n int64, r receipt.Record) error {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if err := tally.Record(r); err != nil {
			return fmt.Errorf("record %d: %w", n, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return tally.WriteCSV(s)
}
