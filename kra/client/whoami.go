package client

import (
	"context"

	"github.com/keyrelease/krabox/kra"
)

// WhoAmI asks what the agent knows of the holder of Config.Certificate.
func (a *Agent) WhoAmI(ctx context.Context) (kra.WhoAmI, error) {
	raw, err := a.document(ctx, kra.PathWhoAmI, kra.MaxResponse)
	if err != nil {
		return kra.WhoAmI{}, err
	}
	w, err := kra.ParseWhoAmI(raw)
	if err != nil {
		return kra.WhoAmI{}, untrusted("%w", err)
	}
	return w, nil
}
