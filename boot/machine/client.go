package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// A Client is krad's end of the connection. It may be used by several goroutines; they take turns.
type Client struct {
	errand sync.Mutex // held for all requests about one disk

	mu   sync.Mutex // guards all below
	conn net.Conn
	in   *bufio.Reader
	dead error // set for good by the first failure of the connection
}

// NewClient returns a client on the descriptor that krad inherits under the name "machine".
func NewClient(conn net.Conn) *Client {
	return &Client{conn: conn, in: bufio.NewReaderSize(conn, MaxLine)}
}

// Reboot asks for a restart of the machine. When it returns nil the restart has begun: all daemons get SIGTERM.
func (c *Client) Reboot(ctx context.Context) error { return c.do(ctx, request{Do: verbReboot}) }

// Maintenance asks for a restart into maintenance, once: that boot opens nothing and releases nothing. When it returns nil the restart
// has begun.
func (c *Client) Maintenance(ctx context.Context) error {
	return c.do(ctx, request{Do: verbMaintenance})
}

// PowerOff asks to stop the machine and turn it off. When it returns nil the stop has begun.
func (c *Client) PowerOff(ctx context.Context) error { return c.do(ctx, request{Do: verbPowerOff}) }

// Lock gives up the secrets until the next boot: PCR 14 is extended with the locked stage, process 1 forgets the opened secrets,
// stops hsmd, and starts krad again in locked mode with the reason. The caller is killed soon after nil is returned.
func (c *Client) Lock(ctx context.Context, reason string) error {
	return c.do(ctx, request{Do: verbLock, Reason: reason})
}

// SetClock sets the system clock and the clock chip to t, in whole seconds. Whether t is to be trusted is krad's to know.
func (c *Client) SetClock(ctx context.Context, t time.Time) error {
	return c.do(ctx, request{Do: verbClock, Unix: t.Unix()})
}

// AdjustClock has the system clock gain by, or lose it, slowly: 0.5 ms in a second at most, so that time never goes back. An
// adjustment of less than a microsecond is none.
func (c *Client) AdjustClock(ctx context.Context, by time.Duration) error {
	if by.Microseconds() == 0 {
		return nil
	}
	return c.do(ctx, request{Do: verbAdjust, Micro: by.Microseconds()})
}

// SetNetwork puts n on the port, at once and until the next boot. With DHCP it returns when the client runs, not when it has a
// lease: Status says what came of it.
func (c *Client) SetNetwork(ctx context.Context, n Network) error {
	return c.do(ctx, request{Do: verbNetwork, Network: &n})
}

// Status asks how the machine is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	r, err := c.ask(ctx, request{Do: verbStatus})
	if err != nil {
		return Status{}, err
	}
	if r.Status == nil {
		return Status{}, errors.New("machine status: answer without a status")
	}
	return *r.Status, nil
}

// Programs has each program of the image read and held to the image's list, one after the other, so that other requests get their turn.
// It returns how many there are, and in words what is not as listed, what runs and is not listed among it. There are none on an ordinary host.
func (c *Client) Programs(ctx context.Context) (n int, faults []string, err error) {
	for at := 0; at == 0 || at < n; at++ {
		r, err := c.ask(ctx, request{Do: verbProgram, At: at})
		switch {
		case err != nil:
			return 0, nil, err
		case r.Program == nil || r.Program.Of > MaxPrograms || at > 0 && r.Program.Of != n:
			return 0, nil, errors.New("machine program: an answer to something else")
		case r.Program.Fault != "":
			faults = append(faults, r.Program.Fault)
		}
		n = r.Program.Of
	}
	if n == 0 {
		return 0, nil, nil
	}
	s, err := c.Status(ctx)
	if err != nil {
		return 0, nil, err
	}
	for _, x := range s.Strangers {
		faults = append(faults, "process "+x+" is not in the list")
	}
	return n, faults, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

func (c *Client) do(ctx context.Context, r request) error {
	_, err := c.ask(ctx, r)
	return err
}

// ask sends one request and waits for its answer. A connection on which that failed is not used again: an answer that comes late
// would be taken for the next one's.
func (c *Client) ask(ctx context.Context, r request) (reply, error) {
	if err := r.check(); err != nil {
		return reply{}, fmt.Errorf("machine %s: %w", r.Do, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := errors.Join(c.dead, ctx.Err()); err != nil {
		return reply{}, fmt.Errorf("machine %s: %w", r.Do, err)
	}
	var a reply
	if err := c.exchange(ctx, r, &a); err != nil {
		c.dead = err
		c.conn.Close()
		return reply{}, fmt.Errorf("machine %s: %w", r.Do, err)
	}
	if a.Error != "" {
		return reply{}, fmt.Errorf("machine %s: %w", r.Do, &Refused{a.Error})
	}
	return a, nil
}

// exchange goes on when who asked goes away, as an officer does with ^C: the connection must not end by that. A deadline ends it.
func (c *Client) exchange(ctx context.Context, r request, a *reply) error {
	end, _ := ctx.Deadline()
	if err := c.conn.SetDeadline(end); err != nil {
		return err
	}
	if err := send(c.conn, r); err != nil {
		return err
	}
	return receive(c.in, a)
}
