// Package label is the words of trust: labels, stages, approvals, the domain's public part, enrolment and the NV record.
//
// It is pure: it knows no TPM, no file and no clock. Everything here that is signed, hashed or sealed has exactly one
// byte form; the parsers refuse every other. STATEMENTS.md gives the formats.
package label

import (
	"crypto/sha256"
	"fmt"
	"regexp"
)

// An ID is the name of a label: a service in a software state that the domain approved.
type ID string

var (
	namePattern   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	domainPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)
)

// ParseID checks the name of a label: lower-case letters, digits and '-', at most 63 of them.
func ParseID(s string) (ID, error) {
	if !namePattern.MatchString(s) {
		return "", fmt.Errorf("parse label: want [a-z0-9][a-z0-9-]{0,62}, got %.80q", s)
	}
	return ID(s), nil
}

// A Kind says what an approval may be used for.
type Kind uint8

const (
	Seal  Kind = iota + 1 // open the state secret and the half, at stage open
	Sign                  // use label keys and write NV, at stage running
	Epoch                 // write the epoch index: for the first time, or forward
)

var kinds = [...]string{Seal: "seal", Sign: "sign", Epoch: "epoch"}

// String is the word of the kind, as in its context string.
func (k Kind) String() string {
	if !k.valid() {
		return "unset"
	}
	return kinds[k]
}

func (k Kind) valid() bool { return k >= Seal && int(k) < len(kinds) }

// MarshalText is the word of the kind; the zero kind has none.
func (k Kind) MarshalText() ([]byte, error) {
	if !k.valid() {
		return nil, fmt.Errorf("encode approval kind %d", uint8(k))
	}
	return []byte(kinds[k]), nil
}

// UnmarshalText reads the word of a kind.
func (k *Kind) UnmarshalText(b []byte) error {
	for i := Seal; i.valid(); i++ {
		if kinds[i] == string(b) {
			*k = i
			return nil
		}
	}
	return fmt.Errorf("parse approval kind %.20q", b)
}

// Ref is the policy reference of a label: SHA-256 of "kra/seal/v1" (or sign, epoch), a zero byte and the label.
// It is hashed because a TPM takes no reference longer than a digest.
func Ref(kind Kind, l ID) [32]byte {
	return sha256.Sum256([]byte("kra/" + kind.String() + "/v1\x00" + string(l)))
}
