package label

import (
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

const definitionContext = "kra/label-definition/v1"

// Labels that every domain has. Boxes have keys for all of them.
const (
	KeyRelease      ID = "key-release" // the key release agent: who certifies its keys
	Root            ID = "root"        // minimum requirements are met, whatever service runs
	InMaintenance   ID = "maintenance" // nothing is open, and no service runs
	OperatorPresent ID = "attended"    // as key-release, and an operator is there
)

// MaxLabels bounds the labels of one platform.
const MaxLabels = 16

// A Part says on which side of a service the platforms of a label stand. It is in their certificates.
type Part uint8

const (
	Server Part = iota + 1 // certificate for serverAuth
	Client                 // for clientAuth
	Peer                   // two certificates of one key, one of each
)

var parts = [...]string{Server: "server", Client: "client", Peer: "peer"}

func (p Part) valid() bool { return p >= Server && int(p) < len(parts) }

// String is the word of the part.
func (p Part) String() string {
	if !p.valid() {
		return "unset"
	}
	return parts[p]
}

// ParsePart reads the word of a part.
func ParsePart(w string) (Part, error) {
	for p := Server; p.valid(); p++ {
		if parts[p] == w {
			return p, nil
		}
	}
	return 0, fmt.Errorf("parse part %.20q: want server, client or peer", w)
}

// MarshalText is the word of the part; the zero part has none.
func (p Part) MarshalText() ([]byte, error) {
	if !p.valid() {
		return nil, fmt.Errorf("encode part %d", uint8(p))
	}
	return []byte(parts[p]), nil
}

// UnmarshalText reads the word of a part.
func (p *Part) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePart(string(b))
	return err
}

// A Definition says what a label of the domain is for. Its value, the software states, is in approvals and label values.
type Definition struct {
	Domain      string  `json:"domain"`
	Label       ID      `json:"label"`
	Part        Part    `json:"part"`
	Stages      []Stage `json:"stages"`      // of a box, at which the label may sign; none: another platform, whose stage register is approved as found
	Operator    bool    `json:"operator"`    // it signs only while an operator is present
	Description string  `json:"description"` // one line, for people
}

// A SignedDefinition is a definition with K_label's signature, r and s of 32 bytes each, over
// SHA-256("kra/label-definition/v1", 0, definition).
type SignedDefinition struct {
	Definition Definition `json:"definition"`
	Signature  []byte     `json:"signature"`
}

// Builtin are the definitions that need no signature: every domain has them, unchanged. Their Domain is empty.
func Builtin() []Definition {
	return []Definition{
		{Label: KeyRelease, Part: Server, Stages: []Stage{Running}, Description: "key release agent: releases keys by the rules in the box"},
		{Label: Root, Part: Server, Stages: []Stage{Running, Maintenance}, Description: "minimum requirements are met; says nothing of a service"},
		{Label: InMaintenance, Part: Server, Stages: []Stage{Maintenance}, Description: "under maintenance: nothing is open, no service runs"},
		{Label: OperatorPresent, Part: Server, Stages: []Stage{Running}, Operator: true, Description: "key release agent with an operator present"},
	}
}

// IsBuiltin says that every domain has the label.
func IsBuiltin(l ID) bool {
	return slices.ContainsFunc(Builtin(), func(d Definition) bool { return d.Label == l })
}

// OfBox says that the label is one of boxes, not of decryptors' platforms.
func (d Definition) OfBox() bool { return len(d.Stages) > 0 }

func (d Definition) check() error {
	if _, err := ParseID(string(d.Label)); err != nil {
		return err
	}
	switch {
	case IsBuiltin(d.Label):
		return fmt.Errorf("label %q is every domain's, and cannot be defined", d.Label)
	case !hostName(d.Domain):
		return errors.New("label definition: domain is not a host name")
	case !d.Part.valid():
		return errors.New("label definition: part is not set")
	case d.Stages == nil || len(d.Stages) > 2:
		return errors.New("label definition: want at most two stages")
	case !printable(d.Description, MaxDescription):
		return fmt.Errorf("label definition: description is not 1 to %d printable bytes", MaxDescription)
	case d.OfBox() && d.Part != Server:
		return errors.New("label definition: boxes are servers")
	case d.Operator && !d.OfBox():
		return errors.New("label definition: only boxes have operators")
	}
	for i, s := range d.Stages {
		if (s != Running && s != Maintenance) || slices.Contains(d.Stages[:i], s) {
			return errors.New("label definition: stages are running, maintenance or both")
		}
	}
	return nil
}

// Admits says whether an approval to sign, of this label, keeps to the definition: its stage, and that an operator is wanted.
func (d Definition) Admits(a Approval) error {
	switch {
	case a.Label != d.Label:
		return fmt.Errorf("approval of label %q: not of label %q", a.Label, d.Label)
	case d.Operator && a.Operator == NoOperator:
		return fmt.Errorf("approval of label %q: it wants no operator, the label does", d.Label)
	case !d.OfBox() || slices.ContainsFunc(d.Stages, func(s Stage) bool { return s.Value() == a.PCRs[StagePCR] }):
		return nil
	}
	return fmt.Errorf("approval of label %q: its stage in PCR %d is not one of the label's", d.Label, StagePCR)
}

func (d Definition) signed() [32]byte {
	return sha256.Sum256(append([]byte(definitionContext+"\x00"), encode(d)...))
}

// Sign has K_label sign the definition.
func (d Definition) Sign(key crypto.Signer) (SignedDefinition, error) {
	if err := d.check(); err != nil {
		return SignedDefinition{}, fmt.Errorf("sign label definition: %w", err)
	}
	sig, err := signDigest(key, d.signed())
	if err != nil {
		return SignedDefinition{}, fmt.Errorf("sign label definition: %w", err)
	}
	return SignedDefinition{d, sig}, nil
}

// Verify checks the form and the domain's signature.
func (s SignedDefinition) Verify(d Domain) error {
	if err := s.Definition.check(); err != nil {
		return fmt.Errorf("verify label definition: %w", err)
	}
	if s.Definition.Domain != d.Name || !d.Label.Verify(s.Definition.signed(), s.Signature) {
		return fmt.Errorf("verify label definition: not signed by the label key of domain %q", d.Name)
	}
	return nil
}

// Bytes is the one JSON form.
func (s SignedDefinition) Bytes() []byte { return encode(s) }

// ParseDefinition reads the one JSON form; it does not check the signature.
func ParseDefinition(b []byte) (SignedDefinition, error) {
	var s SignedDefinition
	if err := decode(b, &s, func() error { return s.Definition.check() }); err != nil {
		return SignedDefinition{}, fmt.Errorf("parse label definition: %w", err)
	}
	return s, nil
}
