package desk

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

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
	"On a machine without measured boot they prove nothing about its software.\n" +
	"The approvals count on every box of the domain that has these registers, not only on this one."

// A Release is what is to be approved, and how.
type Release struct {
	Manifest
	Trust Trust
	// FirmwareAsSeen takes a machine's firmware as it reports it. Otherwise it must be on the domain's list.
	FirmwareAsSeen bool
	// Labels are those of boxes to approve it for; empty: all.
	Labels []label.ID
	// Seen are the fingerprints, read at consoles, of requests that no maker and no enrolment vouches for.
	Seen []string
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
	labels, err := d.chosen(r.Labels)
	if err != nil {
		return nil, err
	}
	b, err := d.newBundle()
	if err != nil {
		return nil, err
	}
	for _, values := range sets {
		if err := d.approve(&b, d.byLabel(), r, labels, values); err != nil {
			return nil, err
		}
	}
	text, err := b.Sign(d.key)
	if err != nil {
		return nil, err
	}
	return text, d.note(actApprove, r.Description(), map[string]string{"epoch": fmt.Sprint(r.Epoch), "approvals": fmt.Sprint(len(b.Approvals)),
		"labels": labelNames(labels), "bundle": digest(text)})
}

// Advance approves that boxes move their epoch to a release: each does so once it runs it, and from then on older releases
// neither open nor sign there. For whom is said as in ApproveFleet.
func (d *Desk) Advance(r Release, like ...[]byte) ([]byte, error) {
	sets, err := d.fleet(r, like)
	if err != nil {
		return nil, err
	}
	b, err := d.newBundle()
	if err != nil {
		return nil, err
	}
	for _, values := range sets {
		a, err := d.byLabel().Advance(tpm.Release{Version: r.Epoch, Description: r.Description(), PCRs: values})
		if err != nil {
			return nil, fmt.Errorf("advance epoch: %w", err)
		}
		b.Approvals = append(b.Approvals, a)
	}
	text, err := b.Sign(d.key)
	if err != nil {
		return nil, err
	}
	return text, d.note(actAdvance, r.Description(), map[string]string{"epoch": fmt.Sprint(r.Epoch), "approvals": fmt.Sprint(len(b.Approvals)), "bundle": digest(text)})
}

// PreviewAdvance says what Advance would do, line by line, and does nothing.
func (d *Desk) PreviewAdvance(r Release, like ...[]byte) ([]string, error) {
	sets, err := d.fleet(r, like)
	if err != nil {
		return nil, err
	}
	lines := []string{fmt.Sprintf("epoch      %d, once release %s runs; older ones neither open nor sign from then on", r.Epoch, r.Description())}
	for _, v := range sets {
		lines = append(lines, "to sign    1 approval to move the epoch, for machines with")
		lines = append(lines, registers(v)...)
	}
	return lines, nil
}

// newBundle is an empty one with the domain's definitions, under the next number.
func (d *Desk) newBundle() (label.Bundle, error) {
	all, _, err := d.Journal()
	if err != nil {
		return label.Bundle{}, err
	}
	b := label.Bundle{Domain: d.domain.Hash(), Sequence: uint64(len(all)) + 1}
	b.Labels, err = d.definitions()
	return b, err
}

// PreviewFleet says what ApproveFleet would do, line by line, and does nothing.
func (d *Desk) PreviewFleet(r Release, like ...[]byte) ([]string, error) {
	sets, err := d.fleet(r, like)
	if err != nil {
		return nil, err
	}
	labels, err := d.chosen(r.Labels)
	if err != nil {
		return nil, err
	}
	lines := []string{fmt.Sprintf("release    %s, epoch %d", r.Description(), r.Epoch), "labels     " + labelNames(labels)}
	for _, v := range sets {
		n, err := d.count(labels)
		if err != nil {
			return nil, err
		}
		lines = append(lines, fmt.Sprintf("to sign    %d approvals for machines with", n))
		lines = append(lines, registers(v)...)
	}
	return lines, nil
}

// registers lists what will be approved; the stage depends on the label.
func registers(v label.PCRs) []string {
	var out []string
	for _, i := range label.ApprovedPCRs() {
		if i != label.StagePCR {
			out = append(out, fmt.Sprintf("           PCR %-2d   %s", i, v[i]))
		}
	}
	return out
}

