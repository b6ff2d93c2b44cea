package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/keyrelease/krabox/console/wire"
)

// Times of the console.
const (
	IdleLimit   = 10 * time.Minute // then the officer is logged out
	answerLimit = 2 * time.Minute  // for a passphrase, a confirmation, a line of a paste
	askLimit    = 5 * time.Second  // for the agent's short answers
	pollEvery   = time.Second      // while the agent is away
)

// ErrLeft says that somebody typed ^D where nobody is logged in.
var ErrLeft = errors.New("the console was left")

// maxSecret is the greatest length of a passphrase in bytes.
const maxSecret = 256

// An Agent is what the console speaks to.
type Agent interface {
	Banner(ctx context.Context) (wire.Banner, error)
	Login(ctx context.Context, c wire.Credentials) (wire.Session, error)
	Names(ctx context.Context, s wire.Session, list string) ([]string, error)
	// Do writes to out what is to be shown, as it comes.
	Do(ctx context.Context, r wire.Request, out io.Writer) (wire.Outcome, error)
}

// A Terminal is the console on one line.
type Terminal struct {
	agent Agent
	in    *input
	out   io.Writer
	idle  time.Duration
	pace  pace
	news  chan report // how the box is; has room for one

	window func() (columns, rows int, err error) // of a terminal of this machine's; nil: it is none
	serial bool                                  // there is a terminal at the other end, which is asked for its size

	// of the session
	edit    *term.Terminal
	history *history
	session wire.Session
	mode    Mode
	box     string
	told    report      // last
	alarms  []time.Time // when there were alarms, the last ones
	sized   size        // by the terminal that was asked
}

// New returns a console that reads and writes line. idle is how long an officer may be silent.
func New(line io.ReadWriter, a Agent, idle time.Duration) *Terminal {
	return &Terminal{agent: a, in: newInput(line), out: line, idle: idle, pace: usualPace, news: make(chan report, 1)}
}

// Run serves the line until it ends, somebody leaves it (ErrLeft; it may be run again) or ctx ends. The end of the line is
// no error.
func (t *Terminal) Run(ctx context.Context) error {
	watched, stop := context.WithCancel(ctx)
	defer stop()
	go t.watch(watched)
	for {
		b, err := t.banner(ctx)
		if err != nil {
			return err
		}
		t.begin(b)
		err = t.login(ctx)
		if err == nil {
			err = t.commands(ctx)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, ErrLeft):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !errors.Is(err, errIdle):
			t.say(sentence(err) + "\n")
		}
	}
}

