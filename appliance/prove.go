package appliance

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyrelease/krabox/appliance/release"
	"github.com/keyrelease/krabox/kra/label"
	tpm "github.com/keyrelease/krabox/tpm/wire"
)

// A prover answers challengers over a connection of its own: whoever needs the TPM for a leaf, the record or a key never waits in line
// behind challengers, but for the one whose turn it is.
type prover struct{ tpm *tpm.Client }

// Confirm has the TPM show what the box is.
func (p prover) Confirm(ctx context.Context, c label.Challenge, channel []byte) (label.Confirmations, error) {
	all, err := p.tpm.Confirm(ctx, c, channel)
	var refused tpm.Refused
	if errors.As(err, &refused) {
		return label.Confirmations{}, fmt.Errorf("%w: %s", release.ErrNoLabel, refused.Reason)
	}
	return all, err
}
