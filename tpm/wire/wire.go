// Package wire is the protocol of tpmd and its two clients: process 1, who may extend and unseal, and the agent.
//
// A frame is a 32-bit big-endian length and a JSON object of at most MaxFrame bytes. A connection carries one request
// at a time, answered in order. The package knows no TPM.
package wire

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// MaxFrame bounds a frame, both ways.
const MaxFrame = 1 << 20

// patience bounds one exchange: a slow discrete TPM takes seconds to make a key.
const patience = 2 * time.Minute

// An op names a request.
type op string

const (
	opStatus     op = "status"
	opExtend     op = "extend"
	opUnseal     op = "unseal"
	opRecord     op = "record"
	opWrite      op = "write-record"
	opTLS        op = "leaf-tls"
	opReceipt    op = "leaf-receipt"
	opKeyRelease op = "leaf-key-release"
	opRequest    op = "enrol-request"
	opInstall    op = "enrol-install"
	opReplica    op = "leaf-replica"
	opImport     op = "leaf-import"
	opRandom     op = "random"
	opConfirm    op = "confirm"
	opAdvertise  op = "advertise"
	opRetract    op = "retract"
	opBind       op = "bind-secret"
	opOpen       op = "open-secret"
	opPresent    op = "present"
	opAsk        op = "operator-challenge"
	opAnswer     op = "operator-answer"
	opAbsent     op = "absent"
	opAdvance    op = "advance"
	opPreload    op = "preload"
	opHoldings   op = "holdings"
	opZeroize    op = "zeroize"
	opHalf       op = "write-half"
	opEvents     op = "events"
)

// request is what a client sends; which fields are set depends on Op.
type request struct {
	Op     op     `json:"op"`
	Stage  string `json:"stage,omitempty"`
	Record []byte `json:"record,omitempty"`
	SPKI   []byte `json:"spki,omitempty"`
	Digest []byte `json:"digest,omitempty"`
	Access string `json:"access,omitempty"`
	Usage  Usage  `json:"usage,omitempty"`
	Bundle []byte `json:"bundle,omitempty"`
	Size   int    `json:"size,omitempty"`

	Challenge []byte `json:"challenge,omitempty"`
	Channel   []byte `json:"channel,omitempty"`

	Addresses []string      `json:"addresses,omitempty"`
	Life      time.Duration `json:"life,omitempty"`

	Label   label.ID `json:"label,omitempty"`
	Secret  []byte   `json:"secret,omitempty"`
	Blob    []byte   `json:"blob,omitempty"`
	Seconds int      `json:"seconds,omitempty"`
	Text    []byte   `json:"text,omitempty"`
}

// answer is what tpmd sends back; Refused or Failed is set, or what the request asked for.
type answer struct {
	Refused string        `json:"refused,omitempty"` // decided: asking again does not help
	Failed  string        `json:"failed,omitempty"`  // something broke
	Status  *Status       `json:"status,omitempty"`
	Sealed  []byte        `json:"sealed,omitempty"`
	Half    []byte        `json:"half,omitempty"`
	Record  []byte        `json:"record,omitempty"`
	Chain   [][]byte      `json:"chain,omitempty"`
	PEM     []byte        `json:"pem,omitempty"`
	Random  []byte        `json:"random,omitempty"`
	Install *installation `json:"install,omitempty"`

	Confirmed []byte   `json:"confirmed,omitempty"`
	Adverts   [][]byte `json:"adverts,omitempty"`
	Retracted []byte   `json:"retracted,omitempty"`

	Secret []byte `json:"secret,omitempty"`
	Blob   []byte `json:"blob,omitempty"`
	Epoch  uint64 `json:"epoch,omitempty"`

	Holdings []Holding `json:"holdings,omitempty"`
	Events   *Events   `json:"events,omitempty"`
}

type installation struct {
	Box        label.Box     `json:"box"`
	Officer    label.Officer `json:"officer"`
	NeedsStore bool          `json:"needsStore"`
	StoreKey   []byte        `json:"storeKey,omitempty"`
	Added      int           `json:"added"`
	Epoch      string        `json:"epoch,omitempty"`
}

// Refused is a decision of tpmd or of the TPM itself; Reason is for the console and the log.
type Refused struct{ Reason string }

func (r Refused) Error() string { return r.Reason }

// failure is something that broke at the other end; the connection is still good.
type failure struct{ what string }

func (f failure) Error() string { return f.what }

// writeFrame clears what it encoded: a frame may hold a secret.
func writeFrame(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	defer clear(b)
	if len(b) > MaxFrame {
		return fmt.Errorf("write frame: %d bytes, at most %d", len(b), MaxFrame)
	}
	f := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b)))
	f = append(f, b...)
	defer clear(f)
	if _, err := w.Write(f); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// readFrame gives io.EOF only where the other side closed between frames.
func readFrame(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		return fmt.Errorf("read frame: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return fmt.Errorf("read frame: %d bytes, at most %d", n, MaxFrame)
	}
	b := make([]byte, n)
	defer clear(b)
	if _, err := io.ReadFull(r, b); err != nil {
		return fmt.Errorf("read frame: %w", err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return errors.New("decode frame: not the JSON expected")
	}
	return nil
}

// exchange sends one request and waits for its answer. The TPM cannot be cancelled: when ctx ends first the
// connection is given up, and what was asked may still happen.
func exchange(ctx context.Context, c net.Conn, q request) (answer, error) {
	if err := ctx.Err(); err != nil {
		return answer{}, err
	}
	until, ok := ctx.Deadline()
	if !ok || time.Until(until) > patience {
		until = time.Now().Add(patience)
	}
	if err := c.SetDeadline(until); err != nil {
		return answer{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := writeFrame(c, q); err != nil {
		return answer{}, err
	}
	var a answer
	if err := readFrame(c, &a); err != nil {
		return answer{}, err
	}
	switch {
	case a.Refused != "":
		return answer{}, Refused{a.Refused}
	case a.Failed != "":
		return answer{}, failure{a.Failed}
	}
	return a, nil
}
