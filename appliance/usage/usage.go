// Package usage counts who was given how many keys of which access identifier, from the release log, for charging.
package usage

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra/receipt"
)

// MaxRows is how many pairs of decryptor and access identifier are told apart. What comes after them is counted together.
const MaxRows = 100_000

// Names that no decryptor and no access identifier has.
const (
	nobody = "-" // who proved nothing is charged for nothing
	others = "*" // all beyond MaxRows
)

// A row is whose uses of what are counted.
type row struct{ decryptor, access string }

type count struct {
	released  int64 // keys that were released
	withdrawn int64 // of these, those whose payment was then not captured: they stayed in the box
	refused   int64
	first     time.Time
	last      time.Time
}

// A Tally counts records of a log.
type Tally struct {
	rows map[row]*count
	max  int
}

// New returns an empty tally.
func New() *Tally { return &Tally{map[row]*count{}, MaxRows} }

// private is what is read of a record's private part.
type private struct {
	Reason   string `json:"reason"`
	Channel  string `json:"channel"`
	Decision struct {
		Decryptor string `json:"decryptor"`
		Granted   string `json:"granted"`
	} `json:"decision"`
	Request struct {
		Decryptor string `json:"decryptor"`
	} `json:"request"`
}

// notCaptured begins the reason of a refusal that takes back the release before it.
const notCaptured = "external: capture "

// Record counts a record, if it is of a release or refusal.
func (t *Tally) Record(r receipt.Record) error {
	p, err := receipt.ParsePublic(r.Public)
	if err != nil {
		return err
	}
	if p.Kind != receipt.Release && p.Kind != receipt.Refusal {
		return nil
	}
	var v private
	if err := json.Unmarshal(r.Private, &v); err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	who := v.Decision.Decryptor
	if who == "" {
		who = v.Request.Decryptor
	}
	if who == "" || v.Channel != "" {
		who = nobody
	}
	switch {
	case p.Kind == receipt.Release:
		t.at(row{who, p.Access}, p.Time.Time()).released++
	case strings.HasPrefix(v.Reason, notCaptured):
		t.at(row{who, v.Decision.Granted}, p.Time.Time()).withdrawn++
	default:
		t.at(row{who, ""}, p.Time.Time()).refused++
	}
	return nil
}

func (t *Tally) at(r row, now time.Time) *count {
	if t.rows[r] == nil && len(t.rows) >= t.max {
		r = row{others, others}
	}
	c := t.rows[r]
	if c == nil {
		c = &count{first: now}
		t.rows[r] = c
	}
	c.last = now
	return c
}

// WriteCSV writes a line for each pair, in order, after a line of names (RFC 4180).
func (t *Tally) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{"decryptor", "access", "released", "withdrawn", "refused", "first", "last"}) // Error has it
	for _, r := range slices.SortedFunc(maps.Keys(t.rows), func(a, b row) int {
		if n := strings.Compare(a.decryptor, b.decryptor); n != 0 {
			return n
		}
		return strings.Compare(a.access, b.access)
	}) {
		c := t.rows[r]
		_ = out.Write([]string{plain(r.decryptor), r.access, number(c.released), number(c.withdrawn), number(c.refused),
			c.first.Format(time.RFC3339), c.last.Format(time.RFC3339)})
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write usage: %w", err)
	}
	return nil
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// plain keeps a spreadsheet from taking a name for a formula.
func plain(name string) string {
	if name != nobody && strings.ContainsAny(name[:1], "=+-@\t\r") {
		return "'" + name
	}
	return name
}
