package label

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// newJournal is of n acts.
func newJournal(t testing.TB, k keys, n int) []byte {
	t.Helper()
	d := Domain{Label: keyOf(t, k)}
	var out bytes.Buffer
	for i := range n {
		_, last, err := ReadJournal(bytes.NewReader(out.Bytes()), d.Label)
		if err != nil {
			t.Fatal(err)
		}
		e := Entry{Sequence: uint64(i + 1), Previous: last, Time: time.Unix(int64(i), 0).UTC(), Act: "enrol", Subject: fmt.Sprintf("box%d", i), Facts: map[string]string{"a": "<1>"}}
		line, err := e.Sign(k.label)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(line)
	}
	return out.Bytes()
}

func keyOf(t testing.TB, k keys) Key {
	t.Helper()
	p, err := NewKey(&k.label.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A journal tells when a line was changed, left out, moved or added by somebody else.
func TestJournal(t *testing.T) {
	_, k := newDomain(t)
	key, text := keyOf(t, k), newJournal(t, k, 3)
	all, last, err := ReadJournal(bytes.NewReader(text), key)
	if err != nil || len(all) != 3 || all[2].Subject != "box2" || last == all[2].Previous {
		t.Fatalf("ReadJournal() = %+v, %v", all, err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	_, other := newDomain(t)
	next := Entry{Sequence: 4, Previous: last, Time: time.Unix(9, 0).UTC(), Act: "enrol", Subject: "box9", Facts: map[string]string{}}
	forged, err := next.Sign(other.label)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"last changed":   strings.Replace(string(text), "box2", "box9", 1),
		"forged":         string(text) + string(forged),
		"changed":        strings.Replace(string(text), "box1", "box9", 1),
		"left out":       lines[0] + lines[2],
		"first left out": lines[1] + lines[2],
		"moved":          lines[1] + lines[0] + lines[2],
		"twice":          lines[0] + lines[0] + lines[1],
		"foreign":        lines[0] + strings.SplitAfter(string(newJournal(t, other, 2)), "\n")[1],
		"cut off":        strings.TrimSuffix(string(text), "\n"),
		"white space":    strings.Replace(string(text), ",", ", ", 1),
		"empty line":     lines[0] + "\n" + lines[1],
	} {
		if got, _, err := ReadJournal(strings.NewReader(bad), key); err == nil {
			t.Errorf("%s: read %d entries", name, len(got))
		}
	}
	if got, last, err := ReadJournal(strings.NewReader(""), key); err != nil || len(got) != 0 || last != (Digest{}) {
		t.Errorf("empty: %v, %v", got, err)
	}
	good := all[0]
	for name, change := range map[string]func(*Entry){
		"zero sequence": func(e *Entry) { e.Sequence = 0 },
		"local time":    func(e *Entry) { e.Time = e.Time.In(time.FixedZone("", 3600)) },
		"nanoseconds":   func(e *Entry) { e.Time = e.Time.Add(1) },
		"act":           func(e *Entry) { e.Act = "Enrol a box" },
		"subject":       func(e *Entry) { e.Subject = "a\nb" },
		"null facts":    func(e *Entry) { e.Facts = nil },
		"fact":          func(e *Entry) { e.Facts = map[string]string{"a": "\x1b[2J"} },
	} {
		bad := good
		change(&bad)
		if _, err := bad.Sign(k.label); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func FuzzJournal(f *testing.F) {
	seeded(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseEntry(b); err == nil && !bytes.Equal(encode(s), b) {
			t.Errorf("two forms of one entry: %q", b)
		}
	})
}
