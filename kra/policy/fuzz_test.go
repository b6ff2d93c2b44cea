package policy

import (
	"bytes"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
)

func FuzzCedar(f *testing.F) { // whatever compiles has come to an outcome, and can be replayed
	seeded(f)
	f.Fuzz(func(t *testing.T, text string) {
		b, err := Compile(1, world(Cedar, text), nil)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\x1b\r\x07") {
				t.Errorf("error carries control characters: %q", err)
			}
			return
		}
		trace, _ := b.decide([]block.KeyID{{1}}, informed(t), workday())
		if len(trace.Lists()) != 1 || trace.Lists()[0].Outcome == 0 {
			t.Errorf("%s: %v", text, trace.Lists())
		}
		again, err := ParseTrace(trace.AppendJSON(nil))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if err := Replay(b, again); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	})
}

func FuzzTrace(f *testing.F) { // whatever parses is written as it was read, and replays or says what differs
	seeded(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		trace, err := ParseTrace(text)
		if err != nil {
			return
		}
		if again := trace.AppendJSON(nil); !bytes.Equal(again, text) {
			t.Errorf("%s\nis written %s", text, again)
		}
		if b, err := Compile(trace.Version(), world(Rules, "yes", "credit"), nil); err == nil {
			_ = Replay(b, trace)
		}
	})
}

func FuzzAlias(f *testing.F) { // an alias has one form, and a decision about it can be read from its record and replayed
	seeded(f)
	f.Fuzz(func(t *testing.T, value string) {
		b := compile(t, world(Rules, "yes"))
		for _, form := range aliasForms {
			normal := NormalAlias(form, value)
			if again := NormalAlias(form, normal); again != normal {
				t.Errorf("%s %q is %q, and that is %q", form, value, normal, again)
			}
			in, err := NewInformation([]Item{{Kind: Alias, Name: form, Value: value, Authority: "corp", Via: Channel}}, nil)
			if err != nil {
				continue
			}
			if got := in.Items()[0].Value; got != normal || got == "" {
				t.Errorf("%s %q is kept as %q", form, value, got)
			}
			known := facts(t)
			known.Information = in
			trace, _ := b.decide([]block.KeyID{{1}}, known, workday())
			again, err := ParseTrace(trace.AppendJSON(nil))
			if err == nil {
				err = Replay(b, again)
			}
			if err != nil {
				t.Errorf("%s %q: %v", form, value, err)
			}
		}
	})
}

func FuzzEdit(f *testing.F) { // whatever parses is written as it was read, and applies alike to a definition and a book
	seeded(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := ParseEdit(text)
		if err != nil {
			return
		}
		again, err := e.AppendJSON(nil)
		if err != nil || !bytes.Equal(again, text) {
			t.Errorf("%s\nis written %s, %v", text, again, err)
		}
		d := world(Rules, "yes", "credit")
		next, err := d.Apply(e)
		if err != nil {
			return
		}
		if _, err := compile(t, d).Revise(2, e); err == nil {
			if _, err := Compile(2, next, nil); err != nil {
				t.Errorf("%s: a book takes what its definition does not: %v", text, err)
			}
		}
	})
}
