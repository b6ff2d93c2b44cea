package tpm

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/keyrelease/krabox/kra/label"
)

// Constants of the crypto-agile log (TCG PC Client Platform Firmware Profile 1.06, section 10).
const (
	evNoAction   = 3
	algSHA256    = 0x000b
	maxAlgs      = 16
	maxEventLog  = label.MaxEventLog
	specID       = "Spec ID Event03\x00"
	localitySign = "StartupLocality\x00"
)

// Replay reads a firmware's event log (little-endian, crypto-agile) and gives the SHA-256 registers that its events
// add up to. Registers without an event are missing.
//
//	TCG_PCR_EVENT    pcr 4 | type 4 | SHA-1 20 | size 4 | Spec ID event: which algorithms, which sizes
//	TCG_PCR_EVENT2   pcr 4 | type 4 | count 4 | count × (alg 2 | digest) | size 4 | data      … to the end
func Replay(log []byte) (label.PCRs, error) { return replay(log, func(event) {}) }

// An event is one entry of a log. EV_NO_ACTION may have no digest, and extends nothing.
type event struct {
	pcr    uint32
	typ    uint32
	digest []byte // SHA-256
	data   []byte
}

// replay is Replay, and gives each event behind the Spec ID event to see.
func replay(log []byte, see func(event)) (label.PCRs, error) {
	if len(log) > maxEventLog {
		return nil, fmt.Errorf("replay event log: %d bytes, at most %d", len(log), maxEventLog)
	}
	c := cursor{b: log}
	sizes, err := c.specID()
	if err != nil {
		return nil, fmt.Errorf("replay event log: %w", err)
	}
	v := label.PCRs{}
	for len(c.b) > 0 && !c.padding() {
		e, err := c.event(sizes)
		if err == nil {
			err = e.extend(v)
		}
		if err != nil {
			return nil, fmt.Errorf("replay event log: at byte %d: %w", len(log)-len(c.b), err)
		}
		see(e)
	}
	return v, nil
}

var errShort = errors.New("ends in the middle of an event")

// cursor walks a log; the first read beyond the end spoils it.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n uint32) []byte {
	if c.bad || uint64(n) > uint64(len(c.b)) {
		c.bad = true
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// padding says that only zeros follow, as some kernels leave them.
func (c *cursor) padding() bool {
	for _, b := range c.b {
		if b != 0 {
			return false
		}
	}
	return true
}

// specID reads the first event, in the old form, and the algorithms it declares.
func (c *cursor) specID() (map[uint16]uint32, error) {
	pcr, typ := c.u32(), c.u32()
	c.take(20)
	e := cursor{b: c.take(c.u32())}
	if c.bad || pcr != 0 || typ != evNoAction || string(e.take(16)) != specID {
		return nil, errors.New("does not begin with a Spec ID event")
	}
	e.take(8)
	n := e.u32()
	if n > maxAlgs {
		return nil, fmt.Errorf("%d algorithms, at most %d", n, maxAlgs)
	}
	sizes := map[uint16]uint32{}
	for range n {
		alg := e.u16()
		sizes[alg] = uint32(e.u16())
	}
	if e.bad || sizes[algSHA256] != sha256.Size {
		return nil, errors.New("has no SHA-256 digests")
	}
	return sizes, nil
}

// event reads one event.
func (c *cursor) event(sizes map[uint16]uint32) (e event, err error) {
	e.pcr, e.typ = c.u32(), c.u32()
	n := c.u32()
	if n > maxAlgs {
		return e, fmt.Errorf("%d digests, at most %d", n, maxAlgs)
	}
	for range n {
		alg := c.u16()
		size, known := sizes[alg]
		if !known && !c.bad {
			return e, fmt.Errorf("digest of undeclared algorithm %#x", alg)
		}
		d := c.take(size)
		if alg == algSHA256 {
			if e.digest != nil {
				return e, errors.New("two SHA-256 digests in one event")
			}
			e.digest = d
		}
	}
	if e.data = c.take(c.u32()); c.bad {
		return e, errShort
	}
	return e, nil
}

// extend extends v by an event.
func (e event) extend(v label.PCRs) error {
	switch {
	case e.typ == evNoAction:
		return locality(e.pcr, e.data, v)
	case e.digest == nil || e.pcr >= 24:
		return errors.New("event without SHA-256 digest or register")
	}
	old := v[int(e.pcr)]
	v[int(e.pcr)] = sha256.Sum256(append(old[:], e.digest...))
	return nil
}

// locality sets the start of PCR 0 where the TPM was started from another locality than 0.
func locality(pcr uint32, data []byte, v label.PCRs) error {
	if len(data) != len(localitySign)+1 || string(data[:len(localitySign)]) != localitySign {
		return nil
	}
	if _, begun := v[0]; begun || pcr != 0 {
		return errors.New("start-up locality after an event of PCR 0")
	}
	v[0] = label.Digest{31: data[len(localitySign)]}
	return nil
}
