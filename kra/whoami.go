package kra

import (
	"errors"
	"fmt"
	"time"
)

// A WhoAmI is the answer of PathWhoAmI: what the box knows of the decryptor that the channel proved, and which access
// identifiers it belongs to now. It says nothing of anybody else.
type WhoAmI struct {
	Decryptor   string     `json:"decryptor"`
	Access      []AccessID `json:"access"`                // of which a list passes now
	Information []Known    `json:"information,omitempty"` // beyond the name
	Unavailable []Anchor   `json:"unavailable,omitempty"` // authorities that could not be asked
}

// A Known is one piece of information about the decryptor: what, on whose word, how it came, until when.
type Known struct {
	Kind      string     `json:"kind"`
	Name      string     `json:"name,omitempty"`
	Value     string     `json:"value,omitempty"`
	Authority Anchor     `json:"authority"`
	Via       string     `json:"via"`
	From      *time.Time `json:"from,omitempty"`
	Until     *time.Time `json:"until,omitempty"`
}

// ParseWhoAmI reads the answer of PathWhoAmI.
func ParseWhoAmI(body []byte) (WhoAmI, error) {
	var w WhoAmI
	if len(body) > MaxResponse {
		return WhoAmI{}, fmt.Errorf("parse who-am-i: %d bytes, at most %d are accepted", len(body), MaxResponse)
	}
	if err := decodeCanonical(body, &w); err != nil {
		return WhoAmI{}, fmt.Errorf("parse who-am-i: %w", err)
	}
	if _, err := ParseDecryptor(w.Decryptor); err != nil {
		return WhoAmI{}, fmt.Errorf("parse who-am-i: %w", err)
	}
	if w.Access == nil {
		return WhoAmI{}, errors.New("parse who-am-i: no access field")
	}
	for _, id := range w.Access {
		if _, err := ParseAccessID(string(id)); err != nil {
			return WhoAmI{}, fmt.Errorf("parse who-am-i: %w", err)
		}
	}
	return w, nil
}

// Encode returns the JSON.
func (w WhoAmI) Encode() ([]byte, error) {
	if w.Access == nil {
		w.Access = []AccessID{}
	}
	b, err := encodeCanonical(w)
	if err != nil {
		return nil, fmt.Errorf("encode who-am-i: %w", err)
	}
	return b, nil
}
