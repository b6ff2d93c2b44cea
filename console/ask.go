package console

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyrelease/krabox/console/wire"
)

// do runs one line, asking whatever the agent wants to know. end says that the session is over.
func (t *Terminal) do(ctx context.Context, line string) (end bool, err error) {
	if line = strings.TrimSpace(line); line == "" {
		return false, nil
	}
	command, v, err := Split(line)
	if err != nil {
		var mistake *SyntaxError
		errors.As(err, &mistake)
		t.say(mistake.Caret() + "\n")
		return false, nil
	}
	r := wire.Request{Session: t.session, Line: v.agentLine(command), Columns: t.size().columns}
	defer func() { clear(r.Answers) }()
	defer func() {
		if gone := t.forget(); err == nil {
			err = gone
		}
	}()
	for {
		o, err := t.send(ctx, r, v)
		if err == nil && o.Ask != nil && o.Ask.Kind != wire.Paste { // which may be what came behind the one before it
			err = t.forget()
		}
		switch {
		case errors.Is(err, context.Canceled) && ctx.Err() == nil:
			t.say("^C\nStopped.\n")
			return false, nil
		case err != nil:
			return false, err
		case o.Error != "":
			t.say(strings.TrimRight(o.Error, "\n") + "\n")
			return o.End, nil
		case o.Ask == nil:
			return o.End, nil
		}
		a, err := t.answer(*o.Ask)
		switch {
		case errors.Is(err, errCancelled):
			t.say("Cancelled; nothing was done.\n")
			return false, nil
		case errors.Is(err, errTooLong):
			t.say("That is too long or not text; nothing was done.\n")
			return false, nil
		case err != nil:
			return false, err
		}
		r.Answers = append(r.Answers, a)
	}
}

// forget drops what came behind a paste: it is neither an answer nor a command that somebody typed, and the text may be another's.
func (t *Terminal) forget() error {
	if !t.in.rest.Swap(false) {
		return nil
	}
	return t.drop(dropped)
}

const dropped = "%d bytes that came behind that text were not read, and nothing of them was done. Paste one text at a time.\n"

// drop drops what comes until the line is quiet, and says so.
func (t *Terminal) drop(words string) error {
	n, err := t.in.drop()
	if n > 0 {
		t.say(fmt.Sprintf(words, n))
	}
	return err
}

func (t *Terminal) send(ctx context.Context, r wire.Request, v View) (o wire.Outcome, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out, kept := v.out(screen{t.out}, cancel)
	t.in.while(cancel, func() { o, err = t.agent.Do(ctx, r, out) })
	if t.in.spilled.Swap(false) {
		if _, gone := t.in.drop(); gone != nil {
			return o, gone
		}
		t.say("What came on the line while the command ran was too much to keep, and is forgotten.\n")
	}
	switch {
	case kept != nil && kept.over:
		return wire.Outcome{Error: sentence(errViewed)}, nil
	case kept == nil || err != nil:
		return o, err
	}
	text, wrong := v.shown(kept.text.String())
	switch {
	case wrong != nil && o.Ask == nil && o.Error == "": // else there is something to say first
		o.Error = sentence(wrong)
	case v.pages():
		err = t.page(text)
	default:
		t.say(text)
	}
	return o, err
}

func (t *Terminal) answer(q wire.Question) (string, error) {
	switch q.Kind {
	case wire.Confirm:
		t.fresh(answerLimit, aside{})
		defer t.fresh(t.idle, t.aside())
		t.say(wrap("", q.Prompt) + "\n")
		a, err := t.line("Type "+wire.Yes+" to go on: ", nil)
		if errors.Is(err, ErrLeft) {
			err = errCancelled
		}
		return a, err
	case wire.Secret:
		return t.hidden(q.Prompt+" ", answerLimit)
	case wire.Code:
		return t.hidden(q.Prompt+" ", t.idle)
	case wire.Paste:
		t.say(q.Prompt + "\nIt ends with its END line, or a line with a single dot. It is not shown.\n")
		return t.paste()
	}
	return "", fmt.Errorf("the agent asks for %q, which this console does not know", q.Kind)
}

// hidden reads one line that is not shown.
func (t *Terminal) hidden(prompt string, limit time.Duration) (string, error) {
	t.say(prompt)
	b, err := t.in.secret(maxSecret, limit)
	t.say("\n")
	if err != nil {
		return "", err
	}
	defer clear(b)
	return string(b), nil
}

// paste reads lines up to the END line of a PEM block or a dot. A paste that is too long is read to its end all the same,
// so that its rest is not taken for commands.
func (t *Terminal) paste() (string, error) {
	var b strings.Builder
	long, lines := false, 0
	for {
		l, err := t.in.raw(maxPasteLine, answerLimit)
		if errors.Is(err, errCancelled) {
			if gone := t.drop(dropped); gone != nil {
				return "", gone
			}
			return "", err
		}
		if err != nil && !errors.Is(err, errTooLong) {
			return "", err
		}
		line := strings.TrimSpace(string(l))
		if line == "." {
			break
		}
		lines++
		if long = long || err != nil || b.Len()+len(line)+1 > wire.MaxPaste; !long {
			b.WriteString(line + "\n")
		}
		if pemEnd(line) {
			break
		}
	}
	t.in.rest.Store(t.in.more())
	if long {
		return "", errTooLong
	}
	t.say(fmt.Sprintf("Received %d lines, %d bytes.\n", lines, b.Len()))
	return b.String(), nil
}

// maxPasteLine bounds one line of a paste: a PEM block without line ends would be one line.
const maxPasteLine = wire.MaxPaste

func pemEnd(line string) bool {
	return strings.HasPrefix(line, "-----END ") && strings.HasSuffix(line, "-----")
}

// straypaste swallows a PEM block that was pasted where a command is expected.
func (t *Terminal) straypaste(line string) (bool, error) {
	if !strings.HasPrefix(strings.TrimSpace(line), "-----BEGIN ") {
		return false, nil
	}
	for {
		l, err := t.in.raw(maxPasteLine, answerLimit)
		switch {
		case errors.Is(err, errCancelled):
			return true, t.drop(dropped)
		case err != nil && !errors.Is(err, errTooLong):
			return true, err
		case pemEnd(strings.TrimSpace(string(l))), strings.TrimSpace(string(l)) == ".":
			t.in.rest.Store(t.in.more())
			if err := t.forget(); err != nil {
				return true, err
			}
			t.say("That is a PEM block, not a command. First type the command that asks for it, such as trust add or enrol install.\n")
			return true, nil
		}
	}
}
