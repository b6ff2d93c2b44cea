package tpm

import (
	"crypto"
	"maps"

	"github.com/keyrelease/krabox/kra/label"
)

// A Release is a software state that the desk approves. The stage in label.StagePCR is set by the kind of approval.
type Release struct {
	Version     uint64 // the epoch it belongs to
	Description string
	PCRs        label.PCRs // 0, 2, 4, 7, 11, 12, 13; and label.StagePCR, if it is not what the kind of approval has
}

// A Desk is a domain with a key of it at hand: it makes approvals and needs no TPM.
type Desk struct {
	Domain label.Domain
	By     label.Signatory
	Key    crypto.Signer
}

// Approve makes the approval of a release for a kind, Seal or Sign.
func (k Desk) Approve(id label.ID, kind label.Kind, r Release) (label.Approval, error) {
	return k.approve(label.Approval{Label: id, Kind: kind, Version: r.Version, Description: r.Description, PCRs: r.staged(kind)})
}

// Attend makes the approval to sign as a label while an operator is present.
func (k Desk) Attend(id label.ID, by label.Operator, r Release) (label.Approval, error) {
	return k.approve(label.Approval{Label: id, Kind: label.Sign, Operator: by, Version: r.Version, Description: r.Description, PCRs: r.staged(label.Sign)})
}

// FirstEpoch makes the approval to write the epoch index for the first time.
func (k Desk) FirstEpoch(r Release) (label.Approval, error) {
	return k.approve(label.Approval{Label: label.KeyRelease, Kind: label.Epoch, Version: r.Version, Description: r.Description, PCRs: label.PCRs{}})
}

// Advance makes the approval to move the epoch forward to a release, while that release runs.
func (k Desk) Advance(r Release) (label.Approval, error) {
	return k.approve(label.Approval{Label: label.KeyRelease, Kind: label.Epoch, Version: r.Version, Description: r.Description, PCRs: r.staged(label.Epoch)})
}

func (r Release) staged(kind label.Kind) label.PCRs {
	v := label.PCRs{}
	maps.Copy(v, r.PCRs)
	if _, ok := v[label.StagePCR]; !ok {
		v[label.StagePCR] = label.StageValue(kind)
	}
	return v
}

func (k Desk) approve(a label.Approval) (label.Approval, error) {
	p := plan{k.Domain, a.Label}
	d, err := p.approvedPolicy(a)
	if err != nil {
		return label.Approval{}, err
	}
	a.By, a.Policy = k.By, d
	if err := a.Sign(k.Key); err != nil {
		return label.Approval{}, err
	}
	return a, p.check(a) // also that the key is the domain's
}
