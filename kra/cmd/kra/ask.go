package main

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/term"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/hidden"
)

var errNothingGiven = errors.New("nothing was given")

// askValue asks the person at the terminal for the value of a service that -value names without a file. Nothing but a
// terminal is asked: what comes from elsewhere is a block, or somebody else's text.
func (t *tool) askValue(service string) ([]byte, error) {
	if _, err := kra.ValueToken(service, []byte("any")); err != nil { // before its name is shown
		return nil, usagef("-value %q: %v", service, err)
	}
	if !isTerminal(t.stdin) || !isTerminal(t.stderr) {
		return nil, usagef("-value %s: a value is asked for on a terminal only, and this is none: give -value %s=FILE", service, service)
	}
	fmt.Fprintf(t.stderr, "The agent may ask the service %s before it releases keys. What you type goes to the agent, over the\n"+
		"verified channel, for that service only: a voucher, a secret, or your consent to pay.\n", service)
	value, err := t.readHidden(fmt.Sprintf("Value for %s (not shown, nothing to stop): ", service))
	if err == nil && len(bytes.TrimSpace(value)) == 0 {
		err = errNothingGiven
	}
	if err != nil {
		return nil, fmt.Errorf("value for %s: %w", service, err)
	}
	return value, nil
}

// readHidden asks for a line without echo. The terminal echoes again afterwards, also where a signal ends the program.
func (t *tool) readHidden(prompt string) ([]byte, error) {
	fd := int(t.stdin.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	t.atEnd(func() { _ = term.Restore(fd, before); fmt.Fprintln(t.stderr) })
	defer t.atEnd(nil)
	return hidden.Ask(t.stdin, t.stderr, prompt)
}
