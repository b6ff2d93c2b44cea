package console

import (
	"fmt"
	"slices"
	"strings"
)

// Forms returns every form of every command, its choices of what is left out made.
func Forms() (all []string) {
	for _, r := range table {
		all = append(all, expand(r.form)...)
	}
	return all
}

// An element is one place of a form: one of some fixed words, or a word of a kind.
type element struct {
	fixed []string
	kind  kind // if fixed is empty
}

// A pattern is a form with its choices of what is left out made: a plain sequence.
type pattern struct {
	row      *row
	elements []element
}

type patterns []pattern

var grammar = compile(table)

// compile panics on a form that is no form: a programmer's mistake, found by any test.
func compile(rows []row) patterns {
	var out patterns
	for i := range rows {
		for _, form := range expand(rows[i].form) {
			p := pattern{row: &rows[i]}
			for w := range strings.FieldsSeq(form) {
				p.elements = append(p.elements, elementOf(w))
			}
			out = append(out, p)
		}
	}
	return out
}

func elementOf(w string) element {
	if strings.ToLower(w) == w {
		return element{fixed: strings.Split(w, "|")}
	}
	k, ok := kindOf(w)
	if !ok {
		panic("console: no kind " + w)
	}
	return element{kind: k}
}

// expand writes a form once with and once without each [part].
func expand(form string) []string {
	before, rest, ok := strings.Cut(form, "[")
	if !ok {
		return []string{form}
	}
	part, after, _ := strings.Cut(rest, "]")
	var out []string
	for _, tail := range expand(after) {
		out = append(out, before+tail, before+part+tail)
	}
	return out
}

// A reach is how far a pattern went along a line: done elements matched up to off. At off stands what did not fit, if
// anything does, and why it did not.
type reach struct {
	done int
	off  int
	why  error
	full bool
}

// match follows the line. Words up to end are read; end is the length of the line, or the cursor.
func (p pattern) match(line string) (args, reach) {
	a := args{words: map[string][]string{}}
	off := 0
	for i, e := range p.elements {
		t, ok := next(line, off)
		if !ok {
			return a, reach{done: i, off: len(line)}
		}
		if len(e.fixed) == 0 && e.kind.rest == restOfLine {
			a.words[e.kind.name] = []string{strings.TrimSpace(line[t.start:])}
			return a, reach{done: i + 1, off: len(line), full: true}
		}
		for {
			if err := a.take(e, t); err != nil {
				return a, reach{done: i, off: t.start, why: err.text}
			}
			off = t.end
			if e.kind.rest != manyWords {
				break
			}
			if t, ok = next(line, off); !ok {
				break
			}
		}
	}
	if t, ok := next(line, off); ok {
		return a, reach{done: len(p.elements), off: t.start}
	}
	return a, reach{done: len(p.elements), off: len(line), full: true}
}

// A misfit says why a word is not of its kind; text is nil for a fixed word that is simply another.
type misfit struct{ text error }

func (a *args) take(e element, t token) *misfit {
	switch {
	case t.open != 0:
		return &misfit{fmt.Errorf("a quote (%c) is not closed", t.open)}
	case len(e.fixed) > 0 && !slices.Contains(e.fixed, t.text):
		return &misfit{}
	case len(e.fixed) > 0:
		a.fixed = append(a.fixed, t.text)
		return nil
	}
	if e.kind.check != nil {
		if err := e.kind.check(t.text); err != nil {
			return &misfit{err}
		}
	}
	a.words[e.kind.name] = append(a.words[e.kind.name], t.text)
	return nil
}

func (g patterns) parse(line string) (Command, Rights, error) {
	best := &SyntaxError{Line: line}
	far := -1
	for _, p := range g {
		a, r := p.match(line)
		if r.full {
			return p.row.make(a), p.row.by, nil
		}
		if r.done < far {
			continue
		}
		if r.done > far {
			far = r.done
			best = &SyntaxError{Line: line, Pos: r.off}
		}
		if r.why != nil {
			best.Text = r.why.Error()
		}
		if want := p.wanted(r.done); !slices.Contains(best.Want, want) {
			best.Want = append(best.Want, want)
		}
	}
	if best.Text == "" {
		best.Text = misread(line, best)
	}
	return nil, 0, best
}

func (p pattern) wanted(i int) string {
	if i >= len(p.elements) {
		return "the end of the line"
	}
	if e := p.elements[i]; len(e.fixed) == 0 {
		return e.kind.name
	}
	return strings.Join(p.elements[i].fixed, " or ")
}

// maxQuoted is how much of an unknown word an error repeats.
const maxQuoted = 40

func misread(line string, e *SyntaxError) string {
	t, ok := next(line, e.Pos)
	switch {
	case !ok:
		return "the command is not complete"
	case len(t.text) > maxQuoted:
		return "unknown word"
	case slices.Equal(e.Want, []string{"the end of the line"}):
		return fmt.Sprintf("unexpected %q; words that belong together are put in quotes", t.text)
	}
	return fmt.Sprintf("unknown word %q", t.text)
}