// banner waits for the agent and greets.
func (t *Terminal) banner(ctx context.Context) (wire.Banner, error) {
	for waited := false; ; waited = true {
		ask, done := context.WithTimeout(ctx, askLimit)
		b, err := t.agent.Banner(ask)
		done()
		if err == nil {
			t.say(greeting(b))
			return b, nil
		}
		if !waited {
			t.say("\nWaiting for the agent.\n")
		}
		select {
		case <-ctx.Done():
			return b, ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

func greeting(b wire.Banner) string {
	var s strings.Builder
	fmt.Fprintf(&s, "\nKey Release Agent  %s\n", strings.TrimSpace(b.Box+"  "+b.Version))
	line := func(name, text string) {
		if text != "" {
			s.WriteString(wrap(fmt.Sprintf("  %-8s ", name), text) + "\n")
		}
	}
	line("domain", b.Domain)
	line("mode", b.Mode)
	line("reason", b.Reason)
	line("health", b.Health)
	line("clock", b.Clock)
	if Mode(b.Mode) != Enrolled {
		s.WriteString("Type ? for what can be done.\n")
	}
	return s.String()
}

// begin forgets the last session: its officer, its history, what was typed.
func (t *Terminal) begin(b wire.Banner) {
	t.mode, t.box, t.session, t.sized = Mode(b.Mode), b.Box, "", usual
	t.history = &history{in: t.in}
	select {
	case <-t.news: // older than the greeting
	default:
	}
	t.told = report{health: b.Health}
	t.fresh(t.idle, t.aside())
}

// aside is what may be told at a prompt, where nothing else is under way.
func (t *Terminal) aside() aside { return aside{t.news, t.hear} }

// fresh starts a line editor with nothing on its line.
func (t *Terminal) fresh(idle time.Duration, a aside) {
	t.edit = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{editor{t.in, idle, a}, t.out}, "")
	t.edit.History = t.history
}

// login asks for an officer where there are officers. Nobody is hurried at the first question.
func (t *Terminal) login(ctx context.Context) error {
	if t.mode != Enrolled {
		return nil
	}
	for {
		t.fresh(0, t.aside())
		name, err := t.line("\nofficer: ", nil)
		if err != nil && !errors.Is(err, errCancelled) {
			return err
		}
		if name = strings.TrimSpace(name); name == "" || err != nil {
			continue
		}
		c, err := t.credentials(ctx, name)
		if errors.Is(err, errCancelled) || errors.Is(err, errTooLong) {
			t.say("cancelled\n")
			continue
		}
		if err != nil {
			return err
		}
		s, err := t.agent.Login(ctx, c)
		if err == nil {
			t.session = s
			t.fresh(t.idle, t.aside())
			t.ask(ctx)
			return nil
		}
		if errors.Is(err, wire.ErrAway) || ctx.Err() != nil {
			return err
		}
		t.say(sentence(err) + "\n")
	}
}

// credentials asks for what proves who somebody is. For a code everybody is asked or nobody: which officers have a second
// factor is nothing for who stands at the console.
func (t *Terminal) credentials(ctx context.Context, name string) (c wire.Credentials, err error) {
	c.Officer = name
	if c.Passphrase, err = t.hidden("passphrase: ", answerLimit); err != nil {
		return c, err
	}
	ask, done := context.WithTimeout(ctx, askLimit)
	defer done()
	if b, err := t.agent.Banner(ask); err != nil || !b.Codes {
		return c, err
	}
	c.Code, err = t.hidden("code, or nothing if you have no second factor: ", answerLimit)
	return c, err
}

// commands runs lines until the session ends.
func (t *Terminal) commands(ctx context.Context) error {
	for {
		line, err := t.line(t.prompt(), t.key)
		switch {
		case errors.Is(err, errIdle):
			t.leave(ctx)
			t.say(fmt.Sprintf("\nNobody typed for %s: logged out.\n", t.idle))
			return err
		case errors.Is(err, errCancelled):
			continue
		case errors.Is(err, ErrLeft) && t.session != "":
			t.leave(ctx)
			return nil
		case err != nil:
			t.leave(ctx)
			return err
		}
		if skipped, err := t.straypaste(line); skipped || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		if end, err := t.do(ctx, line); end || err != nil {
			return err
		}
	}
}

func (t *Terminal) prompt() string {
	if t.mode == Enrolled {
		return t.box + "> "
	}
	return string(t.mode) + "> "
}

// leave ends the session at the agent. If that fails, the agent's own limit ends it.
func (t *Terminal) leave(ctx context.Context) {
	if t.session != "" {
		ask, done := context.WithTimeout(ctx, askLimit)
		defer done()
		t.agent.Do(ask, wire.Request{Session: t.session, Line: "logout"}, io.Discard)
	}
}

// line reads one line with the editor and says what was wrong with it. A line that came damaged is errCancelled, ^D is
// ErrLeft.
func (t *Terminal) line(prompt string, key func(string, int, rune) (string, int, bool)) (string, error) {
	t.in.begin()
	before, last, found := lastLine(prompt)
	if found {
		t.say(before)
	}
	t.edit.SetPrompt(last)
	now := t.size()
	t.edit.SetSize(now.columns, now.rows) // of a line on which nothing stands yet: it repaints nothing
	t.edit.AutoCompleteCallback = key
	t.history.on = key != nil
	line, err := t.edit.ReadLine()
	v := t.in.verdict
	switch {
	case err == io.EOF && !t.in.gone:
		t.say("\n")
		return "", ErrLeft
	case err != nil:
		return "", err
	case v.cancelled:
		return "", errCancelled
	case v.long:
		t.say(fmt.Sprintf("That line is longer than %d characters; nothing was done.\n", MaxLine))
		return "", errCancelled
	case v.garbage > 0:
		t.say(fmt.Sprintf("%d unreadable bytes came with that line; nothing was done. Type it again; if this goes on, check the line's speed.\n", v.garbage))
		return "", errCancelled
	}
	return line, nil
}

func lastLine(prompt string) (before, last string, found bool) {
	i := strings.LastIndexByte(prompt, '\n')
	return prompt[:i+1], prompt[i+1:], i >= 0
}

// say shows text. Whether the line still takes it, the next read finds out.
func (t *Terminal) say(text string) { io.WriteString(screen{t.out}, text) }

func sentence(err error) string {
	s := err.Error()
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// A screen shows text on the line: line ends become CR LF, and nothing steers the terminal.
type screen struct{ w io.Writer }

func (s screen) Write(p []byte) (int, error) {
	lines := strings.Split(string(p), "\n")
	for i, l := range lines {
		lines[i] = clean(l)
	}
	if _, err := io.WriteString(s.w, strings.Join(lines, "\r\n")); err != nil {
		return 0, err
	}
	return len(p), nil
}
