package console

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/console/ptytest"
)

// falls has the box say from now on that it is ill of that; of nothing if it is empty.
func (l *listener) falls(ill string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ill = ill
}

// polled waits until the console has asked how the box is often enough to have heard of the last change.
func (l *listener) polled(t *testing.T) {
	t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.asked
	}
	from := count()
	for until := time.Now().Add(time.Minute); count() < from+4; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the console does not ask how the box is")
		}
	}
}

var quickPace = pace{every: 50 * time.Millisecond, patience: 300 * time.Millisecond, span: time.Millisecond}

const alarmText = `\*\*\* \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC `

// told waits for one alarm, above a line that is drawn again behind it.
func (p *typist) told(alarm, line string) {
	p.t.Helper()
	at := p.at
	p.expect(alarm + "\r\n" + line)
	if shown := p.text()[at:p.at]; !regexp.MustCompile(alarmText+regexp.QuoteMeta(alarm)).MatchString(shown) || strings.Count(shown, "\a") != 1 {
		p.t.Errorf("the alarm is %q", shown)
	}
}

// What changes is told where a line is awaited, in each mode, with one bell, and the line that is being typed stays.
func TestAlarms(t *testing.T) {
	for _, mode := range []Mode{Factory, Enrolled, Attended, Maintenance, Locked} {
		t.Run(string(mode), func(t *testing.T) {
			l := &listener{mode: mode}
			p, _ := sitFor(t, l.serve(t), time.Minute, quickPace)
			prompt := string(mode) + "> "
			if mode == Enrolled {
				prompt = "box1> "
				p.expect("officer: ")
				p.send("ol")
				p.expect("ol")
				l.falls("the disk is full")
				p.told("health: the disk is full", "officer: ol")
				p.send("ga\r")
				p.expect("passphrase: ")
				p.send("correct horse battery\r")
				l.falls("")
				p.expect("health: good\r\n" + prompt)
			} else {
				p.expect(prompt)
			}
			p.send("stattus\x1b[D\x1b[D") // the cursor stands before "us"
			p.expect("stattus")
			l.falls("source a2: no answer for 12 s")
			p.told("health: source a2: no answer for 12 s", prompt+"stattus")
			l.falls("source a2: no answer for 17 s")
			l.polled(t)
			l.falls("source a3: no answer for 17 s")
			p.told("health: source a3: no answer for 17 s", prompt+"stattus")
			l.falls("")
			before := p.at
			p.expect("health: good\r\n" + prompt + "stattus")
			if shown := p.text()[before:p.at]; strings.Contains(shown, "\a") {
				t.Errorf("good is an alarm: %q", shown)
			}
			p.send("\x7f\r")
			p.expect("did status")
			if got := l.noted(); got != "status" {
				t.Errorf("the agent got %q", got)
			}
		})
	}
}

// Nothing is told while a command runs or asks, while a passphrase or a paste is read, or while somebody reads a page; then it is.
func TestAlarmsWait(t *testing.T) {
	for name, c := range map[string]struct{ line, within, then string }{
		"a passphrase":   {"officer passphrase\r", "New passphrase: ", "hidden word\r"},
		"a paste":        {"trust add corp\r", "It is not shown.\r\n", strings.ReplaceAll(block, "\r", "")},
		"a confirmation": {"reboot\r", "go on: ", "yes\r"},
		"a page":         {"key list | more\r", morePrompt, "q"},
		"a command":      {"log export\r", "xxx\r\n", "\x03"},
	} {
		t.Run(name, func(t *testing.T) {
			l := &listener{mode: Enrolled, long: make(chan struct{})}
			p, _ := sitFor(t, l.serve(t), time.Minute, quickPace)
			p.login()
			p.send(c.line)
			p.expect(c.within)
			l.falls("the disk is full")
			l.polled(t)
			if strings.Contains(p.text(), "***") {
				t.Errorf("within %s: %q", name, tail(p.text()))
			}
			p.send(c.then)
			p.told("health: the disk is full", "box1> ")
			if strings.Contains(p.text(), "hidden") {
				t.Error("the passphrase was shown")
			}
		})
	}
}

