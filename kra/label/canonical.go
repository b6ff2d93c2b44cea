package label

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
)

// Limits of the parsers.
const (
	MaxDocument    = 512 << 10 // bytes of one JSON document
	MaxEventLog    = 1 << 20   // bytes of an event log, unpacked
	MaxApprovals   = 256       // approvals in one bundle
	MaxNames       = 64        // DNS names and addresses of one box, each
	MaxDescription = 200       // bytes of an approval's description
)

// encode gives the one JSON form of a document: fields in order of declaration, nothing escaped that need not be,
// no white space. It cannot fail for the checked values of this package.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("label: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

var errForm = errors.New("not in the one canonical form")

// decode reads a document and refuses any other byte form of it (repeated, unknown or miscased fields, white space).
func decode(b []byte, v any, check func() error) error { return decodeOf(MaxDocument, b, v, check) }

// decodeOf does so for documents of so many bytes at most.
func decodeOf(most int, b []byte, v any, check func() error) error {
	if len(b) > most {
		return fmt.Errorf("%d bytes, at most %d", len(b), most)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if err := check(); err != nil {
		return err
	}
	if !bytes.Equal(encode(v), b) {
		return errForm
	}
	return nil
}

func armor(kind string, doc []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: doc})
}

// unarmor finds the one block of a kind; text around it, as a terminal leaves it, is ignored.
func unarmor(kind string, text []byte) ([]byte, error) {
	if len(text) > 2*MaxDocument {
		return nil, fmt.Errorf("%d bytes, at most %d", len(text), 2*MaxDocument)
	}
	text = bytes.ReplaceAll(text, []byte("\r"), nil)
	for {
		b, rest := pem.Decode(text)
		switch {
		case b == nil:
			return nil, fmt.Errorf("no block %q", "BEGIN "+kind)
		case b.Type == kind && len(b.Headers) == 0:
			return b.Bytes, nil
		}
		text = rest
	}
}
