package hsm

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"fmt"
	"sync/atomic"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A batch is the wraps of one request. The sessions that take it share its wraps; the last one to finish answers.
type batch struct {
	token   *token
	wraps   []block.Wrap
	to      wire.Recipient // valid for Transcrypt
	results []wire.Result
	head    receipt.ChainHead
	next    atomic.Int32 // the next wrap to take
	left    atomic.Int32 // wraps not finished
	done    func([]wire.Result, receipt.ChainHead)
}

// Unwrap opens the wraps and then calls done, once. Each wrap becomes an item of the chain before it is tried. An
// error means that done will not be called.
func (c *Custodian) Unwrap(wraps []block.Wrap, done func([]wire.Result, receipt.ChainHead)) error {
	return c.begin(wire.Recipient{}, wraps, done)
}

// begin records the wraps and hands them to the sessions.
func (c *Custodian) begin(to wire.Recipient, wraps []block.Wrap, done func([]wire.Result, receipt.ChainHead)) error {
	if len(wraps) == 0 || len(wraps) > wire.MaxBatch {
		return fmt.Errorf("unwrap %d wraps: limit 1 to %d", len(wraps), wire.MaxBatch)
	}
	t := c.token.Load()
	if t == nil {
		return wire.ErrClosed
	}
	b := &batch{token: t, wraps: wraps, to: to, results: make([]wire.Result, len(wraps)), done: done}
	b.head = c.chain.extend(wraps)
	b.left.Store(int32(len(wraps)))
	if !t.pool.submit(b, len(wraps)) {
		return wire.ErrClosed
	}
	return nil
}

// turn is how many wraps of one batch a session opens while others wait.
const turn = 8

// run implements task.
func (b *batch) run(s *session) {
	for n := 1; ; n++ {
		i := int(b.next.Add(1)) - 1
		if i >= len(b.wraps) {
			return
		}
		b.results[i] = s.result(b.wraps[i], b.to, b.head.N-uint64(len(b.wraps)-1-i))
		if b.left.Add(-1) == 0 {
			b.done(b.results, b.head)
			return
		}
		if n%turn == 0 && b.token.pool.yield(b) {
			return
		}
	}
}

func (s *session) result(w block.Wrap, to wire.Recipient, seq uint64) wire.Result {
	r := wire.Result{Seq: seq}
	e, letGo, err := s.ready(w)
	if err != nil {
		r.Err = err
		return r
	}
	defer letGo()
	if s.inside(e, w, to) {
		r.Sealed, r.Err = s.transcrypt(e, w, to)
		if !errors.Is(r.Err, errImport) && !errors.Is(r.Err, errPassOn) {
			return r
		}
	}
	b, err := s.openWith(e, w)
	if err == nil {
		r.Key, err = block.NewFileKey(b)
	}
	r.Err = err
	return r
}

// ready returns the key of a wrap until it is let go: ErrNoKey, ErrUnwrap if it opens none of that kind, or what the module said.
func (s *session) ready(w block.Wrap) (*entry, func(), error) {
	e := s.token.index.get(w.KeyID())
	if e == nil {
		return nil, nil, wire.ErrNoKey
	}
	if !e.key.Suite.Wraps().Opens(w.Suite()) {
		return nil, nil, wire.ErrUnwrap
	}
	return s.hold(e)
}

// openWith opens one wrap: ErrUnwrap, or what the module said.
func (s *session) openWith(e *entry, w block.Wrap) ([]byte, error) {
	switch e.key.Suite {
	case wire.P256, wire.P384:
		return s.openEC(e, w)
	case wire.Hybrid:
		return s.openHybrid(e, w)
	}
	return s.openRSA(e, w)
}

func (s *session) openEC(e *entry, w block.Wrap) ([]byte, error) {
	x := &exchanger{session: s, entry: e}
	key, err := block.OpenECAs(e.key.ID, x, w)
	clear(x.shared)
	if x.fault != nil {
		return nil, x.fault
	}
	if err != nil {
		return nil, wire.ErrUnwrap
	}
	return key, nil
}

// openRSA does the private operation without padding in the token, and removes the padding here: SoftHSM 2.6.1 has no
// OAEP with SHA-256, and none with a label.
func (s *session) openRSA(e *entry, w block.Wrap) ([]byte, error) {
	body := w.Body()
	if len(body) != len(e.modulus) || bytes.Compare(body, e.modulus) >= 0 {
		return nil, wire.ErrUnwrap
	}
	var em []byte
	err := s.with(e, func(h p11.ObjectHandle) (err error) { em, err = s.rawRSA(h, body); return err })
	if isInput(err) {
		return nil, wire.ErrUnwrap
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	defer clear(em)
	key, ok := unpadOAEP(w.Suite().OAEPHash(), em, len(e.modulus), w.OAEPLabel(), w.Suite().KeySizes()...)
	if !ok {
		return nil, wire.ErrUnwrap
	}
	return key, nil
}

// An exchanger is a private key on a curve in the token, as an ecdh.KeyExchanger for one operation of one session.
type exchanger struct {
	session *session
	entry   *entry
	shared  []byte // the last result, cleared after use
	fault   error  // what the module said, if that is why the exchange failed
}

var errCurve = errors.New("peer is on another curve")

func (x *exchanger) PublicKey() *ecdh.PublicKey { return x.entry.point }
func (x *exchanger) Curve() ecdh.Curve          { return x.entry.point.Curve() }

// ECDH implements ecdh.KeyExchanger.
func (x *exchanger) ECDH(peer *ecdh.PublicKey) (z []byte, err error) {
	if peer.Curve() != x.Curve() {
		return nil, errCurve
	}
	err = x.session.with(x.entry, func(h p11.ObjectHandle) (err error) {
		z, err = x.session.derive(h, curveOf(x.entry.key.Suite), peer.Bytes())
		return err
	})
	x.shared = z
	if err != nil && !isInput(err) {
		x.fault = fmt.Errorf("derive: %w", err)
	}
	return z, err
}
