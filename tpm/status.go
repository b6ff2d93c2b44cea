package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// Status says what can be said without any secret.
func (a *Agent) Status(ctx context.Context) (wire.Status, error) {
	leave, err := a.enter(ctx)
	if err != nil {
		return wire.Status{}, err
	}
	defer leave()
	pcrs, err := a.device.readPCRs()
	if err != nil {
		return wire.Status{}, err
	}
	s := wire.Status{PCRs: pcrs, Stage: stageOf(pcrs[label.StagePCR])}
	if a.srk != nil {
		s.SRK = label.Name(a.srk.name.Buffer)
	}
	if a.enrolment != nil {
		s.Box = &a.enrolment.Box
	}
	for _, p := range a.approvals {
		s.Versions = append(s.Versions, wire.Version{Kind: p.Kind.String(), By: p.By.String(), Version: p.Version,
			Description: p.Description, Matches: len(mismatches(p, pcrs, stageAside)) == 0})
	}
	if s.State, s.Reason, err = a.state(); err != nil {
		return wire.Status{}, err
	}
	if s.Epoch, err = a.epochValue(); err != nil {
		return wire.Status{}, err
	}
	if s.State == wire.Enrolled {
		s.Unapproved = a.unapproved(pcrs, s.Epoch)
	}
	if s.Resets, err = a.device.resets(); err != nil {
		return wire.Status{}, err
	}
	s.Firmware, err = a.device.firmware()
	return s, err
}

// unapproved says why this would not open the state, whatever the stage; "" if it would. It guards nothing: the TPM decides.
func (a *Agent) unapproved(found label.PCRs, epoch uint64) string {
	found = maps.Clone(found)
	found[label.StagePCR] = label.StageValue(label.Seal)
	_, err := choose(a.approvals, a.label, label.Seal, found, epoch, nil)
	if err != nil {
		return err.Error()
	}
	return ""
}

// state compares what the TPM holds with what the disk holds:
//
//	record      state file   is
//	absent      no           factory
//	absent      yes          inconsistent: the TPM was cleared, or the disk is from another box
//	unwritten   either       factory: an enrolment that was cut is begun again
//	written     yes          enrolled
//	written     no           inconsistent: the box was zeroized, or the disk was emptied or exchanged
//	foreign     either       inconsistent
func (a *Agent) state() (wire.State, string, error) {
	if a.fault != "" {
		return wire.Inconsistent, a.fault, nil
	}
	var record condition
	for _, x := range a.indexes() {
		c, err := a.device.condition(x)
		switch {
		case err != nil:
			return 0, "", err
		case c == foreign:
			return wire.Inconsistent, fmt.Sprintf("the %s (%#x) bears another Name than this domain's: "+
				"the TPM was taken into service by another domain, or tampered with", x.what, uint32(x.handle)), nil
		case x.handle == recordHandle:
			record = c
		}
	}
	_, err := os.Stat(filepath.Join(string(a.folder), sealedFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, "", fmt.Errorf("look for sealed state: %w", err)
	}
	sealed := err == nil
	switch {
	case record == defined, record == absent && !sealed:
		return wire.Factory, "", nil
	case record == absent:
		return wire.Inconsistent, "state without record: the disk holds sealed state, but this TPM holds no record of it: " +
			"the disk is from another box, or the TPM was cleared", nil
	case !sealed && a.folder.has(zeroizedFile):
		return wire.Inconsistent, zeroized, nil
	case !sealed:
		return wire.Inconsistent, "record without state: the TPM holds the record of an enrolled box, but the disk holds no sealed state; put the box's own disk back, or clear the TPM in the firmware's set-up and enrol it anew", nil
	}
	return wire.Enrolled, "", nil
}

// epochValue is 0 where the epoch was never written.
func (a *Agent) epochValue() (uint64, error) {
	c, err := a.device.condition(a.epoch())
	if err != nil || c != holding || a.srk == nil {
		return 0, err
	}
	b, err := a.device.readPlain(*a.srk, a.epoch())
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

// readPCRs reads registers 0 to label.MaxPCR. It is not authenticated: it serves messages and choices, never a proof.
func (d *Device) readPCRs() (label.PCRs, error) {
	v := label.PCRs{}
	for first := 0; first <= label.MaxPCR; first += 8 {
		var want []int
		for i := first; i < first+8; i++ {
			want = append(want, i)
		}
		r, err := tpm2.PCRRead{PCRSelectionIn: selection(want)}.Execute(d)
		if err != nil {
			return nil, fmt.Errorf("read PCRs: %w", err)
		}
		if len(r.PCRValues.Digests) != len(want) {
			return nil, errors.New("read PCRs: the TPM has no SHA-256 bank")
		}
		for i, p := range want {
			if len(r.PCRValues.Digests[i].Buffer) != 32 {
				return nil, errors.New("read PCRs: not SHA-256 values")
			}
			v[p] = label.Digest(r.PCRValues.Digests[i].Buffer)
		}
	}
	return v, nil
}

// resets is how often the TPM was reset since it was last cleared (TPM 2.0 part 2, TPMS_CLOCK_INFO).
func (d *Device) resets() (uint32, error) {
	r, err := tpm2.ReadClock{}.Execute(d)
	if err != nil {
		return 0, fmt.Errorf("read clock: %w", err)
	}
	return r.CurrentTime.ClockInfo.ResetCount, nil
}

// firmware is the TPM's maker and version.
func (d *Device) firmware() (string, error) {
	var v [3]uint32
	for i, p := range []tpm2.TPMPT{tpm2.TPMPTManufacturer, tpm2.TPMPTFirmwareVersion1, tpm2.TPMPTFirmwareVersion2} {
		var err error
		if v[i], err = d.property(p); err != nil {
			return "", err
		}
	}
	maker := strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, string(binary.BigEndian.AppendUint32(nil, v[0])))
	return fmt.Sprintf("%s %d.%d.%d.%d", maker, v[1]>>16, v[1]&0xffff, v[2]>>16, v[2]&0xffff), nil
}

// Words of stages that are no label.Stage.
const (
	stageNone    = "none"
	stageUnknown = "unknown"
)

// stageOf names a value of label.StagePCR.
func stageOf(v label.Digest) string {
	known := map[label.Digest]string{
		{}:                                  stageNone,
		label.At(label.Open):                label.Open.String(),
		label.At(label.Open, label.Running): label.Running.String(),
		label.At(label.Maintenance):         label.Maintenance.String(),
		label.At(label.Locked):              label.Locked.String(),
		label.At(label.Open, label.Locked):  label.Locked.String(),
		label.At(label.Open, label.Running, label.Locked): label.Locked.String(),
		label.At(label.Maintenance, label.Locked):         label.Locked.String(),
	}
	if w, ok := known[v]; ok {
		return w
	}
	return stageUnknown
}
