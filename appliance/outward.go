package appliance

import (
	"context"
	"net"
	"time"

	"github.com/keyrelease/krabox/boot/outbound"
)

// dial opens a connection to HOST:PORT over network tcp. All that krad fetches or asks outside goes through one.
type dial = func(ctx context.Context, network, address string) (net.Conn, error)

// outwardWithin is how long a host may take to connect; outboundd has a limit of its own.
const outwardWithin = 10 * time.Second

// outward is the way out: in the image outboundd, for krad has no network there; on an ordinary host the host's. There is no going
// from one to the other.
func (o options) outward() dial {
	if o.outbound == "" {
		return (&net.Dialer{Timeout: outwardWithin}).DialContext
	}
	return outbound.At(o.outbound).DialContext
}
