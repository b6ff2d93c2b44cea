package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/ptytest"
)

// sitAtLine runs the console program itself, as on the box: on a terminal line, for a socket of the real agent.
func (w *world) sitAtLine() *person {
	w.t.Helper()
	path := w.socket()
	m, tty := ptytest.Open(w.t)
	w.t.Cleanup(func() { m.Close() })
	p := &person{t: w.t, in: m}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := m.Read(b)
			p.Write(b[:n])
			if err != nil {
				return
			}
		}
	}()
	code := make(chan int, 1)
	go func() { code <- console.Main([]string{"-admin", path, "-tty", tty}, nil, nil, os.Stderr) }()
	w.t.Cleanup(func() {
		select {
		case c := <-code:
			w.t.Errorf("the console left its line with exit code %d", c)
		default:
		}
		m.Close()
		if c := <-code; c != 0 {
			w.t.Errorf("console: exit code %d when the line ended", c)
		}
	})
	return p
}

// content is all of a state but the counts of wrong passphrases.
func content(t *testing.T, st *store.State) string {
	t.Helper()
	b, err := json.Marshal([]any{protected(t, st), st.Keys(), st.Groups(), st.Requests(), st.Network(), st.Standby(), st.Destroyed(), st.Teams()})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// asksSize is what each log-in asks the terminal on the line: see console/MANUAL.md, Typing.
const asksSize = "\x1b7\x1b[999;999H\x1b[6n\x1b8\r"

// steers are the sequences by which the line editor moves the cursor. No other may leave the console, whatever it was given.
var steers = regexp.MustCompile(`^\x1b\[[0-9]*[A-DHJK]`)

var moves = regexp.MustCompile(`\x1b\[[0-9]*[A-DHJK]`)

// noise is what a bad line, a bad person or a program at the other end sends: now and then real commands, whole and in parts.
func noise(t *testing.T, r *rand.Rand, forms []string) string {
	control := []string{"\x00", "\x01", "\x03", "\x04", "\x08", "\x09", "\x0c", "\x10", "\x11", "\x13", "\x14", "\x15", "\x17", "\x1a", "\x1c", "\x1b", "\x7f", "\x9b", "\xff",
		"\x1b[A", "\x1b[B", "\x1b[200~", "\x1b[201~", "\x1b]0;x\x07", "\x1bP", "\x1b[999999999999C", "\x1b[24;80R", "\x1b[24;", "\u202e", "\u009b2J", "?", "|", `"`, "'", "\n", "\r\n"}
	switch r.IntN(7) {
	case 0:
		b := make([]byte, r.IntN(300))
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		return string(b)
	case 1:
		return strings.Repeat(control[r.IntN(len(control))], 1+r.IntN(40))
	case 2:
		return strings.Repeat(string(rune('a'+r.IntN(26))), 1+r.IntN(9000)) + "\r"
	case 3:
		line := filled(t, forms[r.IntN(len(forms))], r.IntN)
		return line[:r.IntN(len(line)+1)] + control[r.IntN(len(control))]
	case 4:
		return []string{"yes\r", ".\r", "-----BEGIN CERTIFICATE-----\r", "-----END CERTIFICATE-----\r", "\r", "q", " ", "rex\rwrong\r", `${IFS}$(reboot)` + "\r", "!sh\r", "~.\r"}[r.IntN(11)]
	}
	view := []string{"", "", " | json", " | count", " | include " + control[r.IntN(len(control))], " | more", " | exclude"}
	return filled(t, forms[r.IntN(len(forms))], r.IntN) + view[r.IntN(len(view))] + "\r"
}

// TestNoiseOnTheLine: whatever comes over the line, before a log-in and from an auditor's session, changes nothing of the box, steers no
// terminal, ends neither agent nor console, and does not get out of it. Afterwards it is what it was.
func TestNoiseOnTheLine(t *testing.T) {
	w := enrolled(t)
	w.do("trust add corp", people(t, "Corp CA"))
	w.do("group add legal corp:CN=a")
	w.do("rule add office group legal")
	w.do("access add legal-team")
	w.do("access lists legal-team is office")
	w.do("key generate p256 for legal-team")
	w.do("officer add auditor as auditor", dutyPass, dutyPass)
	all := forms()
	r := rand.New(rand.NewPCG(3, 14))
	w.door.first = 0 // half a minute for each of hundreds of wrong passphrases
	p := w.sitAtLine()
	p.expect("officer: ")
	want := content(t, w.store.State())
	before, did := len(w.records(`"line"`)), len(w.body.asked)
	same := func(when string) {
		t.Helper()
		if got := content(t, w.store.State()); got != want || len(w.body.asked) != did {
			t.Fatalf("%s the state changed, or the box was asked for %q:\nwas %s\nis  %s", when, w.body.asked, want, got)
		}
	}
	asked := 0
	calm := func() { // the console has read all, and is back where it asks who is there
		t.Helper()
		for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); {
			asked++
			mark := fmt.Sprintf("mark%d", asked)
			if asked%2 == 1 { // apart: what comes in one piece with ^D goes with it
				p.types("\x03\x03\r\x04")
				time.Sleep(100 * time.Millisecond)
				continue
			}
			p.types("\x15" + mark)
			for until := time.Now().Add(2 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
				p.mu.Lock()
				back := bytes.HasSuffix(moves.ReplaceAll(p.seen.Bytes()[max(0, p.seen.Len()-200):], nil), []byte("officer: "+mark))
				if back {
					p.at = p.seen.Len()
				}
				p.mu.Unlock()
				if back {
					p.types("\x15")
					return
				}
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		t.Fatalf("the console does not come back:\n%q", p.seen.Bytes()[max(0, p.seen.Len()-2000):])
	}
	for range 100 {
		p.types(noise(t, r, all))
	}
	calm()
	same("before any log-in")
	if n := len(w.records(`"line"`)); n != before {
		t.Errorf("%d commands were run by nobody", n-before)
	}
	for range 2 {
		p.asks("auditor", "passphrase: ")
		p.asks(dutyPass, "box1> ")
		for range 50 {
			p.types(noise(t, r, all))
		}
		calm()
		same("by an auditor")
	}
	p.asks("olga", "passphrase: ")
	p.asks(passphrase, "box1> ")
	p.asks("access add after", "was made")
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.seen.Bytes()
	if n := bytes.Count(seen, []byte(asksSize)); n != 3 {
		t.Errorf("the terminal was asked for its size %d times in 3 log-ins", n)
	}
	seen = bytes.ReplaceAll(seen, []byte(asksSize), nil)
	for i, b := range seen {
		if b == 0x1b && !steers.Match(seen[i:]) {
			t.Fatalf("the console wrote %q", seen[i:min(len(seen), i+20)])
		}
	}
	for _, bad := range []string{"\u009b", "\u202e", "\x07\x07", passphrase, dutyPass} {
		if bytes.Contains(seen, []byte(bad)) {
			t.Errorf("the console wrote %q", bad)
		}
	}
	t.Logf("%d bytes were shown", len(seen))
}
