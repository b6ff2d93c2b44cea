package outbound

import (
	"context"
	"fmt"
	"net"
	"time"
)

// A Dialer asks the broker behind a socket for connections. The zero Dialer reaches nobody. It may be used by many goroutines.
type Dialer struct{ path string }

// At returns a dialer of the broker's unix socket. It asks nobody yet.
func At(path string) Dialer { return Dialer{path} }

// DialContext connects to HOST:PORT over tcp or udp. The connection ends with the broker, one over udp also soon and after few
// datagrams: a Write is one, and so is a Read. ctx ends the attempt, not the connection. The error says in the broker's words why there is none: the target is not outside the box, the name is not known,
// nobody answers, or there are too many.
func (d Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := d.dial(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return c, nil
}

func (d Dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	t, err := parseTarget(network, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", d.path)
	if err != nil {
		return nil, err
	}
	late := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	_, err = c.Write(t.append(nil))
	if err == nil {
		err = readAnswer(c)
	}
	if !late() && ctx.Err() != nil {
		err = ctx.Err() // its deadline may be set at any moment
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	if t.over == overUDP {
		return datagrams{c}, nil
	}
	return c, nil
}