// An alarm is nobody's typing.
func TestAlarmsKeepNobodyLoggedIn(t *testing.T) {
	l := &listener{mode: Enrolled}
	p, _ := sitFor(t, l.serve(t), time.Second, pace{every: 10 * time.Millisecond, span: time.Microsecond})
	for out := 1; out <= 5; out++ { // where the machine stands still for a second, it is over before an alarm
		p.login()
		for begun := time.Now(); strings.Count(p.text(), "logged out") < out; time.Sleep(20 * time.Millisecond) {
			if time.Since(begun) > 10*time.Second {
				t.Fatal("nobody is logged out")
			}
			l.falls("the disk is full")
			time.Sleep(20 * time.Millisecond)
			l.falls("")
		}
		if strings.Contains(p.text(), "***") {
			return
		}
	}
	t.Error("there was no alarm")
}

func TestUnnumbered(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"1 record waits", "27 records wait", false},
		{"27 records wait", "28 records wait", true},
		{"sensor coretemp Package id 0: 101 °C, limit 100 °C", "sensor coretemp Package id 0: 102 °C, limit 100 °C", true},
		{"sensor coretemp Package id 0: 101 °C, limit 100 °C", "sensor coretemp Package id 1: 101 °C, limit 100 °C", false},
		{"syslog 192.0.2.1 is away", "syslog 192.0.2.2 is away", false},
	} {
		if got := unnumbered(c.a) == unnumbered(c.b); got != c.same {
			t.Errorf("%q and %q are the same: %t", c.a, c.b, got)
		}
	}
}

// What comes and goes is not told each time, but what stays is.
func TestAlarmsAreBounded(t *testing.T) {
	l := &listener{mode: Locked}
	const span = 4 * time.Second
	p, _ := sitFor(t, l.serve(t), time.Minute, pace{every: time.Millisecond, span: span})
	p.expect("locked> ")
	begun := time.Now()
	for time.Since(begun) < 2*time.Second {
		l.falls("the disk is full")
		l.polled(t)
		l.falls("")
		l.polled(t)
	}
	most := maxAlarms * (1 + int(time.Since(begun)/span)) // on a slow machine there is time for more
	if n := strings.Count(p.text(), "***"); n < maxAlarms || n > most {
		t.Errorf("%d alarms; want %d, at most %d", n, maxAlarms, most)
	}
	l.falls(strings.Repeat("the disk is broken ", 100))
	p.expect("the disk is broken")
	p.expect("status says all\r\nlocked> ")
	if n := strings.Count(p.text(), "the disk is broken"); n > maxAlarm/10 {
		t.Errorf("%d times the same", n)
	}
}

// That the agent is gone is said once, and that it is back.
func TestAlarmOfASilentAgent(t *testing.T) {
	l := &listener{mode: Factory}
	path := filepath.Join(t.TempDir(), "admin.sock")
	start := func() *http.Server { return l.at(t, path) }
	s := start()
	p, _ := sitFor(t, path, time.Minute, quickPace)
	p.expect("factory> ")
	s.Close()
	p.told("the agent does not answer", "factory> ")
	time.Sleep(3 * quickPace.patience)
	l.falls("the disk is full")
	s = start()
	defer s.Close()
	p.told("the agent answers again; health: the disk is full", "factory> ")
	if n := strings.Count(p.text(), "does not answer"); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// TestAlarmAtTheLine is the program itself on a terminal, at its own pace.
func TestAlarmAtTheLine(t *testing.T) {
	l := &listener{mode: Enrolled}
	m, tty := ptytest.Open(t)
	p := &typist{t: t, in: m}
	go p.listen(m)
	code := make(chan int, 1)
	go func() { code <- Main([]string{"-admin", l.serve(t), "-tty", tty}, nil, nil, os.Stderr) }()
	p.login()
	p.send("sta")
	p.expect("sta")
	l.falls("the disk is full")
	begun := time.Now()
	p.told("health: the disk is full", "box1> sta")
	if d := time.Since(begun); d > 25*time.Second { // asked every 5
		t.Errorf("told after %v", d)
	}
	p.send("tus\r")
	p.expect("did status")
	m.Close()
	if c := <-code; c != 0 {
		t.Errorf("Main = %d when the line ended", c)
	}
}
