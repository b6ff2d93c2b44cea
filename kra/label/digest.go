package label

import (
	"encoding/hex"
	"fmt"
	"slices"
)

// A Digest is a SHA-256 value; its text is lower-case hex.
type Digest [32]byte

// String is lower-case hex.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short is the first eight bytes in hex, for a line on a console.
func (d Digest) Short() string { return hex.EncodeToString(d[:8]) }

// MarshalText is lower-case hex.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 64 hex digits.
func (d *Digest) UnmarshalText(b []byte) error { return unhex(d[:], b) }

// A Name is a TPM Name under SHA-256: 000b and the digest of the public area.
type Name [34]byte

// String is lower-case hex.
func (n Name) String() string { return hex.EncodeToString(n[:]) }

// Short is the start of the digest in hex, for a line on a console.
func (n Name) Short() string { return hex.EncodeToString(n[2:10]) }

// MarshalText is lower-case hex.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads 68 hex digits.
func (n *Name) UnmarshalText(b []byte) error { return unhex(n[:], b) }

func unhex(to, text []byte) error {
	if hex.DecodedLen(len(text)) != len(to) {
		return fmt.Errorf("parse hex: %d digits, want %d", len(text), hex.EncodedLen(len(to)))
	}
	if _, err := hex.Decode(to, text); err != nil {
		return fmt.Errorf("parse hex: %w", err)
	}
	return nil
}

// ApprovedPCRs are the registers in every approval of kind seal and sign.
var approvedPCRs = [...]int{0, 2, 4, 7, 11, 12, 13, StagePCR}

// ApprovedPCRs lists the registers in every approval of kind seal and sign, ascending.
func ApprovedPCRs() []int { return slices.Clone(approvedPCRs[:]) }

// MaxPCR is the highest register that is reported: above are the resettable ones.
const MaxPCR = 15

// PCRs are values of registers in the SHA-256 bank.
type PCRs map[int]Digest

// exactly says whether the registers are those and no others.
func (p PCRs) exactly(want []int) bool {
	for _, i := range want {
		if _, ok := p[i]; !ok {
			return false
		}
	}
	return len(p) == len(want)
}
