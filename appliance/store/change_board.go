package store

import (
	"strings"

	"github.com/keyrelease/krabox/kra/label"
)

// A Board is where the box advertises, and where it looks what its domain permits.
type Board struct {
	URL   string   `json:"url"`
	CA    [][]byte `json:"ca"`    // DER; of the server, if the URL is https
	Every int      `json:"every"` // seconds between two looks
	Limit int      `json:"limit"` // seconds without a look after which nothing is released
}

// A Permit is the newest permissions of the domain that the box has seen.
type Permit struct {
	Signed []byte `json:"signed"` // label.SignedPermissions
}

// BoardSet names the domain's board.
type BoardSet struct {
	Board Board `json:"board"`
}

func (BoardSet) kind() string { return "board-set" }

func (c BoardSet) apply(d *State) error {
	b := c.Board
	switch {
	case !isURL(b.URL, "http") && !isURL(b.URL, "https") || strings.ContainsAny(b.URL, "?#"):
		return invalid("want an address such as https://board.example.com")
	case isURL(b.URL, "https") != (len(b.CA) > 0):
		return invalid("a server that is asked over https, and no other, has a certification authority")
	case b.Every < minEvery || b.Every > maxEvery || b.Limit < b.Every || b.Limit > maxAge:
		return invalid("it is asked every %d to %d seconds, and the limit is longer than that, at most %d", minEvery, maxEvery, maxAge)
	}
	if err := (Source{Alias: "board"}).checkPins(b.CA); err != nil {
		return err
	}
	d.board.put(only, b)
	return nil
}

// BoardRemove asks no board any longer. What the domain has permitted stays in force.
type BoardRemove struct{}

func (BoardRemove) kind() string { return "board-remove" }

func (BoardRemove) apply(d *State) error {
	if d.board.size() == 0 {
		return invalid("there is no board")
	}
	d.board.remove(only)
	return nil
}

// PermissionsSet remembers permissions that the caller has verified. They never go back.
type PermissionsSet struct {
	Signed []byte `json:"signed"`
}

func (PermissionsSet) kind() string { return "permissions-set" }

func (c PermissionsSet) apply(d *State) error {
	next, err := label.ParsePermissions(c.Signed)
	if err != nil || string(next.Bytes()) != string(c.Signed) {
		return invalid("these are no permissions")
	}
	old, err := d.Permissions()
	if err != nil {
		return invalid("the permissions here are spoilt: %v", err)
	}
	if old != nil {
		if err := next.Permissions.Follows(old.Permissions); err != nil {
			return invalid("%v", err)
		}
	}
	d.permit.put(only, Permit(c))
	return nil
}

// Board returns the domain's board; the zero URL means that none is set.
func (s *State) Board() Board { return s.board.single() }

// Permissions returns the newest that the box has seen, nil if it never saw any.
func (s *State) Permissions() (*label.SignedPermissions, error) {
	if s.permit.size() == 0 {
		return nil, nil
	}
	p, err := label.ParsePermissions(s.permit.single().Signed)
	if err != nil {
		return nil, err
	}
	return &p, nil
}
