package label

import (
	"crypto/sha256"
	"errors"
	"fmt"
)

// PlatformExporter is Exporter where a box challenges a platform: what the one end was asked to confirm never serves as the other's answer.
const PlatformExporter = "EXPORTER-kra-platform-v1"

const shownContext = "kra/shown/v1"

// MaxShowing bounds a Showing, in bytes.
const MaxShowing = 64 << 10

// A Showing is what a platform sends to a box on its connection. The zero Showing asks for a nonce; the next answers it, by what the label
// key signed for this nonce and this channel.
type Showing struct {
	Confirmation   *Confirmation   `json:"confirmation,omitempty"`
	Interpretation *Interpretation `json:"interpretation,omitempty"`
}

// Asks says that it is for a nonce only.
func (s Showing) Asks() bool { return s.Confirmation == nil && s.Interpretation == nil }

func (s Showing) check() error {
	if s.Confirmation != nil {
		if err := s.Confirmation.check(); err != nil {
			return err
		}
	}
	if s.Interpretation != nil {
		return s.Interpretation.check()
	}
	return nil
}

// Bytes is the one JSON form.
func (s Showing) Bytes() []byte { return encode(s) }

// Digest names what was shown: SHA-256("kra/shown/v1", 0, Bytes). Receipts and what is sealed name it.
func (s Showing) Digest() Digest {
	return sha256.Sum256(append([]byte(shownContext+"\x00"), s.Bytes()...))
}

// ParseShowing reads the one JSON form. It proves nothing.
func ParseShowing(b []byte) (Showing, error) {
	if len(b) > MaxShowing {
		return Showing{}, fmt.Errorf("parse showing: more than %d bytes", MaxShowing)
	}
	var s Showing
	if err := decode(b, &s, func() error { return s.check() }); err != nil {
		return Showing{}, fmt.Errorf("parse showing: %w", err)
	}
	return s, nil
}

// A Shown is a box's answer to a showing: a nonce, or what it took note of.
type Shown struct {
	Nonce   []byte  `json:"nonce,omitempty"`
	Seconds int     `json:"seconds,omitempty"` // that the nonce serves
	Shown   *Digest `json:"shown,omitempty"`   // digest of the showing
}

func (s Shown) check() error {
	if s.Shown == nil && (len(s.Nonce) != NonceSize || s.Seconds <= 0) || s.Shown != nil && (s.Nonce != nil || s.Seconds != 0) {
		return errors.New("neither a nonce nor a digest")
	}
	return nil
}

// Bytes is the one JSON form.
func (s Shown) Bytes() []byte { return encode(s) }

// ParseShown reads the one JSON form.
func ParseShown(b []byte) (Shown, error) {
	if len(b) > MaxChallenge {
		return Shown{}, fmt.Errorf("parse answer to showing: more than %d bytes", MaxChallenge)
	}
	var s Shown
	if err := decode(b, &s, func() error { return s.check() }); err != nil {
		return Shown{}, fmt.Errorf("parse answer to showing: %w", err)
	}
	return s, nil
}
