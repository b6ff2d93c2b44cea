package receipt

import (
	"bytes"
	"errors"
	"strconv"
)

// A Glance is the little of a public part that the log itself needs when it is read again. Key says that the whole has
// to be parsed.
type Glance struct {
	Item *Item
	Key  bool
}

var (
	glanceKey  = []byte(`{"kind":"receipt-key",`)
	glanceItem = []byte(`,"hsm":{"instance":"`)
	glanceN    = []byte(`","n":`)
	glanceID   = []byte(`,"key":"`)
	glanceText = []byte(`","ciphertext":"`)
	glancePeer = []byte(`","peer":"`)
	glanceEnd  = []byte(`"}}`)
)

// GlanceAt reads a public part that is known to be canonical, because its seal was checked, at a tenth of the cost of
// ParsePublic. It finds nothing that ParsePublic would not: no string of a canonical part contains a bare quote.
func GlanceAt(public []byte) (Glance, error) {
	if bytes.HasPrefix(public, glanceKey) {
		return Glance{Key: true}, nil
	}
	_, rest, ok := bytes.Cut(public, glanceItem)
	if !ok {
		return Glance{}, nil
	}
	var i Item
	take := func(dst, end []byte) {
		if n := 2 * len(dst); ok && len(rest) >= n+len(end) && bytes.HasPrefix(rest[n:], end) && parseHex(dst, rest[:n]) == nil {
			rest = rest[n+len(end):]
			return
		}
		ok = false
	}
	take(i.Instance[:], glanceN)
	digits, after, found := bytes.Cut(rest, glanceID)
	n, err := strconv.ParseUint(string(digits), 10, 64)
	i.N, rest, ok = n, after, ok && found && err == nil
	take(i.Key[:], glanceText)
	if n := 2 * len(i.Ciphertext); len(rest) >= n && bytes.HasPrefix(rest[n:], glancePeer) {
		take(i.Ciphertext[:], glancePeer)
		take(i.Peer[:], glanceEnd)
	} else {
		take(i.Ciphertext[:], glanceEnd)
	}
	if !ok || len(rest) != 0 {
		return Glance{}, errors.New("parse record: malformed HSM item")
	}
	return Glance{Item: &i}, nil
}
