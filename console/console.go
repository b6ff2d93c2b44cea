// Package console is the serial console of the box: its grammar, one table that parsing, help and completion all read, and
// the terminal loop that runs it over any line.
//
// The program on the serial line is dumb: it edits lines and shows text. The agent parses every line again, with the same
// Parse, and executes it.
package console

import (
	"fmt"
	"strings"
)

// MaxLine is the greatest length of a command line in bytes.
const MaxLine = 4000

// A Command is one parsed line. The concrete types in command.go are all there are.
type Command interface {
	// Ask says what the officer is asked before the command runs.
	Ask() Ask
	command()
}

// An Ask is what a command needs beside its line.
type Ask uint8

// What can be asked.
const (
	AskNothing Ask = iota + 1
	AskConfirm     // it destroys or interrupts: the officer types yes
	AskPaste       // something is pasted: PEM or JSON
	AskSecret      // passphrases are typed without echo
)

// A SyntaxError is a line that is no command. Pos is a byte offset into Line.
type SyntaxError struct {
	Line string
	Pos  int
	Text string
	Want []string // what may stand there, if that is known
}

func (e *SyntaxError) Error() string { return e.Text }

// maxCaretLine is how much of a line is shown over its caret: a terminal's width.
const maxCaretLine = 76

// Caret shows the line with a caret under the mistake, and what was wanted.
func (e *SyntaxError) Caret() string {
	line, pos := clean(e.Line), min(e.Pos, len(e.Line))
	pos = len([]rune(clean(e.Line[:pos])))
	shown := []rune(line)
	if from := pos - maxCaretLine/2; len(shown) > maxCaretLine && from > 0 {
		shown, pos = shown[min(from, len(shown)):], maxCaretLine/2
	}
	shown = shown[:min(len(shown), maxCaretLine)]
	var b strings.Builder
	fmt.Fprintf(&b, "  %s\n  %s^ %s", string(shown), strings.Repeat(" ", pos), e.Text)
	if len(e.Want) > 0 {
		b.WriteString("\n" + wrap("  expected: ", strings.Join(e.Want, ", ")))
	}
	return b.String()
}

// Parse reads one line. An empty line is the Nothing command. Every error is a *SyntaxError.
func Parse(line string) (Command, error) {
	c, _, err := Read(line)
	return c, err
}

// Read is Parse, and says who may run the command.
func Read(line string) (Command, Rights, error) {
	if len(line) > MaxLine {
		return nil, 0, &SyntaxError{Text: fmt.Sprintf("the line has %d bytes; a command has at most %d", len(line), MaxLine)}
	}
	if i := strings.IndexFunc(line, unreadable); i >= 0 {
		return nil, 0, &SyntaxError{Line: line, Pos: i, Text: "unreadable character"}
	}
	command, _, err := Split(line)
	if err != nil {
		return nil, 0, err
	}
	if strings.TrimSpace(command) == "" {
		return Nothing{}, everybody, nil
	}
	return grammar.parse(command)
}
