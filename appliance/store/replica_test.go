package store

import (
	"bytes"
	"strings"
	"testing"
	"time"

	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/label"
)

// TestPeers: boxes are admitted, admitted again and dismissed, each under its own name.
func TestPeers(t *testing.T) {
	good := Peer{Box: "box2", Label: label.Digest{1}, Transport: make([]byte, hsm.TransportSize), Letter: make([]byte, hsm.LetterSize), Request: label.Digest{2}, Since: time.Unix(1790000000, 5)}
	s, err := Apply(newState(), PeerSet{Peer: good, Files: map[string][]byte{"a/b": []byte("key")}})
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := s.Peer("box2"); !ok || p.ID() != hsm.PeerOf(good.Transport) || p.Since.Nanosecond() != 0 || !s.HasFiles() {
		t.Errorf("admitted %+v", p)
	}
	again := good
	again.Letter = bytes.Repeat([]byte{7}, hsm.LetterSize)
	if s, err = Apply(s, PeerSet{Peer: again}); err != nil || len(s.Peers()) != 1 || s.Peers()[0].Letter[0] != 7 {
		t.Errorf("admitted again: %+v, %v", s.Peers(), err)
	}
	for why, spoil := range map[string]func(*Peer){
		"box name":                         func(p *Peer) { p.Box = "Box 2" },
		"a sealed transfer key of 0 bytes": func(p *Peer) { p.Letter = nil },
		"want 1201":                        func(p *Peer) { p.Letter = make([]byte, hsm.LetterSize+1) },
		"a transport key of 1250 bytes":    func(p *Peer) { p.Transport = make([]byte, hsm.TransportSize+1) },
		"its label key or its request":     func(p *Peer) { p.Label = label.Digest{} },
		"or its request is not known":      func(p *Peer) { p.Request = label.Digest{} },
	} {
		p := good
		spoil(&p)
		if _, err := Apply(s, PeerSet{Peer: p}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want an error with %q", err, why)
		}
	}
	if s, err = Apply(s, PeerRemove{Box: "box2", Files: map[string][]byte{"a/b": nil}}); err != nil || len(s.Peers()) != 0 || s.HasFiles() {
		t.Errorf("dismissed: %+v, %v", s.Peers(), err)
	}
	if _, err := Apply(s, PeerRemove{Box: "box2"}); err == nil {
		t.Error("dismissed twice")
	}
	many := newState()
	for i := range MaxPeers + 1 {
		p := good
		p.Box = "box-" + strings.Repeat("x", i)
		p.Box = p.Box[:min(len(p.Box), 40)] + string(rune('a'+i%26)) + string(rune('a'+i/26))
		next, err := Apply(many, PeerSet{Peer: p})
		if (err == nil) != (i < MaxPeers) {
			t.Fatalf("box %d: %v", i, err)
		}
		if err == nil {
			many = next
		}
	}
}

// TestCopies: a copy is a replicable key that is not here yet, and keeps what it was.
func TestCopies(t *testing.T) {
	k := testKeyNumbered(1)
	k.Custody, k.Origin = hsm.Replicable, hsm.Imported
	good := CopyAdd{Key: k, State: Compromised, Made: time.Unix(1790000000, 0), From: Copy{Box: "box1", Origin: "generated"}}
	s, err := Apply(newState(), good)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := s.Key(k.ID); !ok || got.From == nil || *got.From != good.From || got.State != Compromised {
		t.Errorf("copied %+v", got)
	}
	if _, err := Apply(s, good); err == nil {
		t.Error("copied twice")
	}
	for why, spoil := range map[string]func(*CopyAdd){
		"is no copy":    func(c *CopyAdd) { c.Key.Custody = hsm.Bound },
		"unknown state": func(c *CopyAdd) { c.State = "" },
		"came from":     func(c *CopyAdd) { c.From.Box = "" },
		"is not set":    func(c *CopyAdd) { c.Key.Suite = 0 },
		"do not belong": func(c *CopyAdd) { c.Key.SPKI = []byte("another") },
	} {
		c := good
		spoil(&c)
		if _, err := Apply(newState(), c); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want an error with %q", err, why)
		}
	}
	for _, c := range []Change{good, ReplicaAsk{label.Digest{1}}, PeerSet{Peer: Peer{Box: "box2"}}, PeerRemove{Box: "box2"}} {
		b, err := EncodeChange(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseChange(b); err != nil {
			t.Errorf("%s: %v", c.kind(), err)
		}
	}
}
