package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// A Handler does what krad asks. Its methods are called one after the other.
//
// Reboot, PowerOff and Lock only note the wish and return at once: their answer must reach krad before krad is stopped. An error
// of any method is krad's answer and must hold no secret.
type Handler interface {
	Reboot() error
	PowerOff() error
	Lock(reason string) error
	SetClock(t time.Time) error
	SetNetwork(ctx context.Context, n Network) error
	Status() Status
}

// Serve answers krad until it hangs up (nil) or says something that is no request (an error). It closes conn.
func Serve(ctx context.Context, conn net.Conn, h Handler) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	in := bufio.NewReaderSize(conn, MaxLine)
	for {
		var r request
		err := receive(in, &r)
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = r.check()
		}
		if err != nil {
			return fmt.Errorf("machine request: %w", err)
		}
		if err := send(conn, answer(ctx, r, h)); err != nil {
			return fmt.Errorf("answer machine request: %w", err)
		}
	}
}

// answer does a checked request.
func answer(ctx context.Context, r request, h Handler) reply {
	var err error
	switch r.Do {
	case verbReboot:
		err = h.Reboot()
	case verbPowerOff:
		err = h.PowerOff()
	case verbLock:
		err = h.Lock(r.Reason)
	case verbClock:
		err = h.SetClock(time.Unix(r.Unix, 0).UTC())
	case verbNetwork:
		err = h.SetNetwork(ctx, *r.Network)
	case verbStatus:
		s := h.Status()
		return reply{Status: &s}
	default:
		panic("machine: request was not checked")
	}
	if err != nil {
		return reply{Error: err.Error()}
	}
	return reply{}
}
