package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/console"
)

// maxObject bounds the text in an object.
const maxObject = 4 << 20

// An object is what a command shows as JSON: its fields under their names, in the order in which they were shown, each a string, or an
// array of strings where there are several of a name; the rows of a table as an array of objects under "rows", of a second table
// under "rows2", and so on; everything else, such as a PEM block, under "text".
type object struct {
	names  []string
	values map[string][]string
	tables [][]map[string]string
	text   bytes.Buffer
}

func objectFor(v console.View) *object {
	if !v.JSON {
		return nil
	}
	return &object{values: map[string][]string{}}
}

// nameOf is the name in JSON of what has a name for people.
func nameOf(name string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimSpace(name)), " ", "_")
}

func (o *object) field(name, text string) {
	name = nameOf(name)
	if !slices.Contains(o.names, name) {
		o.names = append(o.names, name)
	}
	o.values[name] = append(o.values[name], text)
}

func (o *object) table(t *table) {
	rows := []map[string]string{}
	for _, cells := range t.rows {
		row := map[string]string{}
		for i, c := range cells {
			row[nameOf(t.head[i])] = c
		}
		rows = append(rows, row)
	}
	o.tables = append(o.tables, rows)
}

func (o *object) Write(p []byte) (int, error) {
	if o.text.Len()+len(p) > maxObject {
		return 0, fmt.Errorf("that is more than %d bytes: too much for one JSON object; ask for less, or for text", maxObject)
	}
	return o.text.Write(p)
}

// MarshalJSON keeps the order of the fields.
func (o *object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	put := func(name string, v any) error {
		n, err := json.Marshal(name)
		if err != nil {
			return err
		}
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%s:%s", n, text)
		return nil
	}
	for _, n := range o.names {
		var v any = o.values[n]
		if len(o.values[n]) == 1 {
			v = o.values[n][0]
		}
		if err := put(n, v); err != nil {
			return nil, err
		}
	}
	for i, rows := range o.tables {
		name := "rows"
		if i > 0 {
			name = fmt.Sprintf("rows%d", i+1)
		}
		if err := put(name, rows); err != nil {
			return nil, err
		}
	}
	if o.text.Len() > 0 {
		if err := put("text", o.text.String()); err != nil {
			return nil, err
		}
	}
	return fmt.Appendf(nil, "{%s}", b.Bytes()), nil
}

// object shows what was kept for it.
func (s *step) object() error {
	if s.json == nil || s.dry != nil {
		return nil
	}
	text, err := json.MarshalIndent(s.json, "", "  ")
	if err != nil {
		return err
	}
	s.json = nil
	_, err = s.Write(append(text, '\n'))
	return err
}
