package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/keyrelease/krabox/kra/policy"
)

// Limits of a record of kind book.
const (
	maxPart  = 64 << 10 // bytes of an edit's text that one record holds
	maxParts = policy.MaxEdit / maxPart
)

// A bookPart is the private part of a record of kind book. An edit that is longer than one record stands in several, one
// after the other: Text is then a part of its text.
type bookPart struct {
	Version uint64          `json:"version"`
	From    uint64          `json:"from,omitempty"` // the version that it changes; 0: the empty book
	Edit    json.RawMessage `json:"edit,omitempty"` // all of it
	Part    int             `json:"part,omitempty"` // from 1
	Of      int             `json:"of,omitempty"`
	Text    []byte          `json:"text,omitempty"`
}

// Parts returns the private parts of the records that say how a book came out of another, in order.
func Parts(version, from uint64, e policy.Edit) ([]json.RawMessage, error) {
	text, err := e.AppendJSON(nil)
	if err != nil {
		return nil, err
	}
	if len(text) <= maxPart {
		return encode(bookPart{Version: version, From: from, Edit: text})
	}
	if len(text) > policy.MaxEdit {
		return nil, fmt.Errorf("log book: edit longer than %d bytes", policy.MaxEdit)
	}
	var all []bookPart
	for piece := range slices.Chunk(text, maxPart) {
		all = append(all, bookPart{Version: version, From: from, Part: len(all) + 1, Text: piece})
	}
	for i := range all {
		all[i].Of = len(all)
	}
	return encode(all...)
}

func encode(parts ...bookPart) (out []json.RawMessage, err error) {
	for _, p := range parts {
		b, err := json.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("log book: %w", err)
		}
		out = append(out, b)
	}
	return out, nil
}

var (
	errPartForm  = errors.New("parse book: not in its one form")
	errPartOrder = errors.New("parse book: the parts do not follow each other")
)

// parsePart reads what Parts wrote, and no other text.
func parsePart(b []byte) (p bookPart, err error) {
	if err := json.Unmarshal(b, &p); err != nil {
		return bookPart{}, fmt.Errorf("parse book: %w", err)
	}
	if again, err := json.Marshal(p); err != nil || !bytes.Equal(again, b) {
		return bookPart{}, errPartForm
	}
	whole := len(p.Edit) > 0 && p.Part == 0 && p.Of == 0 && len(p.Text) == 0
	part := len(p.Edit) == 0 && p.Part >= 1 && p.Part <= p.Of && p.Of >= 2 && p.Of <= maxParts && len(p.Text) > 0 && len(p.Text) <= maxPart
	if !whole && !part || p.Version <= p.From {
		return bookPart{}, errPartForm
	}
	return p, nil
}

// A collector puts the parts of an edit together.
type collector struct {
	last bookPart // without its text
	text []byte
}

// add takes the next part and returns the edit with the last one. A first part gives up what was not complete.
func (c *collector) add(p bookPart) (policy.Edit, bool, error) {
	if p.Part == 0 {
		*c = collector{}
		e, err := policy.ParseEdit(p.Edit)
		return e, err == nil, err
	}
	if p.Part == 1 {
		*c = collector{}
	} else if p.Part != c.last.Part+1 || p.Of != c.last.Of || p.Version != c.last.Version || p.From != c.last.From {
		return policy.Edit{}, false, errPartOrder
	}
	c.text = append(c.text, p.Text...)
	c.last = bookPart{Version: p.Version, From: p.From, Part: p.Part, Of: p.Of}
	if p.Part < p.Of {
		return policy.Edit{}, false, nil
	}
	e, err := policy.ParseEdit(c.text)
	*c = collector{}
	return e, err == nil, err
}
