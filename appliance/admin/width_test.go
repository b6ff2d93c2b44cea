package admin

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra/receipt"
)

// wide runs a line from a terminal of so many columns.
func (w *world) wide(columns int, line string) (string, wire.Outcome) {
	var out bytes.Buffer
	o := w.Do(w.t.Context(), wire.Request{Session: w.session, Line: line, Columns: columns}, &out)
	return out.String(), o
}

// widest is the longest line of a text.
func widest(text string) (n int) {
	for l := range strings.SplitSeq(text, "\n") {
		n = max(n, len([]rune(l)))
	}
	return n
}

// TestWidth: tables, fields and errors take the terminal's width, and no console makes the agent take more or less than there is.
func TestWidth(t *testing.T) {
	w := enrolled(t)
	title := strings.TrimSpace(strings.Repeat("many words ", 11))
	w.do(`access add legal-team "` + title + `"`)
	w.do("rule add long is " + strings.Repeat("true || ", 40) + "true") // wider than any terminal
	for _, x := range []struct{ columns, want int }{{0, 80}, {-1, 80}, {20, 80}, {80, 80}, {132, 132}, {250, 250}, {251, 250}, {1 << 40, 250}} {
		for _, line := range []string{"access list", "access show legal-team", "rule show long", "log show 100", "help"} {
			shown, o := w.wide(x.columns, line)
			if o.Error != "" || widest(shown) >= x.want {
				t.Errorf("%s on %d columns: %s, a line of %d, want less than %d:\n%s", line, x.columns, o.Error, widest(shown), x.want, shown)
			}
		}
		list, _ := w.wide(x.columns, "access list")
		if whole := strings.Contains(list, title); whole != (x.want == 250) || !whole && widest(list) != x.want-1 {
			t.Errorf("access list on %d columns:\n%s", x.columns, list)
		}
		if _, o := w.wide(x.columns, "group remove "+strings.Repeat("x", 63)); widest(o.Error) >= x.want {
			t.Errorf("an error on %d columns: %s", x.columns, o.Error)
		}
	}
	one, _ := w.wide(250, "access show legal-team")
	if !strings.Contains(one, title) {
		t.Errorf("a field on 250 columns is folded:\n%s", one)
	}
}

// TestWidthIsNotKept: what is logged, what programs read and what goes out under a digest is the same from every terminal.
func TestWidthIsNotKept(t *testing.T) {
	w := enrolled(t)
	w.do(`access add legal-team "` + strings.TrimSpace(strings.Repeat("many words ", 11)) + `"`)
	w.do("key generate p256 for legal-team")
	for _, line := range []string{"access list | json", "access show legal-team | json", "help key list | json"} {
		narrow, _ := w.wide(80, line)
		if broad, _ := w.wide(250, line); broad != narrow {
			t.Errorf("%s is %s, and on 250 columns %s", line, narrow, broad)
		}
	}
	if text, _ := w.wide(250, "system support"); widest(text) >= columns {
		t.Errorf("system support has a line of %d columns", widest(text))
	}
	long := "group remove " + strings.Repeat("x", 63)
	var told []string
	for _, n := range []int{80, 250} {
		_, o := w.wide(n, long)
		told = append(told, o.Error)
	}
	if told[0] == "" || told[0] == told[1] {
		t.Fatalf("%s: %q; want an error of more than a line", long, told)
	}
	var details []string
	if err := w.log.Records(0, 0, func(_ int64, r receipt.Record) error {
		if bytes.Contains(r.Private, []byte(`"failed"`)) {
			details = append(details, string(r.Private))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(details) != 2 || len(slices.Compact(details)) != 1 {
		t.Errorf("the log has %q", details)
	}
}