// fleet are the registers to approve, each set once.
func (d *Desk) fleet(r Release, like [][]byte) ([]label.PCRs, error) {
	if err := d.releasable(r); err != nil {
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
		delete(values, label.StagePCR)
		if !slices.ContainsFunc(out, func(v label.PCRs) bool { return maps.Equal(v, values) }) {
			out = append(out, values)
		}
	}
	return out, nil
}

// releasable refuses a release of which too little is known, or that was built for another domain, and approvals as observed in a
// domain whose boxes measure: a box that stops measuring could fall under them.
func (d *Desk) releasable(r Release) error {
	if err := d.builtForUs(r.Manifest); err != nil {
		return err
	}
	if r.Trust != AsObserved {
		return r.complete()
	}
	measuring, err := d.measuring()
	if err != nil || len(measuring) == 0 {
		return err
	}
	return fmt.Errorf("approve release: this domain's %s was enrolled by predicted registers, and approvals as observed count on every box; keep servers without measured boot in a domain of their own",
		strings.Join(measuring, ", "))
}

// measuring are the enrolled boxes that the domain knows by predicted registers.
func (d *Desk) measuring() ([]string, error) {
	enrolled, err := d.books()
	if err != nil {
		return nil, err
	}
	all, _, err := d.Journal()
	if err != nil {
		return nil, err
	}
	of := map[string]string{}
	for _, e := range all {
		if e.Act == actEnrol || e.Act == actRekey {
			of[e.Subject] = e.Facts[factFirmware]
		}
	}
	var out []string
	for _, e := range enrolled {
		if _, box := e.Of(label.KeyRelease); box && of[e.Box.Name] != notMeasured {
			out = append(out, e.Box.Name)
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
// the ESP shows only there. The stage is as found.
func (r Release) values(found label.PCRs) (label.PCRs, error) {
	v := label.PCRs{}
	for _, i := range label.ApprovedPCRs() {
		v[i] = found[i]
	}
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

// approve adds the approvals of a release under labels, for TPMs, and the label values that say the same to challengers: one for each
// stage at which a label signs. A label of other platforms than boxes has no stages: its register is approved as found.
func (d *Desk) approve(b *label.Bundle, k tpm.Desk, r Release, labels []label.Definition, found label.PCRs) error {
	for _, l := range labels {
		if l.Label == label.KeyRelease {
			v := maps.Clone(found)
			delete(v, label.StagePCR)
			a, err := k.Approve(l.Label, label.Seal, tpm.Release{Version: r.Epoch, Description: r.Description(), PCRs: v})
			if err != nil {
				return fmt.Errorf("approve release: %w", err)
			}
			b.Approvals = append(b.Approvals, a)
		}
		stages := []label.Digest{found[label.StagePCR]}
		if l.OfBox() {
			stages = nil
		}
		for _, s := range l.Stages {
			stages = append(stages, s.Value())
		}
		for _, stage := range stages {
			v := maps.Clone(found)
			v[label.StagePCR] = stage
			if err := d.approveAt(b, k, r, l, v); err != nil {
				return fmt.Errorf("approve release: %w", err)
			}
		}
	}
	return nil
}

// byLabel approves by the label key.
func (d *Desk) byLabel() tpm.Desk { return tpm.Desk{Domain: d.domain, By: label.ByLabel, Key: d.key} }

// approveAt adds what there is of a label in one state: an approval for each operator who may attend it, and the value.
func (d *Desk) approveAt(b *label.Bundle, k tpm.Desk, r Release, l label.Definition, registers label.PCRs) error {
	who, err := d.attending(l)
	if err != nil {
		return err
	}
	for _, o := range who {
		a, err := k.Attend(l.Label, o, tpm.Release{Version: r.Epoch, Description: r.Description(), PCRs: registers})
		if err != nil {
			return err
		}
		b.Approvals = append(b.Approvals, a)
	}
	if k.By != label.ByLabel { // values are the label key's alone
		return nil
	}
	v := label.Value{Domain: d.domain.Name, Label: l.Label, Version: r.Epoch, Release: r.Version, Commit: cmp.Or(r.Commit, "unknown"), PCRs: registers}
	if r.Trust == AsPredicted { // registers as they were found stand for no image
		v.Image = r.image()
	}
	signed, err := v.Sign(d.key)
	if err != nil {
		return err
	}
	b.Values = append(b.Values, signed)
	return nil
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
