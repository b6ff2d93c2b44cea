package console

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/console/ptytest"
)

// onSerial runs the program itself on a terminal, as on the box, and logs in up to the question about its size.
func onSerial(t *testing.T, l *listener) *typist {
	t.Helper()
	m, tty := ptytest.Open(t)
	p := &typist{t: t, in: m}
	go p.listen(m)
	code := make(chan int, 1)
	go func() { code <- Main([]string{"-admin", l.serve(t), "-tty", tty}, nil, nil, os.Stderr) }()
	t.Cleanup(func() { m.Close(); <-code })
	p.expect("officer: ")
	p.enters()
	return p
}

// enters types who it is.
func (p *typist) enters() {
	p.t.Helper()
	p.send("olga\r")
	p.expect("passphrase: ")
	p.send("correct horse battery\r")
	p.expect(askSize)
}

// runs types a command and says how wide the agent takes the terminal for.
func (p *typist) runs(l *listener, line string) int {
	p.t.Helper()
	p.send(line + "\r")
	p.expect("did " + line)
	p.expect("box1> ")
	return l.width()
}

// TestSizeIsAsked: the terminal on the serial line says its size at each log-in, within bounds, and a page is as long as it is.
func TestSizeIsAsked(t *testing.T) {
	l := &listener{mode: Enrolled}
	p := onSerial(t, l)
	p.send("\x1b[40;132R")
	p.expect("box1> ")
	if n := p.runs(l, "status"); n != 132 {
		t.Errorf("%d columns, want 132", n)
	}
	p.send("key list | more\r")
	p.expect(morePrompt)
	if shown := p.text()[:p.at]; !strings.Contains(shown, "Key 37 of fifty") || strings.Contains(shown, "Key 38 of fifty") {
		t.Errorf("a page of 40 rows is %q", tail(shown))
	}
	p.send("q")
	p.expect("box1> ")
	for answer, want := range map[string]int{"\x1b[9999;9999R": 250, "\x1b[1;1R": 80, "\x1b[0;0R": 80} {
		p.send("logout\r")
		p.expect("officer: ")
		p.enters()
		p.send(answer)
		p.expect("box1> ")
		if n := p.runs(l, "status"); n != want {
			t.Errorf("%q: %d columns, want %d", answer, n, want)
		}
	}
	p.send("logout\r")
	p.expect("officer: ")
	p.enters()
	p.expect("box1> ") // and the last one is forgotten
	if n := p.runs(l, "status"); n != 80 {
		t.Errorf("a terminal that says nothing has %d columns, want 80", n)
	}
	if all := l.noted(); strings.Contains(all, "R") || strings.Contains(all, "\x1b") {
		t.Errorf("the agent got %q", all)
	}
}

// TestSizeComesLate: whenever the answer comes, it is neither text nor garbage, and what was typed meanwhile is all there.
func TestSizeComesLate(t *testing.T) {
	l := &listener{mode: Enrolled}
	p := onSerial(t, l)
	p.send("stat") // typed ahead
	p.expect("box1> ")
	p.send("\x1b[50;")
	time.Sleep(20 * time.Millisecond)
	p.send("100Rus\r")
	p.expect("did status")
	if n := p.runs(l, "status"); n != 100 {
		t.Errorf("%d columns after an answer within a line, want 100", n)
	}
	for _, ask := range []string{"trust add corp", "officer passphrase"} {
		p.send("logout\r")
		p.expect("officer: ")
		p.enters()
		p.expect("box1> ")
		p.send(ask + "\r")
		switch ask {
		case "trust add corp":
			p.expect("Paste.")
			p.send(strings.Replace(block, "BBBB", "BB\x1b[30;120RBB", 1))
		default:
			p.expect("New passphrase:")
			p.send("staple ba\x1b[30;120Rttery\r")
		}
		p.expect("did " + ask)
		if n := p.runs(l, "status"); n != 120 {
			t.Errorf("%s: %d columns, want 120", ask, n)
		}
	}
	p.send("logout\r")
	p.expect("officer: ")
	p.enters()
	p.expect("box1> ")
	p.send("logout\r")
	p.expect("officer: ")
	p.send("ol\x1b[30;120Rga\r") // when it is nobody's any more
	p.expect("passphrase: ")
	p.send("correct horse battery\r")
	p.expect("box1> ")
	if got := l.noted(); !strings.Contains(got, "BBBB\n") || !strings.Contains(got, "+staple battery|") || strings.Contains(got, "\x1b") {
		t.Errorf("the agent got %q", got)
	}
}

