package label

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// An Asked is what a challenger knows: whom it believes, what it sent, and the channel on which the answer came.
type Asked struct {
	Roots   *x509.CertPool // the domain's root
	Now     time.Time
	Nonce   []byte
	Channel []byte // its own end's keying material, see Exporter

	MinEpoch uint64 // releases of a lower epoch are not believed; zero: any
}

// Confirmed is a verified confirmation: the box, at the other end of the channel, was in the state of Value when it answered. Only
// Confirmation.Verify makes one.
type Confirmed struct {
	box   string
	value Value
}

// Box is the box's name.
func (c Confirmed) Box() string { return c.box }

// Value is what the domain says of the state that was quoted: label, release, registers. It is what runs, not what is claimed.
func (c Confirmed) Value() Value { return c.value }

// Verify checks a confirmation: that it answers this challenge on this channel, each certificate up to the root, that label and
// platform certificate name one box of one domain, the label key's signature, the AK's quote, and that the registers quoted are those
// that the domain signed for the label. The error says which of them does not hold.
func (c Confirmation) Verify(a Asked) (Confirmed, error) {
	v, err := c.verify(a)
	if err != nil {
		return Confirmed{}, fmt.Errorf("verify confirmation: %w", err)
	}
	return v, nil
}

func (c Confirmation) verify(a Asked) (Confirmed, error) {
	if err := c.check(); err != nil {
		return Confirmed{}, err
	}
	s := c.Statement
	switch {
	case len(a.Nonce) != NonceSize || !bytes.Equal(s.Nonce, a.Nonce):
		return Confirmed{}, errors.New("it answers another challenge")
	case len(a.Channel) != NonceSize || !bytes.Equal(s.Channel, a.Channel):
		return Confirmed{}, errors.New("it was made for another channel: somebody relays it")
	}
	d := Domain{Name: s.Domain}
	if err := c.oneRoot(a); err != nil {
		return Confirmed{}, err
	}
	for _, step := range []func(Asked, Domain) error{c.checkLabel, c.checkQuote, c.checkValue} {
		if err := step(a, d); err != nil {
			return Confirmed{}, err
		}
	}
	if v := c.Value.Value.Version; v < a.MinEpoch {
		return Confirmed{}, fmt.Errorf("%w: it is of epoch %d, and at least %d is asked for", ErrOldRelease, v, a.MinEpoch)
	}
	return Confirmed{s.Box, c.Value.Value}, nil
}

// oneRoot: all three paths end in the same root, or one domain could speak for another.
func (c Confirmation) oneRoot(a Asked) error {
	var one *x509.Certificate
	for _, of := range []struct {
		what string
		ders [][]byte
	}{{"label", c.Chain}, {"platform", [][]byte{c.Platform}}, {"authority", [][]byte{c.Authority}}} {
		_, root, err := a.path(of.ders)
		if err != nil {
			return fmt.Errorf("%s certificate: %w", of.what, err)
		}
		if one != nil && !one.Equal(root) {
			return errors.New("its certificates come from different roots")
		}
		one = root
	}
	return nil
}

// checkLabel: the label key that the root certified for this label of this box signed the statement.
func (c Confirmation) checkLabel(a Asked, d Domain) error {
	s := c.Statement
	cert, _, err := a.path(c.Chain)
	if err != nil {
		return fmt.Errorf("label certificate: %w", err)
	}
	if uri := d.LabelURI(s.Label, s.Box); !cert.IsCA || !cert.MaxPathLenZero || len(cert.URIs) != 1 || cert.URIs[0].String() != uri {
		return fmt.Errorf("label certificate: it is not one for %s", uri)
	}
	pub, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return errors.New("label certificate: not an ECDSA key")
	}
	key, err := NewKey(pub)
	if err != nil {
		return fmt.Errorf("label certificate: %w", err)
	}
	if !key.Verify(sha256.Sum256(s.Bytes()), c.Signature) {
		return errors.New("statement: not signed by the label key")
	}
	return nil
}

// checkQuote: the AK that the root certified for this box quotes the registers, for this statement.
func (c Confirmation) checkQuote(a Asked, d Domain) error {
	_, root, err := a.path([][]byte{c.Platform})
	if err != nil {
		return fmt.Errorf("platform certificate: %w", err)
	}
	ak, _, err := ReadPlatform(root, d.Name, c.Statement.Box, c.Platform)
	if err != nil {
		return err
	}
	return quoted(c.Quote, ak, c.Statement.Qualifying(), c.PCRs)
}

// checkValue: the authority that the root certified says that these registers are this label's.
func (c Confirmation) checkValue(a Asked, d Domain) error {
	_, root, err := a.path([][]byte{c.Authority})
	if err != nil {
		return fmt.Errorf("authority certificate: %w", err)
	}
	authority, _, err := ReadAuthority(root, d.Name, c.Authority)
	if err != nil {
		return err
	}
	d.Label = authority
	if err := c.Value.Verify(d); err != nil {
		return err
	}
	v := c.Value.Value
	if v.Label != c.Statement.Label {
		return errors.New("label value: it is of another label")
	}
	for _, i := range approvedPCRs {
		if v.PCRs[i] != c.PCRs[i] {
			return fmt.Errorf("PCR %d is %s, but release %s has %s: the box runs something else", i, c.PCRs[i].Short(), v.Release, v.PCRs[i].Short())
		}
	}
	return nil
}

// path verifies certificates up to the root, now, and gives the first and the root.
func (a Asked) path(ders [][]byte) (first, root *x509.Certificate, err error) {
	if a.Roots == nil {
		return nil, nil, errors.New("no root to believe it by")
	}
	between := x509.NewCertPool()
	for i, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, err
		}
		if i == 0 {
			first = c
			continue
		}
		between.AddCert(c)
	}
	paths, err := first.Verify(x509.VerifyOptions{Roots: a.Roots, Intermediates: between, CurrentTime: a.Now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return nil, nil, err
	}
	return first, paths[0][len(paths[0])-1], nil
}
