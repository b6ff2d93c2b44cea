package tpm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/keyrelease/krabox/tpm/wire"
)

// zeroized is why nothing opens any more.
const zeroized = "it was zeroized: nothing that it held opens again. To take it into service anew, clear the TPM in the firmware's set-up, start it, " +
	"and enrol it; have the domain revoke what it was"

// Zeroize ends that anything opens here. While the state is open it overwrites the half of the state's key that is in the TPM: from then on no
// copy of the disk, however old, opens with this TPM. Then it removes what lies on the disk, but for the escrow, which whoever clears
// the TPM by its lockoutAuth wants. Where the TPM was cleared, nothing opens in any case, and it removes everything.
//
// The TPM takes the new half in an approved state only (kra/label/STATEMENTS.md). So a box that is locked is zeroized by clearing its TPM.
func (a *Agent) Zeroize(ctx context.Context) error {
	leave, err := a.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	state, _, err := a.state()
	if err != nil {
		return err
	}
	switch {
	case state == wire.Factory:
		return wire.Refused{Reason: "the box is not enrolled: it holds nothing"}
	case a.folder.has(zeroizedFile) && !a.folder.has(sealedFile):
		return wire.Refused{Reason: zeroized}
	}
	switch record, err := a.device.condition(a.record()); {
	case err != nil:
		return err
	case record == absent:
		return a.folder.empty()
	}
	srk, err := a.ready()
	if err != nil {
		return fmt.Errorf("%w; what is to be zeroized here ends when the TPM is cleared in the firmware's set-up", err)
	}
	half := make([]byte, wire.SecretSize)
	rand.Read(half)
	defer clear(half)
	if err := a.writeHalf(srk, half); err != nil {
		return fmt.Errorf("overwrite half of the state key: %w; where the box is locked, clear the TPM in the firmware's set-up", refuse(err))
	}
	a.fault = zeroized // and what still runs gets no signature
	if err := a.folder.write(zeroizedFile, []byte("zeroized\n")); err != nil {
		return err
	}
	return a.folder.empty(zeroizedFile, ownerFile, lockoutFile, presenceFile)
}

// empty removes all but what is named, the sealed state first.
func (f folder) empty(but ...string) error {
	if err := f.remove(sealedFile); err != nil {
		return err
	}
	all, err := os.ReadDir(string(f))
	if err != nil {
		return fmt.Errorf("remove state files: %w", err)
	}
	for _, e := range all {
		if slices.Contains(but, e.Name()) {
			continue
		}
		path := filepath.Join(string(f), e.Name())
		if e.IsDir() {
			err = errors.Join(removeIn(path), syncFolder(path))
		} else {
			err = os.Remove(path)
		}
		if err != nil {
			return fmt.Errorf("remove state files: %w", err)
		}
	}
	return syncFolder(string(f))
}

// removeIn removes what is in a folder, which stays: tpmd writes there again.
func removeIn(dir string) error {
	all, err := os.ReadDir(dir)
	for _, e := range all {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}
