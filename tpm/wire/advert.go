package wire

import (
	"context"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// Advertise has tpmd say of every label that the platform can be now that it could be, reached at these addresses, for a time of at
// most label.MaxAdvertLife. In no approved state it is a Refused.
func (c *Client) Advertise(ctx context.Context, addresses []string, life time.Duration) ([]label.SignedAdvert, error) {
	a, err := c.do(ctx, request{Op: opAdvertise, Addresses: addresses, Life: life})
	if err != nil {
		return nil, err
	}
	var out []label.SignedAdvert
	for _, b := range a.Adverts {
		s, err := label.ParseAdvert(b)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// Retract has tpmd take back what the platform has advertised of a label.
func (c *Client) Retract(ctx context.Context, l label.ID) (label.SignedRetraction, error) {
	a, err := c.do(ctx, request{Op: opRetract, Label: l})
	if err != nil {
		return label.SignedRetraction{}, err
	}
	return label.ParseRetraction(a.Retracted)
}
