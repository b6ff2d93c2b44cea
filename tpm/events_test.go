package tpm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"
	"github.com/google/go-eventlog/testdata"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// filled are registers as they are on a machine: one that has no event is zero.
func filled(v label.PCRs) label.PCRs {
	all := label.PCRs{}
	for i := range label.MaxPCR + 1 {
		all[i] = v[i]
	}
	return all
}

// What is said of real logs is what go-eventlog reads in them: registers, types and digests, event by event.
func TestEventsAgreeWithSecondOpinion(t *testing.T) {
	types := map[string]bool{}
	for name, log := range realLogs {
		l, err := tcg.ParseEventLog(log, tcg.ParseOpts{AllowPadding: true})
		if err != nil {
			t.Fatal(err)
		}
		v, err := Replay(log)
		if err != nil {
			t.Fatal(err)
		}
		got, err := events(log, filled(v))
		if err != nil || len(got.Differs) != 0 {
			t.Errorf("%s: %v, %v", name, got.Differs, err)
		}
		want := l.Events(register.HashSHA256)
		if len(want) != got.Count || len(got.Events) != got.Count || got.Count < 20 {
			t.Errorf("%s: %d events, %d shown; want %d", name, got.Count, len(got.Events), len(want))
			continue
		}
		for i, w := range want {
			g := got.Events[i]
			digest := hex.EncodeToString(w.ReplayedDigest())
			if w.UntrustedType() == tcg.NoAction {
				digest = ""
			}
			if g.PCR != w.MRIndex() || g.Type != w.UntrustedType().TCGString() || g.Digest != digest {
				t.Errorf("%s: event %d is %+v; want %d %s %s", name, i, g, w.MRIndex(), w.UntrustedType().TCGString(), digest)
			}
			types[g.Type] = true
		}
	}
	if len(types) < 12 {
		t.Errorf("only %d types were compared", len(types))
	}
}

// What people look for in a log can be read.
func TestEventsCanBeRead(t *testing.T) {
	for name, want := range map[string][]string{
		"ubuntu 21.04, no sb": {"4 EV_EFI_ACTION Calling EFI Application from Boot Option", "7 EV_EFI_VARIABLE_DRIVER_CONFIG SecureBoot = 00", "7 EV_EFI_VARIABLE_DRIVER_CONFIG PK",
			"0 EV_SEPARATOR", "5 EV_EFI_ACTION Exit Boot Services Invocation"},
		"arch linux workstation": {"4 EV_EFI_BOOT_SERVICES_APPLICATION"},
	} {
		got, err := events(realLogs[name], label.PCRs{})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range got.Events {
			all = append(all, strings.TrimSpace(string(rune('0'+e.PCR%10))+" "+e.Type+" "+e.Text))
		}
		for _, w := range want {
			if !strings.Contains("\n"+strings.Join(all, "\n"), "\n"+w) {
				t.Errorf("%s lacks %q:\n%s", name, w, strings.Join(all, "\n"))
			}
		}
	}
	for data, want := range map[string]string{
		"":                             "",
		"\x00\x00\x00\x00":             "",
		"\x01ab\x02\x1b[2Jcd\xffefgh":  "[2Jcd efgh",
		"m\x00e\x00n\x00u\x00\x00\x00": "menu",
		"\x7f\\\x00E\x00F\x00I\x00x":   "\\EFI",
		strings.Repeat("x", 4000):      strings.Repeat("x", wire.MaxEventText),
		strings.Repeat("y\x00", 4000):  strings.Repeat("y", wire.MaxEventText),
	} {
		if got := readable([]byte(data)); got != want {
			t.Errorf("readable(%.40q) = %q; want %q", data, got, want)
		}
	}
}

// variableOf is UEFI_VARIABLE_DATA.
func variableOf(name string, value []byte) []byte {
	b := make([]byte, 16)
	units := utf16.Encode([]rune(name))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(units)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return append(b, value...)
}

