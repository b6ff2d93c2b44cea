package admin

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra/policy"
)

// columns is the width of a terminal that does not say its own, and of what is in the log.
const columns = wire.LeastColumns

// across is the width of the terminal to which w writes.
func across(w io.Writer) int {
	if s, ok := w.(*step); ok {
		return max(s.width, columns)
	}
	return columns
}

// maxDetail bounds what of an outcome is logged.
const maxDetail = 2000

func clip(s string) string {
	if len(s) > maxDetail {
		return strings.ToValidUTF8(s[:maxDetail], "") + "…"
	}
	return s
}

// sentence makes an error readable by a person. A rule's mistake keeps its caret.
func sentence(err error) string { return sentenceTo(err, columns) }

func sentenceTo(err error, width int) string {
	var syntax *policy.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Sprintf("%s\nIn %s: %s", syntax.Caret(), syntax.Where, syntax.Message)
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	r, n := utf8.DecodeRuneInString(text)
	text = strings.ToUpper(string(r)) + text[n:]
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return foldTo(text, width-1)
}

// A table is rows under a head. The last column takes what is left of the terminal's width and is cut to it; the others
// are as wide as they need.
type table struct {
	head   []string
	rows   [][]string
	yields int // the column, counted from 1, that is narrowed before any other; 0: none
}

// minColumn is what is left of a column that yields.
const minColumn = 12

func newTable(head ...string) *table { return &table{head: head} }

// row adds a row. A cell is one line, whatever a certificate has in its name.
func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = printable(c)
	}
	t.rows = append(t.rows, cells)
}

// printable is text from elsewhere that cannot steer the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}

// print writes the table, or the text if it has no rows.
func (t *table) print(w io.Writer, empty string) error {
	if s, ok := w.(*step); ok && s.json != nil {
		s.json.table(t)
		return nil
	}
	if len(t.rows) == 0 {
		_, err := io.WriteString(w, empty+"\n")
		return err
	}
	wide := make([]int, len(t.head))
	for _, r := range append([][]string{t.head}, t.rows...) {
		for i, c := range r {
			wide[i] = max(wide[i], utf8.RuneCountInString(c))
		}
	}
	narrow(wide, t.yields, across(w))
	for _, r := range append([][]string{t.head}, t.rows...) {
		if _, err := io.WriteString(w, format(r, wide)); err != nil {
			return err
		}
	}
	return nil
}

// narrow takes from the widest columns until all fit, and first from the one that yields; it is counted from 1.
func narrow(wide []int, yields, width int) {
	for {
		sum, widest := 2*(len(wide)-1), 0
		for i, n := range wide {
			sum += n
			if n > wide[widest] {
				widest = i
			}
		}
		if i := yields - 1; i >= 0 && wide[i] > minColumn {
			widest = i
		}
		if sum < width {
			return
		}
		wide[widest]--
	}
}

func format(cells []string, wide []int) string {
	var b strings.Builder
	for i, c := range cells {
		if r := []rune(c); len(r) > wide[i] {
			c = string(r[:max(0, wide[i]-1)]) + "…"
		}
		b.WriteString(c)
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", 2+wide[i]-utf8.RuneCountInString(c)))
		}
	}
	return strings.TrimRight(b.String(), " ") + "\n"
}

// field writes one line of a description, folding its text.
func field(w io.Writer, name, text string) error {
	if s, ok := w.(*step); ok && s.json != nil {
		s.json.field(name, text)
		return nil
	}
	const indent = 14
	lines := strings.Split(foldTo(text, across(w)-indent-1), "\n")
	_, err := fmt.Fprintf(w, "%-*s%s\n", indent, name, strings.Join(lines, "\n"+strings.Repeat(" ", indent)))
	return err
}

// foldTo breaks text into lines; words wider than a line are cut.
func foldTo(text string, width int) string {
	var lines []string
	for _, para := range strings.Split(text, "\n") {
		line := ""
		for _, w := range strings.Fields(para) {
			for utf8.RuneCountInString(w) > width { // a key or a root: broken where it must be
				r := []rune(w)
				if line != "" {
					lines, line = append(lines, line), ""
				}
				lines, w = append(lines, string(r[:width])), string(r[width:])
			}
			switch {
			case line == "":
				line = w
			case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > width:
				lines, line = append(lines, line), w
			default:
				line += " " + w
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05") + " UTC"
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
