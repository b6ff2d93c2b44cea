// Package operator works at the serial console of a box as a person does: reads what it says, logs in, types commands,
// answers its questions, pastes what it asks for.
package operator

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/keyrelease/krabox/qemu"
)

// How long things take on a machine with KVM; the line stretches them for others.
const (
	bootWithin    = 40 * time.Second
	commandWithin = 30 * time.Second
)

// An Operator is at the console of one machine.
type Operator struct {
	line *qemu.Line
	show io.Writer // what is typed and said, in the form of a transcript; nil: nobody listens
}

// At puts an operator at the console. What happens there is copied to show, which may be nil.
func At(m *qemu.Machine, show io.Writer) *Operator { return &Operator{m.Line, show} }

// A Greeting is what the console says before anybody has logged in.
type Greeting struct {
	Mode string // factory, enrolled, maintenance, attended or locked
	Text string // all of it
}

var modeLine = regexp.MustCompile(`(?m)^  mode +([a-z]+)\r?$`)

// Up waits for the console's first question.
func (o *Operator) Up() (Greeting, error) {
	m, err := o.line.Expect(`(?s)Key Release Agent(.*?)(officer: |factory> |locked> |maintenance> |attended> )`, bootWithin)
	if err != nil {
		return Greeting{}, fmt.Errorf("wait for console: %w", err)
	}
	g := Greeting{Text: plain(m[1])}
	mode := modeLine.FindStringSubmatch(m[1])
	if mode == nil {
		return g, fmt.Errorf("wait for console: no mode in %q", m[1])
	}
	g.Mode = mode[1]
	return g, nil
}

// UpAs waits for the console of a box in that mode. The agent that goes down may greet once more before.
func (o *Operator) UpAs(mode string) (Greeting, error) {
	g, err := o.Up()
	for last := g; err == nil && g.Mode != mode; last = g {
		if g, err = o.Up(); err != nil {
			err = fmt.Errorf("the box is %s, not %s:\n%s", last.Mode, mode, last.Text)
		}
	}
	return g, err
}

// RestartedAs waits for a restart, and then for the console of a box in that mode.
func (o *Operator) RestartedAs(mode string) (Greeting, error) {
	if _, err := o.line.Expect(`kra: key release agent, starting`, bootWithin); err != nil {
		return Greeting{}, fmt.Errorf("wait for restart: %w", err)
	}
	return o.UpAs(mode)
}

// Login logs an officer in at the question that Up waited for.
func (o *Operator) Login(officer, passphrase string) error {
	if err := o.line.Send(officer); err != nil {
		return err
	}
	if _, err := o.line.Expect(`passphrase: `, commandWithin); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	if err := o.line.Send(passphrase); err != nil {
		return err
	}
	m, err := o.line.Expect(`(?s)^(.*?)([a-z0-9-]+> |officer: )`, commandWithin)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	if m[2] == "officer: " {
		return fmt.Errorf("log in: %s", plain(m[1]))
	}
	return nil
}

// What ends the output of a command: the next prompt, a question, or the next boot.
const (
	endPrompt  = `(?:^|\n)[a-z0-9-]+> `
	endConfirm = `Type yes to go on: `
	endPaste   = `It ends with its END line, or a line with a single dot\. It is not shown\.\r\n`
	endSecret  = `passphrase[^\r\n]*: `
)

var ending = `(?s)^(.*?)(` + endPrompt + `|` + endConfirm + `|` + endPaste + `|` + endSecret + `)`

// alarmed is what ends with an alarm, which the console shows at its prompt and nowhere else.
var alarmed = regexp.MustCompile(`\*\*\* \d{4}-\d\d-\d\d [0-9:]{8} UTC [^\n]*\n(?:    [^\n]*\n)*$`)