func TestVariable(t *testing.T) {
	whole := variableOf("SecureBoot", []byte{1})
	for what, c := range map[string]struct {
		data []byte
		want string
		bad  bool
	}{
		"whole":        {data: whole, want: "SecureBoot = 01"},
		"no value":     {data: variableOf("dbx", nil), want: "dbx"},
		"a long value": {data: variableOf("db", make([]byte, 1000)), want: "db"},
		"steers":       {data: variableOf("a\x1b\u202e", nil), want: "a.."},
		"long":         {data: variableOf(strings.Repeat("n", wire.MaxEventText), []byte{1}), want: strings.Repeat("n", wire.MaxEventText)},
		"too long":     {data: variableOf(strings.Repeat("n", wire.MaxEventText+1), nil), bad: true},
		"cut":          {data: whole[:len(whole)-1], bad: true},
		"huge":         {data: append(make([]byte, 16), bytes.Repeat([]byte{0xff}, 40)...), bad: true},
		"none":         {bad: true},
	} {
		if got, err := variable(c.data); got != c.want || (err != nil) != c.bad {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}

// TestEvents: a machine's log is held against what its TPM has now. What this box and the kernel extend later is no fault; anything else is.
func TestEvents(t *testing.T) {
	log := testdata.Ubuntu1804AmdSevEventLog
	b := newBench(t, newAuthority(t, "example"))
	b.machine(log)
	cfg := b.config()
	given, fails := log, error(nil)
	cfg.EventLog = func() ([]byte, error) { return given, fails }
	var err error
	if b.Agent, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	differs := func(when string, want map[int]string) {
		t.Helper()
		got, err := b.Events(t.Context())
		if err != nil || len(got.Differs) != len(want) || len(got.Events) == 0 {
			t.Errorf("%s: %+v, %v; want %v", when, got.Differs, err, want)
			return
		}
		found, err := b.device.readPCRs()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range got.Differs {
			if after, ok := want[d.PCR]; !ok || d.After != after || d.TPM != found[d.PCR] || d.Log == d.TPM {
				t.Errorf("%s: %+v; want %v", when, d, want)
			}
		}
	}
	differs("at the start", nil)
	b.stage(label.Running)
	want := map[int]string{14: "this box, to stage running"}
	differs("running", want)
	b.tpm.Extend(t, 10, [32]byte{1})
	want[10] = "the kernel (IMA), which keeps a log of its own"
	differs("with IMA", want)
	b.tpm.Extend(t, 4, [32]byte{1})
	want[4] = ""
	differs("with an extension that nobody tells", want)
	b.tpm.Extend(t, 14, [32]byte{1})
	want[14] = ""
	differs("with a stage that is none", want)

	for what, c := range map[string]struct {
		log  []byte
		err  error
		want string
	}{
		"none":    {nil, nil, "there is no event log"},
		"unread":  {nil, errors.New("input/output error"), "cannot be read: input/output error"},
		"cut":     {log[:len(log)-1], nil, "at byte"},
		"rubbish": {[]byte("rubbish"), nil, "does not begin with a Spec ID event"},
	} {
		given, fails = c.log, c.err
		var refused wire.Refused
		if _, err := b.Events(t.Context()); !errors.As(err, &refused) || !strings.Contains(refused.Reason, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A log of very many events is replayed to its end, and so much of it shown as fits.
func TestManyEvents(t *testing.T) {
	log := bytes.Clone(testdata.Ubuntu1804AmdSevEventLog)
	c := cursor{b: log}
	if _, err := c.specID(); err != nil {
		t.Fatal(err)
	}
	log = log[:len(log)-len(c.b)]
	one := binary.LittleEndian.AppendUint32(nil, 8)
	one = binary.LittleEndian.AppendUint32(one, 13)
	one = binary.LittleEndian.AppendUint32(one, 1)
	one = binary.LittleEndian.AppendUint16(one, algSHA256)
	one = append(one, make([]byte, 32)...)
	one = append(binary.LittleEndian.AppendUint32(one, 4), "menu"...)
	log = append(log, bytes.Repeat(one, wire.MaxEvents+5)...)
	v, err := Replay(log)
	if err != nil {
		t.Fatal(err)
	}
	got, err := events(log, filled(v))
	if err != nil || got.Count != wire.MaxEvents+5 || len(got.Events) != wire.MaxEvents || len(got.Differs) != 0 {
		t.Errorf("%d of %d events, %v, %v", len(got.Events), got.Count, got.Differs, err)
	}
}
