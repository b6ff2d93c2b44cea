// Package machine is what krad may ask of process 1: restart, stop, lock, set the clock or adjust it, set the network, have the state's key
// renewed, put a backup on a disk or read one from there, hold a program to the image's list, tell how it is.
//
// One request is in flight at a time on one connected stream that process 1 hands to krad. Each message is one line of JSON in
// one encoding; anything else ends the connection. The requests cannot name a program, a path or a stage: a krad in the wrong
// hands gains no verb here but to stop, to lock, to lose its own state, to lie about the time and the network, and to overwrite, with letters
// of backups, a disk that is not the box's own.
package machine

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Limits of the protocol.
const (
	MaxLine   = 64 << 10 // bytes in one message
	MaxReason = 4 << 10  // bytes in the reason of a lock
	MaxDNS    = 3        // name servers, as many as a resolver reads
	MaxRoutes = 8        // further routes

	MaxPrograms = 4096 // in an image's list
)

// MaxAdjust bounds one slow adjustment of the clock, either way.
const MaxAdjust = 500 * time.Millisecond

// A Refused is a request that process 1 understood and did not do.
type Refused struct{ Reason string }

func (r *Refused) Error() string { return r.Reason }

// verb names a request on the wire.
type verb string

const (
	verbReboot   verb = "reboot"
	verbPowerOff verb = "poweroff"

	verbMaintenance verb = "maintenance"
	verbLock        verb = "lock"
	verbClock       verb = "clock"
	verbAdjust      verb = "adjust"
	verbNetwork     verb = "network"
	verbStatus      verb = "status"

	verbUnlock verb = "unlock"
	verbRenew  verb = "renew"
	verbTurn   verb = "turn"

	verbDisk verb = "disk"

	verbProgram verb = "program"
)

// request is one line from krad. Only the fields of its verb are set.
type request struct {
	Do      verb     `json:"do"`
	Reason  string   `json:"reason,omitempty"`
	Unix    int64    `json:"unix,omitempty"`
	Micro   int64    `json:"micro,omitempty"`
	Network *Network `json:"network,omitempty"`
	Opening Opening  `json:"opening,omitempty"`
	Secret  *Key     `json:"secret,omitempty"`

	Disk *DiskRequest `json:"disk,omitempty"`
	At   int          `json:"at,omitempty"` // place in the list of programs
}

// reply is one line from process 1: an error, a status, a key, what is with the disks or a program, or nothing when it is done.
type reply struct {
	Error  string  `json:"error,omitempty"`
	Status *Status `json:"status,omitempty"`
	Key    *Key    `json:"key,omitempty"`

	Disk    *DiskReply `json:"disk,omitempty"`
	Program *Program   `json:"program,omitempty"`
}

// check refuses a request whose fields are not exactly those of its verb.
func (r request) check() error {
	want := request{Do: r.Do}
	switch r.Do {
	case verbReboot, verbPowerOff, verbMaintenance, verbStatus:
	case verbUnlock, verbRenew, verbTurn:
		return r.checkKey()
	case verbLock:
		if r.Reason == "" || len(r.Reason) > MaxReason {
			return fmt.Errorf("reason has %d bytes, want 1 to %d", len(r.Reason), MaxReason)
		}
		want.Reason = r.Reason
	case verbClock:
		if r.Unix <= 0 {
			return fmt.Errorf("time %d is before 1970", r.Unix)
		}
		want.Unix = r.Unix
	case verbAdjust:
		if most := MaxAdjust.Microseconds(); r.Micro == 0 || r.Micro < -most || r.Micro > most {
			return fmt.Errorf("adjustment of %d microseconds, limit %s", r.Micro, MaxAdjust)
		}
		want.Micro = r.Micro
	case verbNetwork:
		if r.Network == nil {
			return errors.New("network is missing")
		}
		if err := r.Network.Check(); err != nil {
			return err
		}
		want.Network = r.Network
	case verbDisk:
		if r.Disk == nil {
			return errors.New("request about disks is missing")
		}
		if err := r.Disk.check(); err != nil {
			return err
		}
		want.Disk = r.Disk
	case verbProgram:
		if r.At < 0 || r.At >= MaxPrograms {
			return fmt.Errorf("program %d, limit %d", r.At, MaxPrograms)
		}
		want.At = r.At
	default:
		return fmt.Errorf("unknown request %q", string(r.Do))
	}
	if want != r {
		return fmt.Errorf("request %q carries fields of another", string(r.Do))
	}
	return nil
}

// decode parses one line into v and refuses every encoding of it but the one that encode makes.
func decode(line []byte, v any) error {
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("parse message: %w", err)
	}
	again, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if !bytes.Equal(line, again) {
		return errors.New("message is not in its one encoding")
	}
	return nil
}

var errLong = errors.New("message is too long")

// send writes v as one line. Text that is not UTF-8 (a daemon's last words) changes under its first encoding and not again, so the
// second one is sent.
func send[T any](w io.Writer, v T) error {
	var again T
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &again)
	}
	if err == nil {
		b, err = json.Marshal(again)
	}
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if len(b) >= MaxLine {
		return fmt.Errorf("%w: %d bytes, limit %d", errLong, len(b), MaxLine)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// receive reads one line into v. The reader must hold MaxLine bytes.
func receive(r *bufio.Reader, v any) error {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return fmt.Errorf("message is longer than %d bytes", MaxLine)
	}
	if err != nil {
		return err
	}
	return decode(line[:len(line)-1], v)
}
