package label

import (
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
)

const valueContext = "kra/label-value/v1"

// A Value is what a label stands for in one release: the registers of a box that runs it. K_label signs it for whoever believes the
// domain's root and has a quote; approvals say the same to TPMs.
type Value struct {
	Domain  string `json:"domain"`
	Label   ID     `json:"label"`
	Version uint64 `json:"version"` // the epoch of the release
	Release string `json:"release"` // its name, such as v0.1.0
	Commit  string `json:"commit"`  // of the source tree that it was built from
	Image   Digest `json:"image"`   // SHA-256 of the UKI; zero on a server that boots no image of ours
	PCRs    PCRs   `json:"pcrs"`    // of ApprovedPCRs, at a stage of the label
}

// A SignedValue is a value with K_label's signature, r and s of 32 bytes each, over SHA-256("kra/label-value/v1", 0, value).
type SignedValue struct {
	Value     Value  `json:"value"`
	Signature []byte `json:"signature"`
}

// word is what a release or a commit is called.
var word = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+_~:-]{0,127}$`)

func (v Value) check() error {
	if _, err := ParseID(string(v.Label)); err != nil {
		return err
	}
	switch {
	case !hostName(v.Domain):
		return errors.New("label value: domain is not a host name")
	case v.Version == 0:
		return errors.New("label value: version is zero")
	case !word.MatchString(v.Release) || !word.MatchString(v.Commit):
		return errors.New("label value: release or commit is not a word")
	case v.PCRs == nil || !v.PCRs.exactly(approvedPCRs[:]):
		return errors.New("label value: registers are not the approved ones")
	case !fitsStage(Sign, v.PCRs[StagePCR]):
		return fmt.Errorf("label value: nothing signs at the stage in PCR %d", StagePCR)
	}
	return nil
}

func (v Value) signed() [32]byte {
	return sha256.Sum256(append([]byte(valueContext+"\x00"), encode(v)...))
}

// Sign has K_label sign the value.
func (v Value) Sign(key crypto.Signer) (SignedValue, error) {
	if err := v.check(); err != nil {
		return SignedValue{}, fmt.Errorf("sign %w", err)
	}
	sig, err := signDigest(key, v.signed())
	if err != nil {
		return SignedValue{}, fmt.Errorf("sign label value: %w", err)
	}
	return SignedValue{v, sig}, nil
}

// Verify checks the form and the domain's signature.
func (s SignedValue) Verify(d Domain) error {
	if err := s.Value.check(); err != nil {
		return fmt.Errorf("verify %w", err)
	}
	if s.Value.Domain != d.Name || !d.Label.Verify(s.Value.signed(), s.Signature) {
		return fmt.Errorf("verify label value: not signed by the label key of domain %q", d.Name)
	}
	return nil
}

// Bytes is the one JSON form.
func (s SignedValue) Bytes() []byte { return encode(s) }

// ParseValue reads the one JSON form; it does not check the signature.
func ParseValue(b []byte) (SignedValue, error) {
	var s SignedValue
	if err := decode(b, &s, func() error { return s.Value.check() }); err != nil {
		return SignedValue{}, fmt.Errorf("parse label value: %w", err)
	}
	return s, nil
}