// Do types a command and returns what the console shows. answers are typed at its questions, in their order.
func (o *Operator) Do(command string, answers ...string) (string, error) {
	o.tell("> " + command)
	if err := o.line.Send(command); err != nil {
		return "", err
	}
	said, shown := command, ""
	for {
		m, err := o.line.Expect(ending, commandWithin)
		if err != nil {
			return shown, fmt.Errorf("%s: %w", command, err)
		}
		if strings.HasPrefix(m[2], "\n") { // it ends a line, and starts the prompt's
			m[1] += "\n"
		}
		if alarmed.MatchString(plain(m[1])) { // that prompt is drawn again, with what was typed there
			continue
		}
		shown += withoutEcho(m[1], said)
		if regexp.MustCompile(endPrompt + `$`).MatchString(m[2]) {
			o.tell(strings.TrimRight(shown, "\n"))
			return shown, nil
		}
		if len(answers) == 0 {
			return shown, fmt.Errorf("%s: it asks %q", command, plain(m[1]+m[2]))
		}
		if said, err = o.answer(m[2], answers[0]); err != nil {
			return shown, err
		}
		answers = answers[1:]
	}
}

// answer types an answer and returns what of it is echoed.
func (o *Operator) answer(question, answer string) (echo string, err error) {
	if regexp.MustCompile(endPaste).MatchString(question) {
		return "", o.line.Paste(ended(answer))
	}
	return answer, o.line.Send(answer)
}

// ended is a paste with what ends it: its END line, or a line with a single dot.
func ended(text string) string {
	text = strings.TrimRight(text, "\n")
	if last := text[strings.LastIndexByte(text, '\n')+1:]; strings.HasPrefix(last, "-----END ") {
		return text + "\n"
	}
	return text + "\n.\n"
}

// Leave types a command after which the console does not come back at once, such as reboot.
func (o *Operator) Leave(command string, answers ...string) error {
	o.tell("> " + command)
	if err := o.line.Send(command); err != nil {
		return err
	}
	for _, a := range answers {
		m, err := o.line.Expect(`(?s)(`+endConfirm+`|`+endPaste+`)`, commandWithin)
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		if _, err := o.answer(m[1], a); err != nil {
			return err
		}
	}
	return nil
}

// PEM types a command and returns the PEM block in what it shows.
func (o *Operator) PEM(command string) ([]byte, error) {
	quiet := &Operator{line: o.line}
	o.tell("> " + command)
	shown, err := quiet.Do(command)
	if err != nil {
		return nil, err
	}
	i, j := strings.Index(shown, "-----BEGIN "), strings.LastIndex(shown, "-----\n")
	if i < 0 || j < i {
		return nil, fmt.Errorf("%s: no PEM block in %q", command, shown)
	}
	o.tell(fmt.Sprintf("(a PEM block of %d lines)", strings.Count(shown[i:j], "\n")+1))
	return []byte(shown[i : j+len("-----\n")]), nil
}

// Quiet is the same operator without a transcript.
func (o *Operator) Quiet() *Operator { return &Operator{line: o.line} }

func (o *Operator) tell(text string) {
	if o.show != nil && text != "" {
		for l := range strings.SplitSeq(text, "\n") {
			fmt.Fprintln(o.show, "    |", l)
		}
	}
}

// ErrRefused is wrapped by Must when the console's answer is not what was hoped for.
var ErrRefused = errors.New("the console did not do it")

// Must is Do for a command that shows want.
func (o *Operator) Must(want, command string, answers ...string) error {
	shown, err := o.Do(command, answers...)
	if err != nil {
		return err
	}
	if !strings.Contains(shown, want) {
		return fmt.Errorf("%s: %w: %s", command, ErrRefused, shown)
	}
	return nil
}

var escape = regexp.MustCompile(`\x1b(?:[78]|\[[0-9;?]*[A-Za-z])`)

// plain is text as a person reads it.
func plain(s string) string {
	return strings.ReplaceAll(escape.ReplaceAllString(s, ""), "\r\n", "\n")
}

// withoutEcho removes what was typed from the beginning of shown; the editor breaks long lines.
func withoutEcho(shown, typed string) string {
	s := escape.ReplaceAllString(shown, "")
	i := 0
	for i < len(s) && typed != "" {
		switch {
		case s[i] == typed[0]:
			typed = typed[1:]
		case s[i] != '\r' && s[i] != '\n' && s[i] != ' ':
			return plain(s)
		}
		i++
	}
	rest := strings.TrimLeft(s[i:], "\r")
	return plain(strings.TrimPrefix(rest, "\n"))
}
