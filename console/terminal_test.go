package console

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/console/ptytest"
	"github.com/keyrelease/krabox/console/wire"
)

func TestLogin(t *testing.T) {
	p, _ := sit(t, &listener{mode: Enrolled}, time.Minute)
	p.expect("mode     enrolled")
	p.expect("officer: ")
	p.send("olga\r")
	p.expect("passphrase: ")
	p.send("wrong\x7f\x7f\r")
	p.expect("That is not an officer with that passphrase.")
	p.expect("officer: ")
	p.send("olga\r\n") // a terminal that sends both
	p.expect("passphrase: ")
	p.send("oops\x15correct horse batteryy\x7f\r\n")
	p.expect("box1> ")
	p.send("logout\r")
	p.expect("officer: ")
	if s := p.text(); strings.Contains(s, "horse") || strings.Contains(s, "wrong") {
		t.Errorf("a passphrase was shown:\n%s", s)
	}
}

func TestTyping(t *testing.T) {
	l := &listener{mode: Enrolled}
	p, ended := sit(t, l, time.Minute)
	p.login()
	p.send("stat\t\r") // completed
	p.expect("did status")
	p.send("key generate p256 for l\t-eu\r") // as far as it is certain
	p.expect("did key generate p256 for legal-team-eu")
	p.send("access show \t\t")
	p.expect("legal-team-eu  r-d")
	p.send("r\t\x17\x17\x17\x15") // erased
	p.send("rule add office ?")
	p.expect("when")
	p.expect("box1> rule add office ")
	p.send("is ?")
	p.expect("EXPRESSION")
	p.send("groups.has('a') ? true : false\r") // here it is text
	p.expect("did rule add office is groups.has('a') ? true : false")
	p.send("\x1b[A\x1bOA\x01\x1b[C\x05\r") // up, up in the other mode, home, right, end
	p.expect("did key generate p256 for legal-team-eu")
	p.send("time sohw\x1b[D\x1b[D\x1b[3~\x05\x7f\x7fhow\r")
	p.expect("did time show")
	p.send("key\r")
	p.expect("^ the command is not complete")
	p.send("reboot\r")
	p.expect("Really?\r\nType yes to go on: ")
	p.send("yes\r")
	p.expect("did reboot")
	p.send("reboot\r")
	p.expect("Really?\r\nType yes to go on: ")
	p.send("ye\x03")
	p.expect("Cancelled; nothing was done.")
	p.send("officer passphrase\r")
	p.expect("New passphrase: ")
	p.send("hidden word\r")
	p.expect("did officer passphrase")
	if strings.Contains(p.text(), "hidden") {
		t.Error("the new passphrase was shown")
	}
	p.send("reboot\r")
	p.expect("Type yes to go on: ")
	p.send("\x04")
	p.expect("Cancelled; nothing was done.")
	p.send("\x04")
	p.expect("officer: ")
	p.send("\x04")
	if err := <-ended; !errors.Is(err, ErrLeft) {
		t.Errorf("Run = %v when somebody left", err)
	}
	want := "status|key generate p256 for legal-team-eu|rule add office is groups.has('a') ? true : false|key generate p256 for legal-team-eu|time show|reboot+yes|officer passphrase+hidden word|logout"
	if got := l.noted(); got != want {
		t.Errorf("the agent got\n%s\nwant\n%s", got, want)
	}
}

// TestGarbage: nothing that comes over a line in a bad state runs a command, ends the console or stays on the line.
func TestGarbage(t *testing.T) {
	l := &listener{mode: Locked}
	p, _ := sit(t, l, time.Minute)
	p.expect("reason   PCR 4 is not what the approval of release 3 expects")
	p.expect("locked> ")
	p.send(strings.Repeat("\x00", 1000)) // BREAK, held
	p.send("status\r")
	p.expect("did status")
	p.send("reb\x00oot\r") // BREAK in the middle: what was typed is gone
	p.expect("^C")
	p.expect(`unknown word "oot"`)
	p.send("sta\x80tus\r")
	p.expect("1 unreadable bytes came with that line; nothing was done.")
	p.send("\x1b[" + strings.Repeat("1;", 300) + "\r")
	p.expect("nothing was done.")
	p.send("\x1b]0;title\x07\x1b[2J\xff\xfe\xe2\x80\xae\xc0\xaf\x0e\x0f\x12\x13\r")
	p.expect("nothing was done.")
	p.send("\x1b\x1b[200~status\x1b[201~\r") // bracketed paste, as if typed
	p.expect("did status")
	p.send("\r\n\r\n\n\n   \r")
	random := rand.New(rand.NewChaCha8([32]byte{1}))
	noise := make([]byte, 200_000)
	for i := range noise {
		if noise[i] = byte(random.Uint32()); noise[i] == 4 { // ^D leaves: TestSerial
			noise[i] = 5
		}
	}
	p.send(string(noise))
	p.send("\r\x03")
	p.send("help\r")
	p.expect("did help")
	if got := l.noted(); got != "status|status|help" {
		t.Errorf("the agent got %q", got)
	}
}

