package admin

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/kra/receipt"
)

const (
	anna     = "anna"
	annaPass = "an auditor of her own"
)

// audited makes a box with two officers and an auditor, each with a passphrase of his own, and a log of several files.
func audited(t *testing.T) *world {
	t.Helper()
	w := paired(t)
	w.do("officer add anna as auditor", "what olga typed for her", "what olga typed for her", "yes")
	w.as(paul, paulPass, func() { w.do("approve 1", "yes") })
	for range 120 {
		if _, err := w.log.Append(t.Context(), audit.Entry{Kind: receipt.Refusal, Private: map[string]string{"reason": strings.Repeat("z", 20_000)}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.files(); n != 3 {
		t.Fatalf("the log has %d files", n)
	}
	return w
}

// refuses runs a line, with yes for an answer, that must fail with all the parts in its error, and must not change the state.
func (w *world) refuses(line string, parts ...string) {
	w.t.Helper()
	said := strings.Join(strings.Fields(w.fail(line, []string{"yes"})), " ")
	for _, p := range parts {
		if !strings.Contains(said, p) {
			w.t.Errorf("%s: error %q, want %q", line, said, p)
		}
	}
}

// files is how many files of records the log has.
func (w *world) files() int {
	w.t.Helper()
	names, err := filepath.Glob(filepath.Join(w.dir, "log", "seg-*"))
	if err != nil {
		w.t.Fatal(err)
	}
	return len(names)
}

// word is an auditor's of the first size records, in the form that kra log verify shows the root in.
func (w *world) word(size int64) string {
	w.t.Helper()
	root, err := w.log.RootAt(size)
	if err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprintf("log exported %d %s", size, root)
}

func (w *world) auditor(f func()) { w.t.Helper(); w.as(anna, annaPass, f) }

// passphrase gives anna one of her own.
func (w *world) annas() {
	w.t.Helper()
	w.as(anna, "what olga typed for her", func() { w.do("officer passphrase", "what olga typed for her", annaPass, annaPass) })
}

// TestLogPruned: old records go when an auditor has named what he has of them, one officer has asked and another has approved; everybody
// is told, and what is left verifies.
func TestLogPruned(t *testing.T) {
	w := audited(t)
	const size = 100
	w.refuses("log prune before 100", "o auditor has acknowledged an export")
	w.refuses(w.word(size), "whose duty is")
	w.as(anna, "what olga typed for her", func() {
		w.refuses(w.word(size), "could be you; first: officer passphrase")
	})
	w.annas()
	w.auditor(func() {
		other := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("r", 32)))
		w.refuses("log exported 100 "+other, "have another root")
		w.refuses(strings.Replace(w.word(size), "100", "101", 1), "have another root")
		w.refuses("log exported 100000 "+other, "want 100000")
		w.refuses("log prune before 100", "whose duty is")
		if out, o := w.try(w.word(size)); o.Ask == nil || !strings.Contains(o.Ask.Prompt, "first 100 records") || out != "" {
			t.Errorf("it asks for nothing: %+v", o)
		}
		w.do(w.word(size), "yes")
		w.refuses(w.word(size), "already")
		w.refuses(w.word(size-1), "already")
	})
	if e := w.store.State().Exported(); e.Size != size || e.By != anna {
		t.Errorf("the state has %+v", e)
	}
	w.refuses("log prune before 101", "nna has acknowledged the export of the first 100 records")
	w.refuses("log prune before 3", "there is nothing to remove")
	w.has("log size", "exported", "the first 100 records", anna)

	w.do("log prune before 100", "yes")
	number := w.store.State().LastRequest()
	approve := fmt.Sprint("approve ", number)
	w.refuses(approve, "your own")
	w.auditor(func() { w.refuses(approve, "whose duty is") })
	if below, _ := w.log.Removed(); below != 0 || w.files() != 3 {
		t.Fatalf("one officer alone has removed records below %d", below)
	}
	before := w.log.Head()
	w.as(paul, paulPass, func() {
		w.has(fmt.Sprint("pending show ", number), "Remove records 0 to", "for good?", anna, "as it was when this was asked")
		if out := strings.Join(strings.Fields(w.do(approve, "yes")), " "); !strings.Contains(out, "Records 0 to") || !strings.Contains(out, "were removed; 1024 KiB are free") {
			t.Errorf("paul is told %q", out)
		}
	})
	below, _ := w.log.Removed()
	if below < 40 || below > size || w.files() != 2 {
		t.Fatalf("records below %d were removed, and %d files are left", below, w.files())
	}
	if err := w.log.CheckPrefix(uint64(before.Size), before.Root); err != nil {
		t.Error(err)
	}
	report, err := receipt.VerifyExport(strings.NewReader(w.do("log export")), w.c.Roots)
	if err != nil || report.From != below {
		t.Errorf("an export begins with record %d, %v; want %d", report.From, err, below)
	}
	gone := fmt.Sprintf("ecords below %d were exported and removed on 20", below)
	w.refuses("log export from 0", gone)
	w.refuses("usage export", gone, "usage export from")
	w.refuses("syslog add log.example.org:7000", gone, "syslog add log.example.org:7000 from")
	w.refuses("log prune before 20", gone)
	w.has("log verify", "The log is whole.", fmt.Sprintf("records below %d, on 20", below))
	w.has("log size", fmt.Sprintf("records below %d, on 20", below))
	w.has("log show 10000", "log show 10000")
	w.do("usage export from " + fmt.Sprint(below))
	var said []string
	if err := w.log.Records(below, 0, func(_ int64, r receipt.Record) error {
		if p := string(r.Private); strings.Contains(p, "log exported 100 ") || strings.Contains(p, "log prune before 100") {
			said = append(said, p)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, parts := range [][]string{{anna, "log exported 100 ", `"done"`}, {officer, "log prune before 100", `"waits"`}, {officer, "log prune before 100", `"done"`, `"approver":"paul"`}} {
		found := false
		for _, p := range said {
			all := true
			for _, part := range parts {
				all = all && strings.Contains(p, part)
			}
			found = found || all
		}
		if !found {
			t.Errorf("no record has %q:\n%s", parts, strings.Join(said, "\n"))
		}
	}
}

// A brimming log is the real one on a disk that has no room for another file, or, if it is over, for a record.
type brimming struct {
	*audit.Log
	over bool
}

func (b brimming) Health() error { return audit.ErrFull }

func (b brimming) Append(ctx context.Context, e ...audit.Entry) (audit.Committed, error) {
	if b.over {
		return audit.Committed{}, errors.Join(audit.ErrFull, unix.ENOSPC)
	}
	return b.Log.Append(ctx, e...)
}

// TestPrunedOnAFullDisk: what makes room is acknowledged, asked for, approved and done when nothing else is; but not without a record.
func TestPrunedOnAFullDisk(t *testing.T) {
	w := audited(t)
	w.annas()
	w.c.Log = brimming{w.log, false}
	w.refuses("access add x", "othing was done", "the disk is full")
	w.refuses("trust remove corp")
	w.auditor(func() { w.do(w.word(100), "yes") })
	w.c.Log = brimming{w.log, true}
	w.refuses("log prune before 100", "the log takes no record")
	w.c.Log = brimming{w.log, false}
	w.do("log prune before 100", "yes")
	w.as(paul, paulPass, func() {
		w.c.Log = brimming{w.log, true}
		w.refuses("approve 2", "the log takes no record")
		if w.files() != 3 {
			t.Fatal("records went without a record of it")
		}
		w.c.Log = brimming{w.log, false}
		w.do("approve 2", "yes")
	})
	if w.files() != 2 {
		t.Error("nothing was removed")
	}
}

// TestPrunedWhatIsForwarded: records that the syslog server is not known to have stay.
func TestPrunedWhatIsForwarded(t *testing.T) {
	w := audited(t)
	w.annas()
	w.auditor(func() { w.do(w.word(100), "yes") })
	block, _ := pem.Decode([]byte(people(t, "Logs")))
	if _, err := w.store.Commit(t.Context(), store.SyslogSet{Syslog: store.Syslog{Host: "log.example.org", Port: 6514, CA: [][]byte{block.Bytes}}}); err != nil {
		t.Fatal(err)
	}
	w.refuses("log prune before 100", "log.example.org:6514 is not known to have record 0")
	next := int64(99)
	w.c.Delivered = func() int64 { return next }
	w.refuses("log prune before 100", "is not known to have record 99")
	next = 100
	w.do("log prune before 100", "yes")
	next = 99 // the server was made another
	w.as(paul, paulPass, func() { w.refuses("approve 2", "is not known to have record 99") })
	if w.files() != 3 {
		t.Fatal("records went that were not forwarded")
	}
	next = 1000
	w.as(paul, paulPass, func() { w.do("approve 2", "yes") })
	if w.files() != 2 {
		t.Error("nothing was removed")
	}
}

// TestPruneThatFails: an officer is told when it went wrong, and the log is as it was.
func TestPruneThatFails(t *testing.T) {
	w := audited(t)
	w.annas()
	w.auditor(func() { w.do(w.word(100), "yes") })
	if err := w.log.Records(0, 0, func(at int64, _ receipt.Record) error { return nil }); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(w.dir, "log", "seg-*"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	w.do("log prune before 100", "yes")
	data[500_000] ^= 1 // the disk goes bad
	if err := os.WriteFile(names[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	w.as(paul, paulPass, func() { w.refuses("approve 2") })
	if below, _ := w.log.Removed(); below != 0 || w.files() != 3 {
		t.Error("a file went that could not be read whole")
	}
}