// TestSizeNobodySays: without an answer, or with nonsense for one, the log-in waits a moment only and all goes on as on a terminal of 80 by 24.
func TestSizeNobodySays(t *testing.T) {
	for name, answer := range map[string]string{"nothing": "", "no numbers": "\x1b[R", "one number": "\x1b[24R", "three": "\x1b[1;2;3R", "too long": "\x1b[24;10000R",
		"a key": "\x1b[A", "an escape": "\x1b", "negative": "\x1b[-1;-1R"} {
		l := &listener{mode: Enrolled}
		p := onSerial(t, l)
		p.send(answer)
		start := time.Now()
		p.expect("box1> ")
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: the prompt came after %v", name, took)
		}
		p.send("\x15\r") // what was no answer was typed, for all that the console knows
		p.expect("box1> ")
		if n := p.runs(l, "status"); n != 80 {
			t.Errorf("%s: %d columns, want 80", name, n)
		}
	}
}

// TestNobodyIsAskedUnlessOnSerialLine: a line that is no serial one is not asked, nor is anybody before the log-in.
func TestNobodyIsAskedUnlessOnSerialLine(t *testing.T) {
	l := &listener{mode: Enrolled}
	p, _ := sit(t, l, time.Minute)
	p.login()
	if n := p.runs(l, "status"); n != 80 || strings.ContainsRune(p.text(), byteEscape) {
		t.Errorf("%d columns, shown %q", n, p.text())
	}
	m, tty := ptytest.Open(t)
	p = &typist{t: t, in: m}
	go p.listen(m)
	code := make(chan int, 1)
	factory := &listener{mode: Factory}
	go func() { code <- Main([]string{"-admin", factory.serve(t), "-tty", tty}, nil, nil, os.Stderr) }()
	p.expect("factory> ")
	p.send("status\r")
	p.expect("did status")
	p.expect("factory> ")
	if n := factory.width(); n != 80 || strings.Contains(p.text(), askSize) {
		t.Errorf("%d columns, shown %q", n, p.text())
	}
	m.Close()
	<-code
}

// TestWindow: on a terminal of this machine the size is that of its window, as it is at each command.
func TestWindow(t *testing.T) {
	l := &listener{mode: Enrolled}
	m, tty := ptytest.Open(t)
	far, err := os.OpenFile(tty, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	resize := func(columns, rows uint16) {
		t.Helper()
		if err := unix.IoctlSetWinsize(int(far.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
			t.Fatal(err)
		}
	}
	resize(111, 33)
	p := &typist{t: t, in: m}
	go p.listen(m)
	code := make(chan int, 1)
	go func() { code <- Main([]string{"-admin", l.serve(t)}, far, far, os.Stderr) }()
	p.login()
	if n := p.runs(l, "status"); n != 111 {
		t.Errorf("%d columns, want 111", n)
	}
	for _, x := range []struct {
		columns uint16
		want    int
	}{{200, 200}, {20, 80}, {0, 80}, {60000, 250}} {
		resize(x.columns, 50)
		if n := p.runs(l, "status"); n != x.want {
			t.Errorf("a window of %d columns is taken for %d, want %d", x.columns, n, x.want)
		}
	}
	if strings.Contains(p.text(), askSize) {
		t.Error("a terminal that has a window was asked")
	}
	p.send("logout\r")
	p.expect("officer: ")
	p.send("\x04")
	if c := <-code; c != 0 {
		t.Errorf("Main = %d", c)
	}
}

// FuzzReports: whatever comes, and in whatever pieces, only whole answers are taken out of it; all else stays as it was, in its order.
func FuzzReports(f *testing.F) {
	seeded(f, "FuzzReports")
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		strip := func(piece int) (out []byte, last *size) {
			r := newReports()
			r.owed.Store(1)
			for b := range chunks(data, piece) {
				r.owed.Store(1)
				out = append(out, r.strip(b)...)
				select {
				case s := <-r.said:
					last = &s
				default:
				}
			}
			return append(out, r.rest()...), last
		}
		whole, one := strip(len(data) + 1)
		parts, other := strip(int(piece)%7 + 1)
		if !bytes.Equal(whole, parts) || (one == nil) != (other == nil) || one != nil && *one != *other {
			t.Fatalf("%q in pieces: %q, %v; whole: %q, %v", data, parts, other, whole, one)
		}
		if one != nil && *one != sizeOf(one.columns, one.rows) {
			t.Fatalf("%q: a terminal of %v", data, *one)
		}
		if (one == nil) != bytes.Equal(whole, data) || !isWithin(whole, data) {
			t.Fatalf("%q: left is %q, and the size is %v", data, whole, one)
		}
	})
}

