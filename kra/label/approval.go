package label

import (
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// A Signatory says which domain key stands behind an approval.
type Signatory uint8

const (
	ByLabel    Signatory = iota + 1 // the label-signing key
	ByRecovery                      // the recovery key
)

var signatories = [...]string{ByLabel: "label", ByRecovery: "recovery"}

// String is the word of the signatory.
func (s Signatory) String() string {
	if s < ByLabel || int(s) >= len(signatories) {
		return "unset"
	}
	return signatories[s]
}

// MarshalText is the word of the signatory.
func (s Signatory) MarshalText() ([]byte, error) {
	if s.String() == "unset" {
		return nil, fmt.Errorf("encode signatory %d", uint8(s))
	}
	return []byte(s.String()), nil
}

// UnmarshalText reads the word of a signatory.
func (s *Signatory) UnmarshalText(b []byte) error {
	for i := ByLabel; int(i) < len(signatories); i++ {
		if signatories[i] == string(b) {
			*s = i
			return nil
		}
	}
	return fmt.Errorf("parse signatory %.20q", b)
}

// An Approval is a domain's word that a label may be used in one software state.
//
// Policy is the policy digest that the TPM must have reached, calculated from the other fields (package tpm does it):
//
//	seal, sign   PolicyNV(epoch <= Version), PolicyPCR(PCRs), and with an Operator PolicySecret(presence index) or PolicySigned(his key)
//	epoch        PolicyNvWritten(NO), PolicyCpHash(first write of Version)                        without PCRs
//	epoch        PolicyNV(epoch < Version), PolicyPCR(PCRs), PolicyCpHash(write of Version)       with PCRs
//
// Signature is r and s over SHA-256(Policy, Ref(Kind, Label)), as TPM2_PolicyAuthorize wants it. Label, Kind, By and
// Policy are therefore signed; Version, PCRs, Operator and Description are vouched for by the bundle, and all but the last by Policy.
type Approval struct {
	Label       ID        `json:"label"`
	Kind        Kind      `json:"kind"`
	By          Signatory `json:"by"`
	Version     uint64    `json:"version"`     // the epoch of the release
	Operator    Operator  `json:"operator"`    // who must be present; of sign only
	Description string    `json:"description"` // of the release, for people
	PCRs        PCRs      `json:"pcrs"`
	Policy      Digest    `json:"policy"`
	Signature   []byte    `json:"signature"`
}

// Sign signs the approval with the domain key that it names.
func (a *Approval) Sign(key crypto.Signer) error {
	sig, err := signDigest(key, a.signed())
	if err != nil {
		return fmt.Errorf("sign approval: %w", err)
	}
	a.Signature = sig
	return nil
}

func (a Approval) signed() [32]byte {
	ref := Ref(a.Kind, a.Label)
	return sha256.Sum256(append(a.Policy[:], ref[:]...))
}

// Signed is the digest under the signature.
func (a Approval) Signed() [32]byte { return a.signed() }

// Verify checks the form and the domain's signature; that Policy follows from the rest is checked where policies are
// calculated.
func (a Approval) Verify(d Domain) error {
	if err := a.check(); err != nil {
		return fmt.Errorf("verify approval: %w", err)
	}
	if !d.Key(a.By).Verify(a.signed(), a.Signature) {
		return fmt.Errorf("verify approval %q: not signed by the domain's %s key", a.Description, a.By)
	}
	return nil
}

func (a Approval) check() error {
	if _, err := ParseID(string(a.Label)); err != nil {
		return err
	}
	if err := a.Operator.check(); err != nil {
		return err
	}
	want := ApprovedPCRs()
	if a.Kind == Epoch && len(a.PCRs) == 0 {
		want = nil
	}
	switch {
	case !a.Kind.valid() || a.By.String() == "unset":
		return errors.New("kind or signatory is not set")
	case a.Version == 0:
		return errors.New("version is zero")
	case !printable(a.Description, MaxDescription):
		return fmt.Errorf("description is not 1 to %d printable bytes", MaxDescription)
	case a.PCRs == nil || !a.PCRs.exactly(want):
		return fmt.Errorf("registers are not those of a %s approval", a.Kind)
	case want != nil && !fitsStage(a.Kind, a.PCRs[StagePCR]):
		return fmt.Errorf("stage in PCR %d is not that of a %s approval", StagePCR, a.Kind)
	case a.Operator != NoOperator && a.Kind != Sign:
		return fmt.Errorf("no operator takes part in a %s approval", a.Kind)
	case a.Label != KeyRelease && a.Kind != Sign:
		return fmt.Errorf("only label %q has %s approvals", KeyRelease, a.Kind)
	case len(a.Signature) != signatureSize:
		return fmt.Errorf("signature of %d bytes, want %d", len(a.Signature), signatureSize)
	}
	return nil
}

// Advances says that the approval is to move the epoch forward, not to write it first.
func (a Approval) Advances() bool { return a.Kind == Epoch && len(a.PCRs) > 0 }

// Bytes is the one JSON form.
func (a Approval) Bytes() []byte { return encode(a) }

// ParseApproval reads the one JSON form; it does not check the signature.
func ParseApproval(b []byte) (Approval, error) {
	var a Approval
	if err := decode(b, &a, func() error { return a.check() }); err != nil {
		return Approval{}, fmt.Errorf("parse approval: %w", err)
	}
	return a, nil
}

// printable says that a text can go on a console: 1 to limit bytes, no control characters.
func printable(s string, limit int) bool {
	if s == "" || len(s) > limit || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
