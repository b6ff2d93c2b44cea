package desk

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
)

// Trust says what the desk approves.
type Trust uint8

const (
	AsPredicted Trust = iota + 1 // the registers that the build predicted
	AsObserved                   // whatever the box reports: for a server without measured boot
)

// ObservedWarning is what a caller must tell who approves AsObserved.
const ObservedWarning = "approved as observed: nothing shows that these registers stand for the release.\n" +
	"On a machine without measured boot they prove nothing about its software."

// A Release is what is to be approved, and how.
type Release struct {
	Manifest
	Trust Trust
	// FirmwareAsSeen takes a machine's firmware as it reports it. Otherwise it must be on the domain's list.
	FirmwareAsSeen bool
}

// firmware are the registers that no build predicts: they are the machine's.
var firmware = []int{0, 2}

// ApproveFleet approves a release for every machine that like describes, each a request or a bundle of the domain: their
// firmware is the one approved. Without any, the enrolled boxes are taken.
func (d *Desk) ApproveFleet(r Release, like ...[]byte) ([]byte, error) {
	sets, err := d.fleet(r, like)
	if err != nil {
		return nil, err
	}
	b := label.Bundle{Domain: d.domain.Hash()}
	for _, values := range sets {
		if err := d.approve(&b, r, values); err != nil {
			return nil, err
		}
	}
	text, err := b.Sign(d.key)
	if err != nil {
		return nil, err
	}
	return text, d.note(actApprove, r.Description(), map[string]string{"epoch": fmt.Sprint(r.Epoch), "approvals": fmt.Sprint(len(b.Approvals)), "bundle": digest(text)})
}

// PreviewFleet says what ApproveFleet would do, line by line, and does nothing.
func (d *Desk) PreviewFleet(r Release, like ...[]byte) ([]string, error) {
	sets, err := d.fleet(r, like)
	if err != nil {
		return nil, err
	}
	lines := []string{fmt.Sprintf("release    %s, epoch %d", r.Description(), r.Epoch)}
	for _, v := range sets {
		lines = append(lines, fmt.Sprintf("to sign    2 approvals for machines with PCR 0 %s, PCR 2 %s", v[0].Short(), v[2].Short()))
	}
	return lines, nil
}

// fleet are the registers to approve, each set once.
func (d *Desk) fleet(r Release, like [][]byte) ([]label.PCRs, error) {
	if err := d.builtForUs(r.Manifest); err != nil {
		return nil, err
	}
	seen, err := d.machines(r, like)
	if err != nil {
		return nil, err
	}
	var out []label.PCRs
	for _, found := range seen {
		values, err := r.values(found)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(out, func(v label.PCRs) bool { return maps.Equal(v, values) }) {
			out = append(out, values)
		}
	}
	return out, nil
}

// builtForUs catches an image of another domain before it is approved in vain.
func (d *Desk) builtForUs(m Manifest) error {
	if h := m.Domain.SHA256; h != (label.Digest{}) && h != d.domain.Hash() {
		return fmt.Errorf("approve release: %s was built for domain %s, this is %q (%s)", m.Version, h.Short(), d.domain.Name, d.domain.Hash().Short())
	}
	return nil
}

// values are the registers to approve: predicted, the firmware's as found, and 12 and 13 zero, because a file dropped on
// the ESP shows only there.
func (r Release) values(found label.PCRs) (label.PCRs, error) {
	v := label.PCRs{}
	for _, i := range label.ApprovedPCRs() {
		v[i] = found[i]
	}
	delete(v, label.StagePCR)
	if r.Trust == AsObserved {
		return v, nil
	}
	maps.Copy(v, r.predicted())
	v[12], v[13] = label.Digest{}, label.Digest{}
	for _, i := range firmware {
		if _, ok := found[i]; !ok {
			return nil, fmt.Errorf("approve release: PCR %d of the machine is not known", i)
		}
	}
	return v, nil
}

// approve adds the two approvals of a release, for TPMs, and the label value that says the same to challengers.
func (d *Desk) approve(b *label.Bundle, r Release, values label.PCRs) (err error) {
	if b.Approvals, err = d.both(b.Approvals, r, values); err != nil {
		return err
	}
	v := label.Value{Domain: d.domain.Name, Label: label.KeyRelease, Version: r.Epoch, Release: r.Version, Commit: cmp.Or(r.Commit, "unknown"),
		PCRs: maps.Clone(values)}
	v.PCRs[label.StagePCR] = label.StageValue(label.Sign)
	if r.Trust == AsPredicted { // registers as they were found stand for no image
		v.Image = r.image()
	}
	signed, err := v.Sign(d.key)
	if err != nil {
		return fmt.Errorf("approve release: %w", err)
	}
	b.Values = append(b.Values, signed)
	return nil
}

// both adds the two approvals of a release: to open at stage open, to sign at stage running.
func (d *Desk) both(to []label.Approval, r Release, values label.PCRs) ([]label.Approval, error) {
	k := tpm.Desk{Domain: d.domain, By: label.ByLabel, Key: d.key}
	for _, kind := range []label.Kind{label.Seal, label.Sign} {
		a, err := k.Approve(label.KeyRelease, kind, tpm.Release{Version: r.Epoch, Description: r.Description(), PCRs: values})
		if err != nil {
			return nil, fmt.Errorf("approve release: %w", err)
		}
		to = append(to, a)
	}
	return to, nil
}

// compare holds a box's registers against a release before it is enrolled under it.
func (r Release) compare(found label.PCRs) error {
	if r.Trust == AsObserved {
		return nil
	}
	want := r.predicted()
	want[12], want[13] = label.Digest{}, label.Digest{}
	for _, i := range slices.Sorted(maps.Keys(want)) {
		if found[i] != want[i] {
			return fmt.Errorf("approve box: PCR %d is %s, but release %s has %s: the box runs something else, or another firmware set-up",
				i, found[i], r.Description(), want[i])
		}
	}
	return nil
}
