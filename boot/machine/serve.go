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
// Reboot, Maintenance, PowerOff and Lock only note the wish and return at once: their answer must reach krad before krad is stopped. An error
// of any method is krad's answer and must hold no secret: only a Key does.
type Handler interface {
	Reboot() error
	Maintenance() error
	PowerOff() error
	Lock(reason string) error
	SetClock(t time.Time) error
	AdjustClock(by time.Duration) error
	SetNetwork(ctx context.Context, n Network) error
	Status() Status
	// Unlock, Renew and Turn are what the Client's say.
	Unlock(secret Key) (Key, error)
	Renew(how Opening, secret Key) (Key, error)
	Turn(ctx context.Context) error
	// Disk returns at once: what a disk keeps waiting must not keep a Lock waiting.
	Disk(q DiskRequest) (DiskReply, error)
	// Program reads one file of the image.
	Program(at int) (Program, error)
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
		err = send(conn, answer(ctx, r, h))
		if errors.Is(err, errLong) { // nothing of it was sent
			err = send(conn, reply{Error: err.Error()})
		}
		if err != nil {
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
	case verbMaintenance:
		err = h.Maintenance()
	case verbPowerOff:
		err = h.PowerOff()
	case verbLock:
		err = h.Lock(r.Reason)
	case verbClock:
		err = h.SetClock(time.Unix(r.Unix, 0).UTC())
	case verbAdjust:
		err = h.AdjustClock(time.Duration(r.Micro) * time.Microsecond)
	case verbNetwork:
		err = h.SetNetwork(ctx, *r.Network)
	case verbStatus:
		s := h.Status()
		return reply{Status: &s}
	case verbUnlock:
		return replyKey(h.Unlock(*r.Secret))
	case verbRenew:
		var secret Key
		if r.Secret != nil {
			secret = *r.Secret
		}
		return replyKey(h.Renew(r.Opening, secret))
	case verbTurn:
		err = h.Turn(ctx)
	case verbDisk:
		d, err := h.Disk(*r.Disk)
		if err != nil {
			return reply{Error: err.Error()}
		}
		return reply{Disk: &d}
	case verbProgram:
		p, err := h.Program(r.At)
		if err != nil {
			return reply{Error: err.Error()}
		}
		return reply{Program: &p}
	default:
		panic("machine: request was not checked")
	}
	if err != nil {
		return reply{Error: err.Error()}
	}
	return reply{}
}