func TestLongLine(t *testing.T) {
	l := &listener{mode: Factory}
	p, _ := sit(t, l, time.Minute)
	p.expect("factory> ")
	p.send("status " + strings.Repeat("x", 1<<20) + "\r")
	p.expect("That line is longer than 4000 characters; nothing was done.")
	p.send(strings.Repeat("y", MaxLine) + "\r")
	p.expect("unknown word")
	p.send(strings.Repeat("ü", MaxLine-1) + "\r") // within in characters, over in bytes
	p.expect("a command has at most 4000")
	p.send("\x1b[A\x1b[Astatus" + strings.Repeat("z", 100) + "\r") // recalled, made longer
	p.expect("a command has at most 4000")
	p.send("status\r")
	p.expect("did status")
	if got := l.noted(); got != "status" {
		t.Errorf("the agent got %.100q", got)
	}
	if n := len(p.text()); n > 200<<10 {
		t.Errorf("a line of 1 MiB was answered with %d bytes", n)
	}
}

const block = "-----BEGIN CERTIFICATE-----\r\nAAAA\r\nBBBB\r\n-----END CERTIFICATE-----\r\n"

func TestPaste(t *testing.T) {
	l := &listener{mode: Enrolled}
	p, _ := sit(t, l, time.Minute)
	p.login()
	p.send("trust add corp\r\n")
	p.expect("Paste.")
	p.send(block + "\r\n \r\n")
	p.expect("Received 4 lines, 64 bytes.")
	p.expect("did trust add corp")
	p.expect("box1> ")
	p.send("status\r\n")
	p.expect("did status")
	p.send("enrol install\n")
	p.expect("Paste.")
	p.send("no block at all\n.\n")
	p.expect("did enrol install")
	p.send("enrol install\n")
	p.expect("Paste.")
	p.send("half\x00")
	p.expect("Cancelled; nothing was done.")
	p.send("enrol install\n")
	p.expect("Paste.")
	p.send(strings.Repeat(strings.Repeat("A", 63)+"\n", wire.MaxPaste/64+1))
	p.send("-----END KRA BUNDLE-----\n")
	p.expect("That is too long or not text; nothing was done.")
	p.send("enrol install\n")
	p.expect("Paste.")
	p.send(strings.Repeat("A", 1<<20) + "\n-----END KRA BUNDLE-----\n")
	p.expect("That is too long or not text; nothing was done.")
	p.send(block) // with no command
	p.expect("That is a PEM block, not a command.")
	p.send("status\n")
	p.expect("did status")
	pem := strings.ReplaceAll(block, "\r", "")
	want := "trust add corp+" + pem + "|status|enrol install+no block at all\n|status"
	if got := l.noted(); got != want {
		t.Errorf("the agent got\n%q\nwant\n%q", got, want)
	}
	if strings.Contains(p.text(), "BBBB") {
		t.Error("a paste was shown")
	}
}

// TestPasteCarriesNoCommand: what follows in a text that somebody else wrote is no answer and no command, however it gets there.
func TestPasteCarriesNoCommand(t *testing.T) {
	l := &listener{mode: Enrolled}
	p, _ := sit(t, l, time.Minute)
	p.login()
	const rest = "approve 7\r\nyes\r\nstatus\r\n"
	notRead := fmt.Sprintf("%d bytes that came behind that text were not read", len(rest))
	for _, behind := range []string{block + "\r\n", "AAAA\x03", "AAAA\x00", strings.Repeat("A", 1<<20) + "\r\n.\r\n"} {
		p.send("trust add corp\r")
		p.expect("Paste.")
		p.send(behind + rest)
		p.expect(notRead)
		p.expect("box1> ")
	}
	p.send("trust add surely\r") // which asks for a confirmation then
	p.expect("Paste.")
	p.send(block + rest)
	p.expect(notRead)
	p.expect("Type yes to go on: ")
	p.send("no\r")
	p.expect("box1> ")
	p.send(block + rest) // with no command
	p.expect(notRead)
	p.expect("box1> ")
	p.send("trust add twice\r") // the next of several texts is one
	p.expect("Paste.")
	p.send(block + "\r\n" + block)
	p.expect("did trust add twice")
	pem := strings.ReplaceAll(block, "\r", "")
	if got, want := l.noted(), "trust add corp+"+pem+"|trust add surely+"+pem+"+no|trust add twice+"+pem+"+"+pem; got != want {
		t.Errorf("the agent got\n%q\nwant\n%q", got, want)
	}
}

// TestInterruptBehindMuch: an interrupt is seen behind whatever came while a command runs, and nothing of that is run.
func TestInterruptBehindMuch(t *testing.T) {
	l := &listener{mode: Enrolled, long: make(chan struct{})}
	p, _ := sit(t, l, time.Minute)
	p.login()
	p.send("log export\r")
	<-l.long
	for range 3 * readAhead {
		p.send("reboot\r") // each in a read of its own
	}
	p.send("\x03")
	p.expect("Stopped.")
	p.expect("box1> ")
	p.send("status\r")
	p.expect("did status")
	if strings.Contains(l.noted(), "reboot") {
		t.Errorf("the agent got %q", l.noted())
	}
}

