package tpm

import (
	"context"
	"errors"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/tpm/wire"
)

// Bits of TPMA_STARTUP_CLEAR (TPM 2.0 part 2, 8.7): what hierarchies are enabled.
const (
	platformEnabled    = 1 << 0
	storageEnabled     = 1 << 1
	endorsementEnabled = 1 << 2
)

// Holdings says which secrets there are, each as the TPM itself says it: a blob counts if this TPM loads it, an index if it bears the
// domain's Name, an authorization if it is set. What has an escrow on the disk, the domain can have.
func (a *Agent) Holdings(ctx context.Context) (all []wire.Holding, err error) {
	leave, err := a.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	for _, part := range []func() ([]wire.Holding, error){a.seeds, a.keys, a.indexed, a.authorizations} {
		some, err := part()
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func (a *Agent) seeds() (all []wire.Holding, err error) {
	bits, err := a.device.property(tpm2.TPMPTStartupClear)
	if bits&storageEnabled != 0 {
		all = append(all, wire.Holding{Kind: wire.StorageSeed})
	}
	if bits&endorsementEnabled != 0 {
		all = append(all, wire.Holding{Kind: wire.EndorsementSeed})
	}
	return all, err
}

// keys are what hangs below the storage root key.
func (a *Agent) keys() (all []wire.Holding, err error) {
	if a.srk == nil {
		return nil, nil
	}
	of := map[string]wire.Holding{}
	files := []string{akFile}
	of[akFile] = wire.Holding{Kind: wire.AttestationKey}
	for _, l := range a.labels() {
		files = append(files, labelFile(l))
		of[labelFile(l)] = wire.Holding{Kind: wire.LabelKey, Label: l}
	}
	files = append(files, sealedFile)
	of[sealedFile] = wire.Holding{Kind: wire.StateSecret}
	for _, f := range files {
		_, b, err := a.folder.readBlob(f)
		if err != nil {
			continue // never made, or spoilt: a secret that nobody has
		}
		if _, err := b.public.Contents(); err != nil {
			continue
		}
		o, err := a.device.load(*a.srk, b)
		var rc tpm2.TPMRC
		switch {
		case errors.As(err, &rc): // another TPM's
			continue
		case err != nil:
			return nil, err
		}
		a.device.flush(o.handle)
		all = append(all, of[f])
	}
	return all, nil
}

func (a *Agent) indexed() (all []wire.Holding, err error) {
	half, err := a.device.condition(a.half())
	if err != nil {
		return nil, err
	}
	presence, err := a.device.condition(a.presence())
	if err != nil {
		return nil, err
	}
	if half == holding {
		all = append(all, wire.Holding{Kind: wire.StateHalf})
	}
	if presence == defined || presence == holding {
		all = append(all, wire.Holding{Kind: wire.PresencePhrase, Escrowed: a.escrows(presenceFile)})
	}
	return all, nil
}

// authorizations: the one of the platform hierarchy was set at the start (closePlatform).
func (a *Agent) authorizations() (all []wire.Holding, err error) {
	set, err := a.device.property(tpm2.TPMPTPermanent)
	if err != nil {
		return nil, err
	}
	if set&ownerAuthSet != 0 {
		all = append(all, wire.Holding{Kind: wire.OwnerAuth, Escrowed: a.escrows(ownerFile)})
	}
	if set&lockoutAuthSet != 0 {
		all = append(all, wire.Holding{Kind: wire.LockoutAuth, Escrowed: a.escrows(lockoutFile)})
	}
	bits, err := a.device.property(tpm2.TPMPTStartupClear)
	if bits&platformEnabled != 0 {
		all = append(all, wire.Holding{Kind: wire.PlatformAuth})
	}
	return all, err
}

func (a *Agent) escrows(file string) bool {
	b, err := a.folder.read(file)
	return err == nil && b != nil
}
