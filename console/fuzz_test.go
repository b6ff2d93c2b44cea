package console

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// seeded fails if a fuzz target has lost its committed seeds: it would pass without trying anything.
func seeded(t testing.TB, target string) {
	t.Helper()
	if all, err := os.ReadDir("testdata/fuzz/" + target); err != nil || len(all) < 3 {
		t.Fatalf("%s has %d seeds: %v", target, len(all), err)
	}
}

// FuzzParse: a line is a command or a SyntaxError that can be shown, and help never fails on it. What is accepted holds
// nothing that steers a terminal.
func FuzzParse(f *testing.F) {
	seeded(f, "FuzzParse")
	f.Fuzz(func(t *testing.T, line string) {
		c, err := Parse(line)
		if (c == nil) == (err == nil) {
			t.Fatalf("Parse = %v, %v", c, err)
		}
		if err != nil {
			e, ok := err.(*SyntaxError)
			if !ok || e.Text == "" || e.Pos < 0 || e.Pos > len(line) {
				t.Fatalf("%#v", err)
			}
			shown(t, e.Caret())
		} else {
			shown(t, line)
			if len(line) > MaxLine {
				t.Fatalf("a line of %d bytes is a command", len(line))
			}
		}
		shown(t, Explain(line, Enrolled))
		shown(t, HelpText(line, Enrolled, ""))
		longer, _ := Complete(line, Enrolled, names)
		if len(longer) < len(line) && !strings.ContainsAny(line, `"'`) {
			t.Fatalf("Complete(%q) = %q", line, longer)
		}
	})
}

func shown(t *testing.T, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Fatalf("%q is not text", text)
	}
	for l := range strings.SplitSeq(text, "\n") {
		if i := strings.IndexFunc(l, unreadable); i >= 0 {
			t.Fatalf("%q would steer a terminal", l)
		}
	}
}

// FuzzInput: whatever comes over the line, the line editor is given characters and keys that it knows, in bounded lines,
// no byte is waited for in vain, and what is told meanwhile is no part of them.
func FuzzInput(f *testing.F) {
	seeded(f, "FuzzInput")
	f.Fuzz(func(t *testing.T, data []byte) {
		in := newInput(bytes.NewReader(data))
		news := make(chan report, 3)
		for range cap(news) {
			news <- report{health: "the disk is full"}
		}
		for lines := 0; ; lines++ {
			if lines > len(data)+1 {
				t.Fatal("more lines than bytes")
			}
			in.begin()
			line, err := io.ReadAll(editor{in, time.Minute, aside{news, func(report) {}}})
			if err != nil {
				t.Fatal(err)
			}
			text := strings.TrimSuffix(string(line), "\r")
			if len(text) > 4*len(data)+8 || !utf8.ValidString(text) {
				t.Fatalf("the editor is given %q", text)
			}
			for _, k := range []string{"\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[H", "\x1b[F", "\x1b[3~", "\x1b[1;3C", "\x1b[1;3D"} {
				text = strings.ReplaceAll(text, k, "")
			}
			if i := strings.IndexFunc(text, func(r rune) bool {
				return unreadable(r) && !strings.ContainsRune("\x01\x02\x04\x05\x06\x08\t\x0b\x0c\x0e\x10\x14\x15\x17\x7f", r)
			}); i >= 0 {
				t.Fatalf("the editor is given %q", text[i:])
			}
			if !in.ended {
				return
			}
		}
	})
}
