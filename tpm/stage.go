package tpm

import (
	"context"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// Extend enters a stage. Which one the boot is in is read from the TPM, so that a restarted tpmd extends nothing twice:
// entering the stage that the boot is in does nothing. Locked can be entered from anywhere.
func (a *Agent) Extend(ctx context.Context, to label.Stage) error {
	leave, err := a.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	pcrs, err := a.device.readPCRs()
	if err != nil {
		return err
	}
	now := stageOf(pcrs[label.StagePCR])
	way, ok := path(now, to)
	if !ok {
		return wire.Refused{Reason: fmt.Sprintf("cannot go from stage %q to %q", now, to)}
	}
	for _, s := range way {
		if err := a.device.extend(label.StagePCR, s.Event()); err != nil {
			return err
		}
	}
	return nil
}

// path is what is extended to get from a stage to another; running without open before it extends both, so that a
// factory box ends in the value that approvals name.
func path(now string, to label.Stage) ([]label.Stage, bool) {
	switch {
	case now == to.String():
		return nil, true
	case to == label.Locked:
		return []label.Stage{label.Locked}, true
	case now == stageNone && to == label.Running:
		return []label.Stage{label.Open, label.Running}, true
	case now == stageNone && (to == label.Open || to == label.Maintenance), now == label.Open.String() && to == label.Running:
		return []label.Stage{to}, true
	}
	return nil, false
}

func (d *Device) extend(pcr int, digest []byte) error {
	_, err := tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest}}}}.Execute(d)
	if err != nil {
		return fmt.Errorf("extend PCR %d: %w", pcr, err)
	}
	return nil
}
