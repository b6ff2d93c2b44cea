package wire

import (
	"context"
	"errors"

	"github.com/keyrelease/krabox/kra/label"
)

// Installed is what a bundle brought. With NeedsStore the agent creates its store under StoreKey, for this officer and
// these names, and completes the enrolment by WriteRecord.
type Installed struct {
	Box        label.Box
	Officer    label.Officer
	NeedsStore bool
	Approvals  int    // how many are new
	Epoch      string // what became of an approval to move the epoch; empty: none was there

	key func() []byte
}

// NewInstalled holds a store key; a nil key means that no store is needed.
func NewInstalled(b label.Box, o label.Officer, approvals int, key []byte) Installed {
	i := Installed{Box: b, Officer: o, Approvals: approvals}
	if key != nil {
		i.NeedsStore, i.key = true, func() []byte { return key }
	}
	return i
}

// StoreKey is the key of the store to create.
func (i Installed) StoreKey() ([32]byte, error) {
	if i.key == nil || len(i.key()) != 32 {
		return [32]byte{}, errors.New("use store key: no store is to be created")
	}
	return [32]byte(i.key()), nil
}

// EnrolInstall gives tpmd a bundle of the domain. For a factory box it fixes the epoch, the half and the state secret;
// approvals alone are added and count from the next boot. It may be repeated after a cut at any step.
func (c *Client) EnrolInstall(ctx context.Context, bundle []byte) (Installed, error) {
	a, err := c.do(ctx, request{Op: opInstall, Bundle: bundle})
	switch {
	case err != nil:
		return Installed{}, err
	case a.Install == nil:
		return Installed{}, errors.New("enrol-install: empty answer")
	}
	in := a.Install
	if in.NeedsStore && len(in.StoreKey) != 32 {
		return Installed{}, errors.New("enrol-install: no store key")
	}
	if !in.NeedsStore {
		in.StoreKey = nil
	}
	i := NewInstalled(in.Box, in.Officer, in.Added, in.StoreKey)
	i.Epoch = in.Epoch
	return i, nil
}
