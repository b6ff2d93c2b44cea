package label

import (
	"crypto/sha256"
	"errors"
	"fmt"
)

// NonceSize is the size of a challenger's nonce, and of what binds a confirmation to a channel, in bytes.
const NonceSize = 32

// Exporter is the label of the keying material of a TLS 1.3 connection (RFC 8446 section 7.5) that a confirmation is bound to; its
// context is the nonce, its length NonceSize.
const Exporter = "EXPORTER-kra-challenge-v1"

// Limits of a challenge and its answer, in bytes.
const (
	MaxChallenge    = 1 << 10
	MaxConfirmation = 64 << 10
	maxCertificate  = 8 << 10
	maxChain        = 4 // certificates
	maxAttest       = 1 << 10
)

const confirmationContext = "kra/confirmation/v1"

// A Challenge asks a box to show, now, that it is what the label says.
type Challenge struct {
	Nonce []byte `json:"nonce"` // NonceSize bytes that were never used before
	Label ID     `json:"label"` // empty: every label that the box can be now

	// Instantiate starts the service of the label, where that is only potentially there. KeyRelease alone has one.
	Instantiate bool `json:"instantiate,omitempty"`
}

func (c Challenge) check() error {
	if len(c.Nonce) != NonceSize {
		return fmt.Errorf("challenge: nonce of %d bytes, want %d", len(c.Nonce), NonceSize)
	}
	if c.Instantiate && c.Label != KeyRelease {
		return fmt.Errorf("challenge: %q is no label of a service that starts on demand; %q is", c.Label, KeyRelease)
	}
	if c.Label == "" {
		return nil
	}
	_, err := ParseID(string(c.Label))
	return err
}

// Bytes is the one JSON form.
func (c Challenge) Bytes() []byte { return encode(c) }

// ParseChallenge reads the one JSON form.
func ParseChallenge(b []byte) (Challenge, error) {
	if len(b) > MaxChallenge {
		return Challenge{}, fmt.Errorf("parse challenge: more than %d bytes", MaxChallenge)
	}
	var c Challenge
	if err := decode(b, &c, func() error { return c.check() }); err != nil {
		return Challenge{}, fmt.Errorf("parse challenge: %w", err)
	}
	return c, nil
}

// A Statement is what a box confirms: this box is of this label, for this challenge on this channel and for no other. The label key
// signs SHA-256(Bytes); the quote's qualifying data is Qualifying.
type Statement struct {
	Context string `json:"context"` // "kra/confirmation/v1": never a certificate's or an advert's
	Domain  string `json:"domain"`
	Box     string `json:"box"`
	Label   ID     `json:"label"`
	Nonce   []byte `json:"nonce"`
	Channel []byte `json:"channel"` // keying material of the TLS connection, see Exporter
}

// Confirm is the statement that answers a challenge on a channel.
func (d Domain) Confirm(box string, l ID, nonce, channel []byte) (Statement, error) {
	s := Statement{confirmationContext, d.Name, box, l, nonce, channel}
	return s, s.check()
}

func (s Statement) check() error {
	switch {
	case s.Context != confirmationContext:
		return errors.New("confirmation: the statement is of another kind")
	case !hostName(s.Domain) || !namePattern.MatchString(s.Box) || !namePattern.MatchString(string(s.Label)):
		return errors.New("confirmation: a name is not one")
	case len(s.Nonce) != NonceSize || len(s.Channel) != NonceSize:
		return fmt.Errorf("confirmation: nonce and channel are of %d bytes", NonceSize)
	}
	return nil
}

// Bytes is the one JSON form.
func (s Statement) Bytes() []byte { return encode(s) }

// Qualifying is the qualifying data of the quote: SHA-256("kra/confirmation/v1", 0, statement). It is not what the label key signs.
func (s Statement) Qualifying() [32]byte {
	return sha256.Sum256(append([]byte(confirmationContext+"\x00"), s.Bytes()...))
}

// A Confirmation is a box's answer to a challenge. Certificates are DER.
type Confirmation struct {
	Statement Statement   `json:"statement"`
	Signature []byte      `json:"signature"` // of the label key: r and s of 32 bytes each
	Quote     Signed      `json:"quote"`     // of the approved registers, by the AK
	PCRs      PCRs        `json:"pcrs"`
	Value     SignedValue `json:"value"`
	Chain     [][]byte    `json:"chain"`     // label certificate first, without the root
	Platform  []byte      `json:"platform"`  // of the AK
	Authority []byte      `json:"authority"` // of K_label
}

func (c Confirmation) check() error {
	if err := errors.Join(c.Statement.check(), c.Value.Value.check()); err != nil {
		return err
	}
	if len(c.Chain) == 0 || len(c.Chain) > maxChain {
		return fmt.Errorf("confirmation: want 1 to %d label certificates", maxChain)
	}
	for _, der := range append([][]byte{c.Platform, c.Authority}, c.Chain...) {
		if len(der) == 0 || len(der) > maxCertificate {
			return fmt.Errorf("confirmation: a certificate is missing or over %d bytes", maxCertificate)
		}
	}
	if len(c.Quote.Attest) > maxAttest || len(c.Quote.Signature) > maxAttest {
		return fmt.Errorf("confirmation: a quote of more than %d bytes", maxAttest)
	}
	if c.PCRs == nil || !c.PCRs.exactly(approvedPCRs[:]) {
		return errors.New("confirmation: registers are not the approved ones")
	}
	return nil
}

// Confirmations is the answer to a challenge: one for each label that was asked for and that the box can be. There is at least one.
type Confirmations struct {
	Confirmations []Confirmation `json:"confirmations"`
}

// MaxConfirmations bounds the answer to a challenge.
const MaxConfirmations = 8

func (c Confirmations) check() error {
	if len(c.Confirmations) == 0 || len(c.Confirmations) > MaxConfirmations {
		return fmt.Errorf("want 1 to %d confirmations", MaxConfirmations)
	}
	for _, one := range c.Confirmations {
		if err := one.check(); err != nil {
			return err
		}
	}
	return nil
}

// Bytes is the one JSON form.
func (c Confirmations) Bytes() []byte { return encode(c) }

// ParseConfirmations reads the one JSON form. It proves nothing: Confirmation.Verify does.
func ParseConfirmations(b []byte) (Confirmations, error) {
	if len(b) > MaxConfirmation {
		return Confirmations{}, fmt.Errorf("parse confirmation: more than %d bytes", MaxConfirmation)
	}
	var c Confirmations
	if err := decode(b, &c, func() error { return c.check() }); err != nil {
		return Confirmations{}, fmt.Errorf("parse confirmation: %w", err)
	}
	return c, nil
}
