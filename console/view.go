package console

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// A View says what becomes of what a command shows. It stands behind the command, each part after a bar.
type View struct {
	JSON  bool // the agent shows one JSON object in place of text
	parts []viewPart
}

// A viewPart is one part of a view, done by the console.
type viewPart struct{ verb, word string }

// The parts of a view.
const (
	viewInclude = "include"
	viewExclude = "exclude"
	viewCount   = "count"
	viewMore    = "more"
	viewJSON    = "json"
	viewQR      = "qr"
	viewPaper   = "qr-paper"
)

var viewOptions = []option{
	{word: viewCount, help: "only how many lines it shows"},
	{word: viewExclude, help: "only the lines without a word"},
	{word: viewInclude, help: "only the lines with a word, in any case"},
	{word: viewJSON, help: "one JSON object, for programs"},
	{word: viewMore, help: "a page at a time"},
	{word: viewQR, help: "a QR code of what is short"},
	{word: viewPaper, help: "the same, for a terminal with a light ground"},
}

// maxViewParts bounds the parts of a view.
const maxViewParts = 8

// bar returns where the first bar stands that is a word of its own, or the line's length.
func bar(line string) int {
	for off := 0; ; {
		t, ok := next(line, off)
		if !ok {
			return len(line)
		}
		if line[t.start:t.end] == "|" {
			return t.start
		}
		off = t.end
	}
}

// Split returns a line's command and its view. An error is a *SyntaxError.
func Split(line string) (command string, v View, err error) {
	at := bar(line)
	command = line[:at]
	for at < len(line) {
		if len(v.parts) == maxViewParts {
			return command, v, &SyntaxError{Line: line, Pos: at, Text: fmt.Sprintf("at most %d parts may follow a command", maxViewParts)}
		}
		verb, ok := next(line, at+1)
		p := viewPart{verb: verb.text}
		end := verb.end
		switch p.verb {
		case viewInclude, viewExclude:
			word, found := next(line, end)
			if !found || word.text == "" || word.text == "|" {
				return command, v, &SyntaxError{Line: line, Pos: end, Text: p.verb + " wants a word"}
			}
			p.word, end = word.text, word.end
			v.parts = append(v.parts, p)
		case viewCount, viewMore, viewQR, viewPaper:
			v.parts = append(v.parts, p)
		case viewJSON:
			v.JSON = true
		default:
			if !ok {
				verb.start = len(line)
			}
			return command, v, &SyntaxError{Line: line, Pos: verb.start, Text: "unknown view", Want: viewWords()}
		}
		rest, more := next(line, end)
		if more && line[rest.start:rest.end] != "|" {
			return command, v, &SyntaxError{Line: line, Pos: rest.start, Text: "unknown word", Want: []string{"|", "the end of the line"}}
		}
		at = rest.start
	}
	return command, v, nil
}

func viewWords() (all []string) {
	for _, o := range viewOptions {
		all = append(all, o.word)
	}
	return all
}

// viewing returns what may follow the last bar of a line, and whether there is one.
func viewing(line string) (partial token, out []option, ok bool) {
	at := bar(line)
	if at == len(line) {
		return partial, nil, false
	}
	for at+1+bar(line[at+1:]) < len(line) {
		at += 1 + bar(line[at+1:])
	}
	head := line[at+1:]
	word, found := last(head)
	switch {
	case !found && strings.TrimSpace(head) == "":
		return token{start: len(line), end: len(line)}, viewOptions, true
	case found && strings.TrimSpace(head[:word.start]) == "":
		word.start, word.end = word.start+at+1, word.end+at+1
		return word, viewOptions, true
	}
	verb, _ := next(head, 0)
	if verb.text == viewInclude || verb.text == viewExclude {
		return token{start: len(line), end: len(line)}, []option{{word: "WORD", help: "what the lines have, or do not have", kind: true}}, true
	}
	return token{start: len(line), end: len(line)}, []option{{word: "<Enter>", help: "run the command", kind: true}}, true
}

// shown is what a view makes of text.
func (v View) shown(text string) (string, error) {
	for _, p := range v.parts {
		var err error
		switch p.verb {
		case viewInclude, viewExclude, viewCount:
			text = p.lines(text)
		case viewQR:
			text, err = Symbol(strings.TrimSpace(text), Dark)
		case viewPaper:
			text, err = Symbol(strings.TrimSpace(text), Paper)
		}
		if err != nil {
			return "", err
		}
	}
	return text, nil
}

// lines are those of text that the part leaves, or how many there are.
func (p viewPart) lines(text string) string {
	var left []string
	lines := strings.SplitAfter(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	for _, l := range lines {
		has := strings.Contains(strings.ToLower(l), strings.ToLower(p.word))
		if p.verb == viewCount || has == (p.verb == viewInclude) {
			left = append(left, l)
		}
	}
	if p.verb == viewCount {
		return fmt.Sprintf("%d\n", len(left))
	}
	return strings.Join(left, "")
}

// pages reports whether a person wants a page at a time.
func (v View) pages() bool {
	for _, p := range v.parts {
		if p.verb == viewMore {
			return true
		}
	}
	return false
}

// maxViewed bounds what a view is made of.
const maxViewed = 4 << 20

// A viewed keeps what a command shows until all of it is there. What is too long for that stops the command.
type viewed struct {
	text bytes.Buffer
	over bool
	stop func() // the command
}

var errViewed = fmt.Errorf("that is more than %d bytes: too much for a view; run the command without, or ask for less", maxViewed)

func (b *viewed) Write(p []byte) (int, error) {
	if b.over = b.over || b.text.Len()+len(p) > maxViewed; b.over {
		b.stop()
		return 0, errViewed
	}
	return b.text.Write(p)
}

// agentLine is what the agent is to run.
func (v View) agentLine(command string) string {
	if v.JSON {
		return strings.TrimSpace(command) + " | " + viewJSON
	}
	return strings.TrimSpace(command)
}

// out is where the agent's text goes before show.
func (v View) out(direct io.Writer, stop func()) (io.Writer, *viewed) {
	if len(v.parts) == 0 {
		return direct, nil
	}
	b := &viewed{stop: stop}
	return b, b
}

const morePrompt = "-- more: space for a page, Enter for a line, q to end --"

// page shows text, a page at a time. The key that ends it is no part of the next line.
func (t *Terminal) page(text string) error {
	lines := strings.SplitAfter(text, "\n")
	whole := t.size().rows - 1 // the last is the prompt's
	for n := whole; len(lines) > n; {
		t.say(strings.Join(lines[:n], ""))
		lines = lines[n:]
		if len(lines) == 1 && lines[0] == "" {
			return nil
		}
		io.WriteString(t.out, morePrompt)
		k, err := t.in.press(t.idle)
		io.WriteString(t.out, "\r"+strings.Repeat(" ", len(morePrompt))+"\r")
		if err != nil {
			return err
		}
		switch k {
		case 'q', 'Q', byteInterrupt, byteBreak:
			return nil
		case '\r', '\n':
			n = 1
		default:
			n = whole
		}
	}
	t.say(strings.Join(lines, ""))
	return nil
}
