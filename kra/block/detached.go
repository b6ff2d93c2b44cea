package block

import (
	"fmt"
	"slices"

	"filippo.io/age"
)

// noMAC stands for a header MAC that its sender was not told. No file has it: it would be a preimage.
var noMAC [macSize]byte

// NewHeader returns the header of these stanzas with zeros where the MAC belongs. That is all of a file that age shows its
// plugins. No key fits the header; as an Envelope it is one that is not bound.
func NewHeader(stanzas []*age.Stanza) (Header, error) {
	p := parsed{mac: noMAC[:]}
	for _, s := range stanzas {
		args := append([]string{s.Type}, s.Args...)
		if slices.ContainsFunc(args, func(a string) bool { return !visible(a) }) {
			return Header{}, fmt.Errorf("make header: %w", errWords)
		}
		p.stanzas = append(p.stanzas, stanza{args: args, body: s.Body})
	}
	h, err := ParseHeaderBytes(p.marshal())
	if err != nil {
		return Header{}, fmt.Errorf("make header: %w", err)
	}
	return h, nil
}

// detached reports whether the MAC is missing.
func (h Header) detached() bool { return len(h.mac) == macSize && [macSize]byte(h.mac) == noMAC }
