package wire

import (
	"fmt"

	"github.com/keyrelease/krabox/kra/label"
)

// A State says whether the box was taken into service.
type State uint8

const (
	Factory      State = iota + 1 // no record written: nothing to open
	Enrolled                      // record and state are there
	Inconsistent                  // one without the other, or an index under another Name
)

var states = [...]string{Factory: "factory", Enrolled: "enrolled", Inconsistent: "inconsistent"}

// String is the word of the state.
func (s State) String() string {
	if s < Factory || int(s) >= len(states) {
		return "unset"
	}
	return states[s]
}

// MarshalText is the word of the state.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word of a state.
func (s *State) UnmarshalText(b []byte) error {
	for i := Factory; int(i) < len(states); i++ {
		if states[i] == string(b) {
			*s = i
			return nil
		}
	}
	return fmt.Errorf("parse state %.20q", b)
}

// Status is what the TPM side of the box can say without any secret.
type Status struct {
	State  State      `json:"state"`
	Reason string     `json:"reason,omitempty"` // of Inconsistent
	Stage  string     `json:"stage"`            // of this boot: "none", "open", "running", …, "unknown"
	PCRs   label.PCRs `json:"pcrs"`
	// Unapproved is why nothing that the domain approved for opening the state is what was measured, the stage aside. Empty: something
	// is, or there is no state.
	Unapproved string     `json:"unapproved,omitempty"`
	Epoch      uint64     `json:"epoch"` // 0: not written
	Versions   []Version  `json:"versions"`
	Box        *label.Box `json:"box,omitempty"` // from the enrolment bundle
	SRK        label.Name `json:"srk"`           // of this TPM; zero before the first enrolment request
	Firmware   string     `json:"firmware"`      // maker and version of the TPM
	Resets     uint32     `json:"resets"`        // of the TPM since it was last cleared
}

// A Version is an approval that the box holds.
type Version struct {
	Kind        string `json:"kind"` // "seal" or "sign"
	By          string `json:"by"`
	Version     uint64 `json:"version"`
	Description string `json:"description"`
	Matches     bool   `json:"matches"` // what runs is what it approves, the stage aside
}

// Usage says what a key-release key does.
type Usage string

const (
	Agreement    Usage = "agreement"    // P-256, P-384
	Encipherment Usage = "encipherment" // RSA
)
