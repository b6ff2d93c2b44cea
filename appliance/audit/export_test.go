package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/receipt"
)

func mustAppend(t testing.TB, l *Log, entries ...Entry) Committed {
	t.Helper()
	c, err := l.Append(context.Background(), entries...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func export(t testing.TB, l *Log, from, to int64) string {
	t.Helper()
	var b bytes.Buffer
	if err := l.Export(&b, from, to); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// threeBoots fills a log over three boots that lie two days apart, so that each receipt key but the last has expired.
func threeBoots(t testing.TB, b *bench) (*Log, []receipt.Evidence) {
	t.Helper()
	var l *Log
	var got []receipt.Evidence
	for boot := range 3 {
		if boot > 0 {
			l.Close()
		}
		at := time.Now().Add(time.Duration(boot) * 48 * time.Hour)
		b.opts.Now = func() time.Time { return at }
		l = b.boot(t)
		l.SetState(uint64(boot+1), uint64(boot))
		for range 20 {
			c := mustAppend(t, l, b.hsm.unwrap(), Entry{Kind: receipt.Refusal, Private: "no rule"}, b.hsm.unwrap())
			got = append(got, receipt.Evidence{Checkpoint: c.Checkpoint(), Path: c.Path(), Receipt: &c.Receipts()[2]})
		}
	}
	return l, got
}

func TestExportVerifies(t *testing.T) {
	b := newBench(t)
	l, evidence := threeBoots(t, b)
	r, err := receipt.VerifyExport(strings.NewReader(export(t, l, 0, 0)), b.domain.Roots, evidence...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Head.Size != 183 || r.Records[receipt.Release] != 120 || len(r.Keys) != 3 || r.Seen != 60 || r.Name.Box != "box1" {
		t.Errorf("report = %+v", r)
	}
	if len(r.Lives) != 1 || r.Lives[0].N != 120 || r.Lives[0].Proven != 120 || r.Lives[0].Beyond != 0 {
		t.Errorf("lives = %+v; want 120 items, all proven", r.Lives)
	}
}

func TestRangeExportVerifies(t *testing.T) {
	b := newBench(t)
	l, evidence := threeBoots(t, b)
	for _, from := range []int64{1, 2, 60, 61, 62, 100, 182} {
		r, err := receipt.VerifyExport(strings.NewReader(export(t, l, from, 0)), b.domain.Roots, evidence[len(evidence)-1])
		if err != nil {
			t.Fatalf("from %d: %v", from, err)
		}
		if r.From > from || r.From < from-2 || r.Head.Size != 183 {
			t.Errorf("from %d: range %d to %d", from, r.From, r.Head.Size)
		}
	}
	if r, err := receipt.VerifyExport(strings.NewReader(export(t, l, 5, 9)), b.domain.Roots); err != nil || r.Head.Size != 10 {
		t.Errorf("5 to 9: %+v, %v", r, err)
	}
	var redacted bytes.Buffer
	if err := l.ExportRedacted(&redacted, 0, 0); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(redacted.String(), "alice") {
		t.Error("a redacted export shows who asked")
	}
	if r, err := receipt.VerifyExport(&redacted, b.domain.Roots, evidence...); err != nil || r.Redacted != 183 {
		t.Errorf("redacted: %+v, %v", r, err)
	}
}

// lines splits an export; edit changes the line that holds the text at or after a place.
func edit(t *testing.T, export string, nth int, old, new string) string {
	t.Helper()
	lines := strings.SplitAfter(export, "\n")
	for i, l := range lines {
		if strings.Contains(l, old) {
			if nth--; nth < 0 {
				lines[i] = strings.Replace(l, old, new, 1)
				return strings.Join(lines, "")
			}
		}
	}
	t.Fatalf("no line %q in the export", old)
	return ""
}

func TestEditedExportRefused(t *testing.T) {
	b := newBench(t)
	l, evidence := threeBoots(t, b)
	whole := export(t, l, 0, 0)
	lines := strings.SplitAfter(whole, "\n")
	cut := func(n int) string { return strings.Join(lines[:len(lines)-1-n], "") }
	other := newBench(t)
	otherLog := other.boot(t)
	for _, c := range []struct {
		name, export, want string
	}{
		{"public part", edit(t, whole, 3, "legal-team", "other-team"), "of another log"},
		{"private part", edit(t, whole, 3, "CN=alice", "CN=mally"), "of another log"},
		{"time", edit(t, whole, 3, `"time":"2`, `"time":"3`), "of another log"},
		{"an unwrap named twice", edit(t, whole, 4, `"n":5`, `"n":4`), "in the log already"},
		{"an unwrap skipped", edit(t, whole, 4, `"n":5`, `"n":500`), "of another log"},
		{"a record dropped", strings.Join(append(append([]string{}, lines[:7]...), lines[8:]...), ""), "of another log"},
		{"shorter than a receipt says", cut(4), "covers 183"},
		{"a checkpoint's size", edit(t, whole, 3, `kra/log/box1\n7`, `kra/log/box1\n8`), "line"},
		{"white space", edit(t, whole, 3, `{"record"`, `{ "record"`), "canonical"},
		{"repeated field", edit(t, whole, 3, `{"public"`, `{"salt":"","public"`), "canonical"},
		{"last line cut", whole[:len(whole)-10], "cut"},
		{"ends in a record", cut(1), "does not end with a checkpoint"},
		{"another domain's", export(t, otherLog, 0, 0), "unknown authority"},
		{"empty", "", "EOF"},
		{"a receipt key without the one before it", edit(t, whole, 1, `"old":"`, `"old":"AAAA`), "not signed by the key before"},
	} {
		_, err := receipt.VerifyExport(strings.NewReader(c.export), b.domain.Roots)
		if strings.HasPrefix(c.name, "shorter") {
			_, err = receipt.VerifyExport(strings.NewReader(c.export), b.domain.Roots, evidence...)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v; want %q", c.name, err, c.want)
		}
	}
}

func TestReceiptsVerifyAfterExpiry(t *testing.T) {
	b := newBench(t)
	_, evidence := threeBoots(t, b)
	for i, e := range evidence {
		if _, err := receipt.Verify(*e.Receipt, e.Checkpoint, e.Path, b.domain.Roots); err != nil {
			t.Fatalf("receipt %d: %v", i, err)
		}
	}
	// A key may not sign outside its validity.
	b.opts.Now = func() time.Time { return time.Now().Add(30 * 24 * time.Hour) }
	key, path := b.domain.Key(t, "box1", time.Now())
	s, err := receipt.NewSigner("box1", key, path)
	if err != nil {
		t.Fatal(err)
	}
	late, err := s.Checkpoint(receipt.Checkpoint{Size: 1, Time: b.opts.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := receipt.VerifyCheckpoint(late, path, b.domain.Roots); err == nil {
		t.Error("a checkpoint verifies that was signed after its key's certificate had expired")
	}
}

func TestReceiptKeyLost(t *testing.T) {
	b := newBench(t)
	l := b.boot(t)
	l.Close()
	if err := os.Remove(l.path(keyFileName)); err != nil {
		t.Fatal(err)
	}
	l, err := Open(b.dir, b.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	key, path := b.domain.Key(t, "box1", time.Now())
	if _, err := l.Rekey(context.Background(), key, path); err == nil {
		t.Error("Rekey begins a new line of keys although the log has one")
	}
	if _, err := l.Append(context.Background(), b.hsm.unwrap()); err == nil {
		t.Error("Append without a receipt key")
	}
}

func TestRecords(t *testing.T) {
	b := newBench(t)
	l, _ := threeBoots(t, b)
	var got []int64
	err := l.Records(181, 0, func(i int64, r receipt.Record) error {
		var v any
		if err := json.Unmarshal(r.Private, &v); err != nil {
			t.Error(err)
		}
		got = append(got, i)
		return nil
	})
	if err != nil || len(got) != 2 || got[0] != 181 {
		t.Errorf("Records(181, 0) = %v, %v", got, err)
	}
}
