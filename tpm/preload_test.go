package tpm

import (
	"bytes"
	"testing"

	"github.com/keyrelease/krabox/kra/label"
)

// TestPreload: approvals that lie where anybody can write are taken if the domain signed them for all its boxes, and then open the next
// release without anything pasted. Whatever else lies there changes nothing.
func TestPreload(t *testing.T) {
	b, stranger := enrolled(t), newAuthority(t, "stranger")
	b.boot(v2)
	fleet := b.signed(label.Bundle{Domain: b.of.domain.Hash(), Sequence: 1, Approvals: approvals(t, b.of.desk(), v2)})
	foreign, err := label.Bundle{Domain: b.of.domain.Hash(), Sequence: 1, Approvals: approvals(t, b.of.desk(), v2)}.Sign(stranger.label)
	if err != nil {
		t.Fatal(err)
	}
	single, err := b.bundle(b.request(), v2).Sign(b.of.label)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text []byte
		word string
	}{
		"nothing":              {nil, "open bundle"},
		"garbage":              {bytes.Repeat([]byte("x"), 1000), "open bundle"},
		"too long":             {append(bytes.Clone(fleet), make([]byte, label.MaxPreload)...), "it is too long"},
		"signed by a stranger": {foreign, "not signed by the label key"},
		"of one box":           {single, "it is for one box"},
		"sealed to one box":    {b.signed(b.bundle(b.request(), v2)), "it is for one box"},
	} {
		_, err := b.Preload(t.Context(), c.text)
		wantRefused(t, err, c.word)
		if s := b.status(); s.Unapproved == "" {
			t.Fatalf("%s: the release is approved", name)
		}
	}
	for i, want := range []int{2, 0} { // the next boot brings them again
		in, err := b.Preload(t.Context(), fleet)
		if err != nil || in.Approvals != want {
			t.Errorf("time %d: %d new, %v; want %d", i, in.Approvals, err, want)
		}
	}
	b.serves()
}
