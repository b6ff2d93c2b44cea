// Package tpm measures, seals, unseals and proves: it is everything that the box and the desk say to or about a TPM.
//
// Agent is the box's side, the only user of the device. Approve and VerifyRequest are the desk's side and need no TPM.
// Every policy, Name and cpHash is calculated offline; what the device says of itself is never taken as given.
package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"

	"github.com/keyrelease/krabox/kra/noise"
)

// A Device is a connection to a TPM, started and free of other programs' leftovers. It is not safe for concurrent use.
//
// After a transport error nobody knows which answer belongs to which command: the device is then broken for good.
type Device struct {
	transport.TPMCloser
	broken chan struct{} // closed at the first transport error
}

// maxResponse is above every TPM's largest response.
const maxResponse = 1 << 16

// answerLimit bounds one command: the slowest known make an RSA key in about a minute.
const answerLimit = 2 * time.Minute

// OpenDevice opens "/dev/tpm0" or "unix:/path/of/swtpm.sock", starts the TPM if nothing has yet, and flushes the
// transient objects and sessions that a killed predecessor left: there are only three slots of each.
func OpenDevice(name string) (*Device, error) {
	t, err := dial(name)
	if err != nil {
		return nil, fmt.Errorf("open TPM: %w", err)
	}
	d := &Device{t, make(chan struct{})}
	_, err = tpm2.Startup{StartupType: tpm2.TPMSUClear}.Execute(d)
	if err != nil && !errors.Is(err, tpm2.TPMRCInitialize) {
		_ = d.Close()
		return nil, fmt.Errorf("start TPM: %w", err)
	}
	if err := d.flushStale(); err != nil {
		_ = d.Close()
		return nil, err
	}
	return d, nil
}

func dial(name string) (transport.TPMCloser, error) {
	path, isSocket := strings.CutPrefix(name, "unix:")
	if !isSocket {
		return linuxtpm.Open(name)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	return socket{c}, nil
}

// socket speaks the raw command stream, as swtpm's data channel does.
type socket struct{ net.Conn }

// Send exchanges one command.
func (s socket) Send(command []byte) ([]byte, error) {
	if err := s.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return nil, err
	}
	if _, err := s.Write(command); err != nil {
		return nil, err
	}
	return readResponse(s)
}

// readResponse reads one response of a TPM stream.
func readResponse(r io.Reader) ([]byte, error) {
	head := make([]byte, 10)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[2:])
	if n < 10 || n > maxResponse {
		return nil, fmt.Errorf("response of %d bytes", n)
	}
	out := append(head, make([]byte, n-10)...)
	_, err := io.ReadFull(r, out[10:])
	return out, err
}

// A busy TPM asks for the same command again (TPM 2.0 part 1, 12.4.3; part 2, 6.6.3: RC_WARN).
const (
	busyPause = 20 * time.Millisecond
	busyTries = 500
)

var errBroken = errors.New("the connection to the TPM is broken")

// Send exchanges one command, again while the TPM is busy, tests itself or spares its NV memory.
func (d *Device) Send(command []byte) ([]byte, error) {
	for try := 1; ; try++ {
		select {
		case <-d.broken:
			return nil, errBroken
		default:
		}
		answer, err := d.TPMCloser.Send(command)
		if err == nil && len(answer) < 10 {
			err = errors.New("short answer")
		}
		if err != nil {
			close(d.broken)
			return nil, fmt.Errorf("%w: %w", errBroken, err)
		}
		if !busy(tpm2.TPMRC(binary.BigEndian.Uint32(answer[6:]))) || try == busyTries {
			return answer, nil
		}
		time.Sleep(busyPause)
	}
}

func busy(rc tpm2.TPMRC) bool {
	switch rc {
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate:
		return true
	}
	return false
}

// First handles of the ranges that flushStale empties (TPM 2.0 part 2, 7.2).
const (
	loadedSessions = 0x02000000
	savedSessions  = 0x03000000
	transients     = 0x80000000
)

func (d *Device) flushStale() error {
	for _, first := range []uint32{transients, loadedSessions, savedSessions} {
		r, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 64}.Execute(d)
		if err != nil {
			return fmt.Errorf("list stale handles: %w", err)
		}
		hs, err := r.CapabilityData.Data.Handles()
		if err != nil {
			return fmt.Errorf("list stale handles: %w", err)
		}
		for _, h := range hs.Handle {
			if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(d); err != nil {
				return fmt.Errorf("flush stale handle %#x: %w", uint32(h), err)
			}
		}
	}
	return nil
}

// flush frees a transient object; a TPM that cannot do that is found out by the next load.
func (d *Device) flush(h tpm2.TPMHandle) { _, _ = tpm2.FlushContext{FlushHandle: h}.Execute(d) }

// property reads one TPM_PT value.
func (d *Device) property(p tpm2.TPMPT) (uint32, error) {
	r, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(p), PropertyCount: 1}.Execute(d)
	if err != nil {
		return 0, fmt.Errorf("read TPM property: %w", err)
	}
	l, err := r.CapabilityData.Data.TPMProperties()
	if err != nil || len(l.TPMProperty) != 1 || l.TPMProperty[0].Property != p {
		return 0, fmt.Errorf("read TPM property %#x: none", uint32(p))
	}
	return l.TPMProperty[0].Value, nil
}

// fit holds the TPM's generator to health tests, and returns what it gave.
func (d *Device) fit() (given []byte, err error) {
	err = noise.Check(func(b []byte) (err error) {
		given, err = d.Random(len(b))
		copy(b, given)
		return err
	})
	return given, err
}

// Random gives n bytes of the TPM's generator.
func (d *Device) Random(n int) ([]byte, error) {
	var out []byte
	for len(out) < n {
		r, err := tpm2.GetRandom{BytesRequested: uint16(min(n-len(out), 32))}.Execute(d)
		if err != nil {
			return nil, fmt.Errorf("get random: %w", err)
		}
		if len(r.RandomBytes.Buffer) == 0 {
			return nil, errors.New("get random: none")
		}
		out = append(out, r.RandomBytes.Buffer...)
	}
	return out, nil
}