// chunks cuts data.
func chunks(data []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(data) > 0 {
			k := min(n, len(data))
			if !yield(data[:k]) {
				return
			}
			data = data[k:]
		}
	}
}

// isWithin reports whether part is whole without some of its bytes.
func isWithin(part, whole []byte) bool {
	for _, c := range whole {
		if len(part) > 0 && part[0] == c {
			part = part[1:]
		}
	}
	return len(part) == 0
}

// TestReportOf: the one form of an answer.
func TestReportOf(t *testing.T) {
	for text, want := range map[string]keyKind{"\x1b": keyPart, "\x1b[": keyPart, "\x1b[2": keyPart, "\x1b[24;": keyPart, "\x1b[24;8": keyPart, "\x1b[24;80R": keySequence,
		"\x1b[;": keyGarbage, "\x1b[24;R": keyGarbage, "\x1b[24R": keyGarbage, "R": keyGarbage, "\x1bO": keyGarbage, "\x1b[12345": keyGarbage, "\x1b[24;80;": keyGarbage, "\x1b[24;80Rx": keyGarbage} {
		if s, got := reportOf([]byte(text)); got != want || got == keySequence && s != (size{80, 24}) {
			t.Errorf("reportOf(%q) = %v, %v", text, s, got)
		}
	}
	r := newReports()
	if got := r.strip([]byte("a\x1b[24;80Rb")); string(got) != "a\x1b[24;80Rb" {
		t.Errorf("nobody was asked, and %q is left", got)
	}
	for i := range 3 { // more answers than questions: the next question is owed one all the same
		r.owed.Add(1)
		text := fmt.Sprintf("a\x1b[24;8%dR\x1b[24;9%dRb", i, i)
		if got := r.strip([]byte(text)); string(got) != "ab" || <-r.said != (size{90 + i, 24}) || r.owed.Load() != 0 {
			t.Errorf("of %q is left %q", text, got)
		}
	}
}

// TestSpeed: the serial line has the speed that the program is told, of those that an image can have.
func TestSpeed(t *testing.T) {
	for arg, want := range map[string]uint32{"": unix.B115200, "9600": unix.B9600, "19200": unix.B19200, "38400": unix.B38400, "57600": unix.B57600, "115200": unix.B115200} {
		l := &listener{mode: Factory}
		m, tty := ptytest.Open(t)
		p := &typist{t: t, in: m}
		go p.listen(m)
		args := []string{"-admin", l.serve(t), "-tty", tty}
		if arg != "" {
			args = append(args, "-baud", arg)
		}
		code := make(chan int, 1)
		go func() { code <- Main(args, nil, nil, os.Stderr) }()
		p.expect("factory> ")
		far, err := os.OpenFile(tty, os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		is, err := unix.IoctlGetTermios(int(far.Fd()), unix.TCGETS)
		if err != nil || is.Cflag&unix.CBAUD != want {
			t.Errorf("-baud %q: %+v, %v; want %#o", arg, is, err, want)
		}
		far.Close()
		m.Close()
		<-code
	}
	for _, bad := range []string{"0", "-1", "4800", "115201", "fast"} {
		if code := Main([]string{"-tty", "/dev/null", "-baud", bad}, nil, nil, nil); code != 2 {
			t.Errorf("-baud %s: Main = %d, want 2", bad, code)
		}
	}
}
