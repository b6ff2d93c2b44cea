package release

import (
	"fmt"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/cms"
	"github.com/keyrelease/krabox/kra/block/jwe"
)

// formats are the containers whose header portion the port takes, told apart by how it begins.
var formats = [...]struct {
	begins func(byte) bool
	parse  func([]byte) (block.Envelope, error)
}{
	{func(c byte) bool { return c == 'a' }, parseAge},
	{func(c byte) bool { return c == 0x30 }, parseCMS},
	{func(c byte) bool { return c == '{' }, parseJWE},
}

func parseAge(raw []byte) (block.Envelope, error) {
	h, err := block.ParseHeaderBytes(raw)
	if err != nil {
		return block.Envelope{}, err
	}
	return block.EnvelopeOf(h), nil
}

func parseCMS(raw []byte) (block.Envelope, error) {
	h, err := cms.ParseHead(raw)
	if err != nil {
		return block.Envelope{}, err
	}
	return h.Envelope()
}

func parseJWE(raw []byte) (block.Envelope, error) {
	h, err := jwe.ParseHead(raw)
	if err != nil {
		return block.Envelope{}, err
	}
	return h.Envelope()
}

// parseEnvelope closes the header portion of a block.
func parseEnvelope(raw []byte) (block.Envelope, error) {
	for _, f := range formats {
		if f.begins(raw[0]) {
			return f.parse(raw)
		}
	}
	return block.Envelope{}, fmt.Errorf("parse header: neither age nor another format that is known")
}
