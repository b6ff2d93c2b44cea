package tpm

import (
	"fmt"
	"strings"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// stage says whether a comparison looks at the stage too.
type stageCheck uint8

const (
	stageToo stageCheck = iota + 1
	stageAside
)

// mismatches lists the registers, ascending, that are not what an approval says.
func mismatches(a label.Approval, found label.PCRs, s stageCheck) []int {
	var out []int
	for _, i := range label.ApprovedPCRs() {
		if i == label.StagePCR && s == stageAside {
			continue
		}
		if a.PCRs[i] != found[i] {
			out = append(out, i)
		}
	}
	return out
}

// choose finds the approval of a label and kind under which the TPM should allow what runs, newest first. It guards nothing: the
// TPM decides. Where there is none, it says why in a Refused. there says which operators have given their word; nil: all.
func choose(all []label.Approval, l label.ID, kind label.Kind, found label.PCRs, epoch uint64, there func(label.Operator) bool) (label.Approval, error) {
	var of []label.Approval
	for _, a := range all {
		if a.Kind == kind && a.Label == l {
			of = append(of, a)
		}
	}
	if len(of) == 0 {
		return label.Approval{}, wire.Refused{Reason: fmt.Sprintf("the box holds no %s approval of label %q of its domain", kind, l)}
	}
	alone := false
	for _, a := range of {
		if a.Version < epoch || len(mismatches(a, found, stageToo)) > 0 {
			continue
		}
		if a.Operator == label.NoOperator || there == nil || there(a.Operator) {
			return a, nil
		}
		alone = true
	}
	if alone {
		return label.Approval{}, wire.Refused{Reason: fmt.Sprintf("label %q wants an operator, and none is present", l)}
	}
	return label.Approval{}, wire.Refused{Reason: diagnose(of, found, epoch)}
}

// diagnose explains by the approval that comes closest: fewest registers differ, newest first.
func diagnose(of []label.Approval, found label.PCRs, epoch uint64) string {
	best := of[0]
	for _, a := range of[1:] {
		if len(mismatches(a, found, stageAside)) < len(mismatches(best, found, stageAside)) {
			best = a
		}
	}
	wrong := mismatches(best, found, stageToo)
	if len(wrong) == 0 {
		return fmt.Sprintf("approval %q is for version %d, but the domain has moved the epoch to %d: this release may no longer run",
			best.Description, best.Version, epoch)
	}
	var parts []string
	for _, i := range wrong {
		parts = append(parts, explain(i, best, found[i]))
	}
	text := strings.Join(parts, "; ")
	if len(of) > 1 {
		text += fmt.Sprintf(" (the closest of %d approvals)", len(of))
	}
	return text
}

// measured says what each approved register stands for.
var measured = map[int]string{
	0: "firmware", 2: "option ROMs", 4: "boot loader", 7: "Secure Boot", 11: "kernel, initramfs and command line",
	12: "credentials and overrides on the ESP", 13: "system extensions", label.StagePCR: "stage",
}

func explain(pcr int, a label.Approval, found label.Digest) string {
	if pcr == label.StagePCR {
		return fmt.Sprintf("PCR %d (stage): expected stage %q by approval %q, found stage %q", pcr, stageOf(a.PCRs[pcr]), a.Description, stageOf(found))
	}
	return fmt.Sprintf("PCR %d (%s): expected %s by approval %q (version %d), found %s",
		pcr, measured[pcr], a.PCRs[pcr].Short(), a.Description, a.Version, found.Short())
}
