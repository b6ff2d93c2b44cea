package console

import (
	"context"
	"io"
	"strings"
)

// maxHistory is how many lines are remembered within a session.
const maxHistory = 100

// A history keeps the lines of one session, newest first; not empty ones, repeated ones, or such as were not run.
type history struct {
	in    *input
	on    bool
	lines []string
}

// Add remembers a line.
func (h *history) Add(line string) {
	bad := h.in.cancelled || h.in.long || h.in.garbage > 0
	if !h.on || bad || strings.TrimSpace(line) == "" || len(h.lines) > 0 && h.lines[0] == line {
		return
	}
	h.lines = append([]string{line}, h.lines[:min(len(h.lines), maxHistory-1)]...)
}

// Len returns how many lines can be recalled.
func (h *history) Len() int {
	if !h.on {
		return 0
	}
	return len(h.lines)
}

// At returns a line; 0 is the newest.
func (h *history) At(i int) string { return h.lines[i] }

// key handles Tab and ?, for the line editor.
func (t *Terminal) key(line string, pos int, key rune) (string, int, bool) {
	head := line[:pos]
	switch key {
	case '\t':
		longer, all := Complete(head, t.mode, t.names)
		if len(all) > 0 {
			t.show(inColumns(all, t.size().columns))
		}
		return longer + line[pos:], len(longer), longer != head
	case '?':
		if literal(head) {
			return "", 0, false
		}
		t.show(Explain(head, t.mode))
		return line, pos, true
	}
	return "", 0, false
}

// show shows text above the line that is being edited.
func (t *Terminal) show(text string) {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = clean(l)
	}
	io.WriteString(t.edit, strings.Join(lines, "\n"))
}

// literal reports whether a question mark at the end of head is text: within quotes, or within an expression.
func literal(head string) bool {
	if t, ok := last(head); ok && t.open != 0 {
		return true
	}
	for _, p := range grammar {
		if _, r := p.match(head); r.full && p.elements[r.done-1].kind.cel {
			return true
		}
	}
	return false
}

func (t *Terminal) names(list string) []string {
	ctx, done := context.WithTimeout(context.Background(), askLimit)
	defer done()
	all, err := t.agent.Names(ctx, t.session, list)
	if err != nil {
		return nil
	}
	return all
}

// inColumns sets words in columns, in lines of that width.
func inColumns(all []string, width int) string {
	wide := 0
	for _, w := range all {
		wide = max(wide, len([]rune(w)))
	}
	per := max(1, (width-2)/(wide+2))
	var b strings.Builder
	for i, w := range all {
		b.WriteString("  " + w)
		if (i+1)%per == 0 || i == len(all)-1 {
			b.WriteByte('\n')
			continue
		}
		b.WriteString(strings.Repeat(" ", wide-len([]rune(w))))
	}
	return b.String()
}
