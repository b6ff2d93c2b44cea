package tpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// Unseal opens the state secret and the half, at stage open of an approved release, and reads the NV record. The TPM
// refuses in any other state; a refusal is a wire.Refused that names the cause.
func (a *Agent) Unseal(ctx context.Context) (wire.Opened, label.Record, error) {
	leave, err := a.enter(ctx)
	if err != nil {
		return wire.Opened{}, label.Record{}, err
	}
	defer leave()
	srk, err := a.enrolled()
	if err != nil {
		return wire.Opened{}, label.Record{}, err
	}
	record, err := a.readRecord(srk)
	if err != nil {
		return wire.Opened{}, label.Record{}, refuse(err)
	}
	approval, err := a.approvalNow(label.KeyRelease, label.Seal)
	if err != nil {
		return wire.Opened{}, label.Record{}, err
	}
	o, err := a.open(srk, approval)
	return o, record, refuse(err)
}

// WriteHalf puts another half of the state's key into the TPM, which takes it in a running approved release only.
func (a *Agent) WriteHalf(ctx context.Context, half []byte) error {
	if len(half) != wire.SecretSize {
		return wire.Refused{Reason: fmt.Sprintf("a half has %d bytes, not %d", wire.SecretSize, len(half))}
	}
	leave, err := a.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	srk, err := a.enrolled()
	if err != nil {
		return err
	}
	if err := a.writeHalf(srk, half); err != nil {
		return fmt.Errorf("write half of the state key: %w", refuse(err))
	}
	return nil
}

// enrolled is ready, and that record and state are there.
func (a *Agent) enrolled() (object, error) {
	switch s, reason, err := a.state(); {
	case err != nil:
		return object{}, err
	case s == wire.Factory:
		return object{}, wire.Refused{Reason: "the box is not enrolled: there is nothing to open"}
	case s != wire.Enrolled:
		return object{}, wire.Refused{Reason: reason}
	}
	return a.ready()
}

func (a *Agent) open(srk object, approval granted) (wire.Opened, error) {
	_, b, err := a.folder.readBlob(sealedFile)
	if err != nil {
		return wire.Opened{}, wire.Refused{Reason: err.Error()}
	}
	sealed, err := a.device.unseal(srk, a.under(label.Seal), approval, b)
	if err != nil {
		return wire.Opened{}, fmt.Errorf("state secret: %w", err)
	}
	half, err := a.device.readHalf(srk, a.plan, approval)
	if err != nil {
		clear(sealed)
		return wire.Opened{}, fmt.Errorf("half of the state key: %w", err)
	}
	o, err := wire.NewOpened(sealed, half)
	if err != nil {
		return wire.Opened{}, wire.Refused{Reason: err.Error()}
	}
	return o, nil
}

// approvalNow chooses by what is in the registers now, and by which operators are present.
func (a *Agent) approvalNow(l label.ID, kind label.Kind) (granted, error) {
	pcrs, err := a.device.readPCRs()
	if err != nil {
		return granted{}, err
	}
	epoch, err := a.epochValue()
	if err != nil {
		return granted{}, err
	}
	w := a.words[l]
	p, err := choose(a.approvals, l, kind, pcrs, epoch, func(o label.Operator) bool { return w != nil && w.by == o })
	return granted{p, w}, err
}

// refuse turns a decision of the TPM into a Refused with a name for it; what merely broke stays as it is.
func refuse(err error) error {
	var rc tpm2.TPMRC
	var already wire.Refused
	if err == nil || errors.As(err, &already) || !errors.As(err, &rc) {
		return err
	}
	why := ""
	for code, text := range map[tpm2.TPMRC]string{
		tpm2.TPMRCIntegrity:       "RC_INTEGRITY: the blob was altered, or made by another TPM",
		tpm2.TPMRCPolicyFail:      "RC_POLICY_FAIL: the TPM is not in an approved state",
		tpm2.TPMRCPolicy:          "RC_POLICY: the epoch forbids this release",
		tpm2.TPMRCValue:           "RC_VALUE: the TPM is not in the approved state",
		tpm2.TPMRCSignature:       "RC_SIGNATURE: the approval is not signed by the domain",
		tpm2.TPMRCBadAuth:         "RC_BAD_AUTH: the object in the TPM is not the one expected",
		tpm2.TPMRCAuthFail:        "RC_AUTH_FAIL: the object in the TPM is not the one expected",
		tpm2.TPMRCExpired:         "RC_EXPIRED: the operator's presence has ended",
		tpm2.TPMRCTicket:          "RC_TICKET: the operator's word is of another boot of the TPM, or for another label",
		tpm2.TPMRCNVUninitialized: "RC_NV_UNINITIALIZED: an index was never written",
	} {
		if errors.Is(rc, code) {
			why = text
		}
	}
	if why == "" {
		return err
	}
	return wire.Refused{Reason: fmt.Sprintf("%v (%s)", err, why)}
}
