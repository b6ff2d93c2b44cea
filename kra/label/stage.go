package label

import (
	"crypto/sha256"
	"fmt"
)

// StagePCR is the register that the stages are extended into.
const StagePCR = 14

const stageContext = "kra/stage/v1"

// A Stage is a one-way step of a boot, extended into StagePCR:
//
//	(zero) --> open --> running          an enrolled box, and a factory box that has nothing to open
//	(zero) --> maintenance               unseals nothing, signs nothing
//	  any  --> locked                    after any refusal
type Stage uint8

const (
	Open        Stage = iota + 1 // the state may be opened
	Running                      // the label key may sign; nothing unseals again
	Maintenance                  // neither
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

// StageValue is the value of StagePCR that approvals of a kind require: open for seal, open then running for sign.
func StageValue(k Kind) Digest {
	if k == Seal {
		return At(Open)
	}
	return At(Open, Running)
}
