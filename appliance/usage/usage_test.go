package usage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/kra/receipt"
	"github.com/keyrelease/krabox/kra/receipt/receipttest"
)

// box is a release log.
func box(t *testing.T) *audit.Log {
	t.Helper()
	now := time.Date(2026, 11, 18, 9, 30, 0, 0, time.UTC)
	l, err := audit.Open(t.TempDir(), audit.Options{Key: [32]byte{1}, Box: "box1", Now: func() time.Time { now = now.Add(time.Minute); return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	key, path := receipttest.New(t, "example").Key(t, "box1", now)
	if _, err := l.Rekey(t.Context(), key, path); err != nil {
		t.Fatal(err)
	}
	return l
}

// An account writes entries as the port does.
type account struct{ n uint64 }

func (a *account) release(who, access, more string) audit.Entry {
	a.n++
	return audit.Entry{Kind: receipt.Release, Access: access, Book: 1, Item: &receipt.Item{Instance: receipt.Instance{7}, N: a.n},
		Private: json.RawMessage(`{` + more + `"decision":{"book":1,"decryptor":"` + who + `","granted":"` + access + `"}}`)}
}

func refusal(private string) audit.Entry {
	return audit.Entry{Kind: receipt.Refusal, Private: json.RawMessage(private)}
}

// TestUsage: each key is counted for who had it and what it was of; who proved nothing, and what was not captured, is not
// charged.
func TestUsage(t *testing.T) {
	l, a := box(t), &account{}
	entries := []audit.Entry{a.release("corp:CN=alice", "legal", ""), a.release("corp:CN=alice", "legal", ""), a.release("corp:CN=alice", "tax", ""),
		a.release("corp:CN=bob, junior", "legal", ""), a.release("=corp:x", "legal", ""),
		a.release("corp:CN=carol", "legal", `"channel":"re-encrypted",`),
		refusal(`{"reason":"not permitted","decision":{"book":1,"decryptor":"corp:CN=alice","refused":"not permitted"}}`),
		refusal(`{"reason":"claims to be another decryptor","request":{"decryptor":"corp:CN=bob, junior","claim":"","source":""}}`),
		refusal(`{"reason":"external: capture bank: refused","decision":{"book":1,"decryptor":"corp:CN=alice","granted":"tax"}}`),
		{Kind: receipt.Command, Private: map[string]string{"line": "status"}}}
	for _, e := range entries {
		if _, err := l.Append(context.Background(), e); err != nil {
			t.Fatal(err)
		}
	}
	tally := New()
	if err := l.Records(0, 0, func(_ int64, r receipt.Record) error { return tally.Record(r) }); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := tally.WriteCSV(&out); err != nil {
		t.Fatal(err)
	}
	want := `decryptor,access,released,withdrawn,refused,first,last
-,legal,1,0,0,2026-11-18T09:37:00Z,2026-11-18T09:37:00Z
'=corp:x,legal,1,0,0,2026-11-18T09:36:00Z,2026-11-18T09:36:00Z
corp:CN=alice,,0,0,1,2026-11-18T09:38:00Z,2026-11-18T09:38:00Z
corp:CN=alice,legal,2,0,0,2026-11-18T09:32:00Z,2026-11-18T09:33:00Z
corp:CN=alice,tax,1,1,0,2026-11-18T09:34:00Z,2026-11-18T09:40:00Z
"corp:CN=bob, junior",,0,0,1,2026-11-18T09:39:00Z,2026-11-18T09:39:00Z
"corp:CN=bob, junior",legal,1,0,0,2026-11-18T09:35:00Z,2026-11-18T09:35:00Z
`
	if shift(out.String()) != shift(want) {
		t.Errorf("usage:\n%s\nwant\n%s", out.String(), want)
	}
}

// shift leaves out when: how often the log looks at its clock is its own affair.
func shift(csv string) string {
	var b strings.Builder
	for line := range strings.Lines(csv) {
		parts := strings.Split(strings.TrimSuffix(line, "\n"), ",")
		fmt.Fprintln(&b, strings.Join(parts[:len(parts)-2], ","))
	}
	return b.String()
}

// More pairs than are told apart are counted together: nobody can fill the memory with names.
func TestUsageIsBounded(t *testing.T) {
	tally := New()
	tally.max = 3
	for i := range 10 {
		tally.at(row{fmt.Sprintf("corp:CN=%d", i), "legal"}, time.Unix(0, 0)).released++
	}
	if len(tally.rows) != 4 || tally.rows[row{others, others}].released != 7 {
		t.Errorf("%d rows, %+v", len(tally.rows), tally.rows[row{others, others}])
	}
	m := NewMeter(nil)
	for i := range maxAccess + 10 {
		m.release(fmt.Sprint(i))
	}
	if len(m.released) != maxAccess+1 || m.released[others] != 10 {
		t.Errorf("%d access identifiers", len(m.released))
	}
}

// TestMetrics reads the metrics with Prometheus' own parser.
func TestMetrics(t *testing.T) {
	l, a := box(t), &account{}
	m := NewMeter(l)
	for _, e := range [][]audit.Entry{{a.release("corp:CN=alice", "legal", ""), a.release("corp:CN=bob", "legal", "")}, {a.release("corp:CN=bob", "tax", ""), refusal(`{}`)}} {
		if _, err := m.Append(context.Background(), e...); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	if _, err := m.Append(context.Background(), refusal(`{}`)); !errors.Is(err, audit.ErrClosed) {
		t.Fatal(err)
	}
	text := m.Metrics(Gauge{"kra_healthy", "1 while keys can be released.", 0}, Gauge{"kra_log_records", "Records in the release log.", 5})
	var parser expfmt.TextParser
	got, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	value := func(name, access string) float64 {
		for _, x := range got[name].GetMetric() {
			if access == "" || len(x.GetLabel()) == 1 && x.GetLabel()[0].GetName() == "access" && x.GetLabel()[0].GetValue() == access {
				return x.GetCounter().GetValue() + x.GetGauge().GetValue()
			}
		}
		return -1
	}
	for _, c := range []struct {
		name, access string
		want         float64
	}{{"kra_releases_total", "legal", 2}, {"kra_releases_total", "tax", 1}, {"kra_refusals_total", "", 1}, {"kra_log_failures_total", "", 1}, {"kra_healthy", "", 0}, {"kra_log_records", "", 5}} {
		if v := value(c.name, c.access); v != c.want {
			t.Errorf("%s %s = %g, want %g\n%s", c.name, c.access, v, c.want, text)
		}
		if f := got[c.name]; f.GetHelp() == "" {
			t.Errorf("%s has no help", c.name)
		}
	}
	if bytes.Contains(text, []byte("alice")) {
		t.Error("metrics tell who asks")
	}
}