func TestInterrupt(t *testing.T) {
	l := &listener{mode: Enrolled, long: make(chan struct{})}
	p, _ := sit(t, l, time.Minute)
	p.login()
	p.send("log export\r")
	<-l.long
	p.send("reboot\r\x03") // what was typed ahead goes with it
	p.expect("Stopped.")
	p.send("status\r")
	p.expect("did status")
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(l.noted(), "stopped"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the command went on at the agent")
		}
	}
	if strings.Contains(l.noted(), "reboot") {
		t.Errorf("the agent got %q", l.noted())
	}
}

func TestIdle(t *testing.T) {
	l := &listener{mode: Enrolled}
	p, _ := sit(t, l, 5*time.Second)
	p.login()
	p.send("stat")
	p.expect("logged out")
	p.expect("officer: ")
	p.login2()
	p.send("us\r") // the half line of before is gone
	p.expect(`unknown word "us"`)
	if got := l.noted(); got != "logout" {
		t.Errorf("the agent got %q", got)
	}
}

// at serves the agent on a socket, until it is closed.
func (l *listener) at(t *testing.T, path string) *http.Server {
	t.Helper()
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: wire.Handler(l)}
	go s.Serve(ln)
	return s
}

// TestAgentRestarts: the console waits for an agent that went away, greets again, and nobody is logged in any more.
func TestAgentRestarts(t *testing.T) {
	l := &listener{mode: Enrolled}
	path := filepath.Join(t.TempDir(), "admin.sock")
	start := func() *http.Server { return l.at(t, path) }
	fromUser, toConsole := io.Pipe()
	fromConsole, toUser := io.Pipe()
	p := &typist{t: t, in: toConsole}
	go p.listen(fromConsole)
	ended := make(chan error, 1)
	go func() {
		ended <- New(struct {
			io.Reader
			io.Writer
		}{fromUser, toUser}, wire.NewClient(path), time.Minute).Run(t.Context())
	}()
	p.expect("Waiting for the agent.")
	s := start()
	p.login()
	s.Close()
	p.send("status\r")
	p.expect("The agent does not answer.")
	p.expect("Waiting for the agent.")
	s = start()
	p.login()
	p.send("status\r")
	p.expect("did status")
	toConsole.Close()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
	s.Close()
	fromConsole.Close()
}

// login2 logs in when the question has been seen already.
func (p *typist) login2() {
	p.t.Helper()
	p.send("olga\r")
	p.expect("passphrase: ")
	p.send("correct horse battery\r")
	p.expect("box1> ")
}

func TestScreen(t *testing.T) {
	var b bytes.Buffer
	io.WriteString(screen{&b}, "a\x1b[2Jb\nü\x00\u202e\xff\n")
	if got, want := b.String(), "a·[2Jb\r\nü···\r\n"; got != want {
		t.Errorf("screen shows %q, want %q", got, want)
	}
}

// TestSerial runs the program itself on a terminal, through tarm/serial, as on the box.
func TestSerial(t *testing.T) {
	l := &listener{mode: Enrolled}
	m, tty := ptytest.Open(t)
	p := &typist{t: t, in: m}
	go p.listen(m)
	code := make(chan int, 1)
	go func() { code <- Main([]string{"-admin", l.serve(t), "-tty", tty}, nil, nil, os.Stderr) }()
	p.login()
	p.send("key generate rsa3072 bound for r\t\r")
	p.expect("did key generate rsa3072 bound for r-d")
	p.send("trust add corp\r")
	p.expect("Paste.")
	p.send(strings.ReplaceAll(block, "\r", ""))
	p.expect("did trust add corp")
	p.send(strings.Repeat("z", 1<<20) + "\r")
	p.expect("That line is longer than 4000 characters; nothing was done.")
	p.send("\x04")
	p.expect("mode     enrolled")
	p.expect("officer: ")
	for range 3 {
		p.send("\x04")
		p.expect("officer: ")
	}
	p.login2()
	p.send("\x00\xff\x80sta\r")
	p.expect("nothing was done.")
	p.send("status\r")
	p.expect("did status")
	m.Close()
	if c := <-code; c != 0 {
		t.Errorf("Main = %d when the line ended", c)
	}
}

func TestStandardInput(t *testing.T) {
	l := &listener{mode: Factory}
	in, user, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	seen, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &typist{t: t, in: user}
	go p.listen(seen)
	code := make(chan int, 1)
	go func() { code <- Main([]string{"-admin", l.serve(t)}, in, out, os.Stderr) }()
	p.send("status\n")
	p.expect("did status")
	user.Close()
	if c := <-code; c != 0 {
		t.Errorf("Main = %d at the end of input", c)
	}
}

// Help is not a failure; a word that nobody reads is one.
func TestMainArguments(t *testing.T) {
	for arg, want := range map[string]int{"-h": 0, "-nonsense": 2, "word": 2} {
		if code := Main([]string{arg}, nil, nil, nil); code != want {
			t.Errorf("Main(%s) = %d, want %d", arg, code, want)
		}
	}
}
