package label

import (
	"crypto/sha256"
	"fmt"
	"slices"
)

// StagePCR is the register that the stages are extended into.
const StagePCR = 14

const stageContext = "kra/stage/v1"

// A Stage is a one-way step of a boot, extended into StagePCR:
//
//	(zero) --> open --> running          an enrolled box, and a factory box that has nothing to open
//	(zero) --> maintenance               unseals nothing; signs as root and maintenance only
//	  any  --> locked                    after any refusal
type Stage uint8

const (
	Open        Stage = iota + 1 // the state may be opened
	Running                      // the label key may sign; nothing unseals again
	Maintenance                  // nothing is open; of the label keys, root and maintenance may sign
	Locked                       // neither, after a refusal
)

var stages = [...]string{Open: "open", Running: "running", Maintenance: "maintenance", Locked: "locked"}

func (s Stage) valid() bool { return s >= Open && int(s) < len(stages) }

// String is the word of the stage.
func (s Stage) String() string {
	if !s.valid() {
		return "unset"
	}
	return stages[s]
}

// ParseStage reads the word of a stage.
func ParseStage(w string) (Stage, error) {
	for s := Open; s.valid(); s++ {
		if stages[s] == w {
			return s, nil
		}
	}
	return 0, fmt.Errorf("parse stage %.20q", w)
}

// Event is the 32-byte digest extended for the stage: SHA-256 of "kra/stage/v1", a zero byte and the word.
func (s Stage) Event() []byte {
	d := sha256.Sum256([]byte(stageContext + "\x00" + s.String()))
	return d[:]
}

// At is the value of StagePCR after the stages, in order, from zero.
func At(stages ...Stage) Digest {
	var v Digest
	for _, s := range stages {
		v = sha256.Sum256(append(v[:], s.Event()...))
	}
	return v
}

// Value is the value of StagePCR when a boot is at the stage and was refused nothing.
func (s Stage) Value() Digest {
	if s == Running {
		return At(Open, Running)
	}
	return At(s)
}

// MarshalText is the word of the stage; the zero stage has none.
func (s Stage) MarshalText() ([]byte, error) {
	if !s.valid() {
		return nil, fmt.Errorf("encode stage %d", uint8(s))
	}
	return []byte(stages[s]), nil
}

// UnmarshalText reads the word of a stage.
func (s *Stage) UnmarshalText(b []byte) (err error) {
	*s, err = ParseStage(string(b))
	return err
}

// StageValue is the value of StagePCR that the agent's approvals of a kind require: open for seal, open then running for the others.
func StageValue(k Kind) Digest {
	if k == Seal {
		return Open.Value()
	}
	return Running.Value()
}

// locked are the values of StagePCR after a refusal, from wherever it came.
var locked = [...]Digest{At(Locked), At(Open, Locked), At(Open, Running, Locked), At(Maintenance, Locked)}

// fitsStage says whether an approval of a kind may have this value in StagePCR: what opens does so at open only, and what signs
// does so neither there, or it could be done twice in a boot, nor after a refusal.
func fitsStage(k Kind, v Digest) bool {
	switch k {
	case Seal:
		return v == Open.Value()
	case Epoch:
		return v == Running.Value()
	}
	return v != Open.Value() && !slices.Contains(locked[:], v)
}
