package console

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// columns is the width of a serial terminal.
const columns = 80

// Allowed reports whether a command works in a mode.
func Allowed(c Command, m Mode) bool {
	switch m {
	case Enrolled:
		return true
	case Factory, Locked, Maintenance, Attended:
	default:
		return false
	}
	switch c.(type) {
	case Nothing, Help, Status, SystemSecrets, SystemEvents, SystemSupport, Reboot, PowerOff:
		return true
	case EnrolInstall:
		return m != Attended
	case Unlock:
		return m == Attended
	case EnrolRequest:
		return m == Factory || m == Maintenance
	case Zeroize:
		return m == Locked
	case EnrolListen:
		return m == Factory
	}
	return false
}

func (r *row) in(m Mode) bool {
	letter := map[Mode]string{Factory: "f", Locked: "l", Maintenance: "m", Attended: "a"}[m]
	return m == Enrolled || letter != "" && strings.Contains(r.modes, letter)
}

// HelpText lists the commands of a mode that begin with topic and that somebody with a duty may run, or anybody if it is empty. About a
// topic it also says who may.
func HelpText(topic string, m Mode, d Duty) string {
	topic = strings.Join(strings.Fields(topic), " ")
	var b strings.Builder
	for i := range table {
		if r := &table[i]; r.in(m) && (m != Enrolled || d == "" || r.by.Has(d)) && (r.form == topic || topic == "" || strings.HasPrefix(r.form+" ", topic+" ")) {
			b.WriteString(r.describe())
			if topic != "" && m == Enrolled {
				b.WriteString(wrap(strings.Repeat(" ", helpColumn)+"by ", r.by.String()) + "\n")
			}
		}
	}
	if b.Len() == 0 {
		return fmt.Sprintf("No command begins with %q. Type ? for the list.\n", clip(topic))
	}
	return b.String()
}

// helpColumn is where the explanation of a short form begins.
const helpColumn = 26

func (r *row) describe() string {
	if utf8.RuneCountInString(r.form) < helpColumn-3 {
		return wrap(fmt.Sprintf("  %-*s", helpColumn-2, r.form), r.help) + "\n"
	}
	return wrap("  ", r.form) + "\n" + wrap(strings.Repeat(" ", helpColumn), r.help) + "\n"
}

// An option is something that may stand at a place of a line.
type option struct {
	word  string // a fixed word, or a kind's name in capitals
	help  string
	names string // what completes it
	kind  bool
}

// options returns what may follow line[:pos] given what of the word there has been typed.
func options(line string, m Mode) (partial token, out []option) {
	if partial, out, ok := viewing(line); ok {
		return partial, out
	}
	partial = token{start: len(line), end: len(line)}
	head := line
	if t, ok := last(line); ok {
		partial, head = t, line[:t.start]
	}
	for _, p := range grammar {
		if !p.row.in(m) {
			continue
		}
		e, end, ok := p.after(head)
		if !ok {
			continue
		}
		for _, o := range p.offer(e, end) {
			if !slices.ContainsFunc(out, func(x option) bool { return x.word == o.word }) {
				out = append(out, o)
			}
		}
	}
	return partial, out
}

// last returns the word that the line ends in, if it ends in one.
func last(line string) (token, bool) {
	var t token
	for off := 0; ; off = t.end {
		u, ok := next(line, off)
		if !ok {
			return t, false
		}
		if t = u; t.end == len(line) {
			return t, true
		}
	}
}

// after returns the element that stands after head, or end if the form is complete there.
func (p pattern) after(head string) (e element, end bool, ok bool) {
	_, r := p.match(head)
	switch {
	case r.full && r.done == len(p.elements):
		if e := p.elements[r.done-1]; len(e.fixed) == 0 && e.kind.rest != oneWord {
			return e, false, true
		}
		return element{}, true, true
	case strings.TrimSpace(head[r.off:]) == "" && r.done < len(p.elements):
		return p.elements[r.done], false, true
	}
	return element{}, false, false
}

func (p pattern) offer(e element, end bool) []option {
	if end {
		return []option{{word: "<Enter>", help: p.row.help, kind: true}, {word: "|", help: "show it in another way", kind: true}}
	}
	if len(e.fixed) == 0 {
		return []option{{word: e.kind.name, help: e.kind.help, names: e.kind.names, kind: true}}
	}
	var out []option
	for _, w := range e.fixed {
		out = append(out, option{word: w, help: p.helpFor(w)})
	}
	return out
}

// helpFor explains a fixed word: the group's words by their verbs, the others by their command.
func (p pattern) helpFor(word string) string {
	if p.elements[0].fixed[0] == word && len(p.elements) > 1 && len(p.elements[1].fixed) > 0 {
		return verbs(word)
	}
	return p.row.help
}

func verbs(first string) string {
	var out []string
	for _, r := range table {
		if w := strings.Fields(r.form); w[0] == first && len(w) > 1 && !slices.Contains(out, w[1]) {
			out = append(out, w[1])
		}
	}
	return strings.Join(out, ", ")
}

// Explain says what may stand at the end of line.
func Explain(line string, m Mode) string {
	partial, all := options(line, m)
	var b strings.Builder
	for _, o := range all {
		if o.kind || strings.HasPrefix(o.word, partial.text) {
			b.WriteString(wrap(fmt.Sprintf("  %-14s", o.word), o.help) + "\n")
		}
	}
	if b.Len() == 0 {
		return "  nothing fits here\n"
	}
	return b.String()
}

func clip(s string) string {
	if len(s) > maxQuoted {
		return clean(s[:maxQuoted]) + "…"
	}
	return clean(s)
}
