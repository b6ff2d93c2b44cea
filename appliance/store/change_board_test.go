package store

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/board/boardtest"
	"github.com/keyrelease/krabox/kra/label"
)

// What the domain has said is never taken back by something older, nor by taking away the board.
func TestPermissionsNeverGoBack(t *testing.T) {
	d := boardtest.New(t, "example.org")
	first, second := d.Permissions(1, label.Revoke, 0), d.Permissions(2, label.Attest, 0)
	must := func(s *State, c Change) *State {
		t.Helper()
		b, err := EncodeChange(c)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := ParseChange(b)
		if err != nil {
			t.Fatal(err)
		}
		next, err := Apply(s, parsed)
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	s := must(newState(), BoardSet{Board{URL: "http://board.example.org", Every: 600, Limit: 86400}})
	if p, err := s.Permissions(); p != nil || err != nil {
		t.Errorf("permissions of a new box: %v, %v", p, err)
	}
	s = must(s, PermissionsSet{second.Bytes()})
	s = must(s, PermissionsSet{second.Bytes()}) // again is nothing new
	twin := d.PermissionsAt(time.Now().Add(time.Minute), 2, label.Revoke, 0)
	for name, c := range map[string]struct {
		text []byte
		want string
	}{"older": {first.Bytes(), "older than ones seen"}, "another of the same number": {twin.Bytes(), "there are two"},
		"none": {[]byte("{}"), "no permissions"}, "in PEM": {second.Armored(), "no permissions"}, "nothing": {nil, "no permissions"}} {
		if _, err := Apply(s, PermissionsSet{c.text}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	s = must(s, BoardRemove{})
	if p, err := s.Permissions(); err != nil || p == nil || !bytes.Equal(p.Bytes(), second.Bytes()) || s.Board().URL != "" {
		t.Errorf("without a board: %v, %v", p, err)
	}
	if _, err := Apply(s, BoardRemove{}); err == nil {
		t.Error("a board is removed twice")
	}
}

func TestBoardRefused(t *testing.T) {
	ca, _, _, _ := authority(t)
	good := Board{URL: "https://board.example.org", CA: [][]byte{ca}, Every: 600, Limit: 86400}
	if _, err := Apply(newState(), BoardSet{good}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Board){
		"no address":             func(b *Board) { b.URL = "" },
		"of another kind":        func(b *Board) { b.URL = "ftp://board.example.org" },
		"with a query":           func(b *Board) { b.URL += "/?a=b" },
		"no authority":           func(b *Board) { b.CA = nil },
		"an authority for plain": func(b *Board) { b.URL = "http://board.example.org" },
		"no certificate":         func(b *Board) { b.CA = [][]byte{{1}} },
		"too often":              func(b *Board) { b.Every = 1 },
		"never":                  func(b *Board) { b.Every = 1 << 30; b.Limit = 1 << 30 },
		"limit below its pace":   func(b *Board) { b.Limit = 599 },
		"no limit":               func(b *Board) { b.Limit = 0 },
	} {
		b := good
		change(&b)
		if _, err := Apply(newState(), BoardSet{b}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
