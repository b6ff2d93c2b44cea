package release

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/label"
)

// Limits of challengers, whoever they are. A confirmation costs the TPM a signature and a quote, a second on a slow one: they are made
// one after the other, so that whatever else needs the TPM waits for one of them at most.
const (
	maxChallengers     = 16               // who wait for their turn or have it
	maxChallengersFrom = 2                // of them from one source
	maxChallengersNear = 4                // of them from one neighbourhood
	turnWithin         = 20 * time.Second // until the turn comes
)

// standbyDetail tells whoever asked for the label of a service that is only potentially there.
const standbyDetail = "the service is potentially there: a challenge with instantiate starts it"

// ErrNoLabel is what a prover returns when the box cannot be, now, what it was asked to be. Its text is for whoever asked.
var ErrNoLabel = errors.New("the box cannot be this now")

// prover has the TPM show what the box is. Confirm decides when it is called and not before. It is called by one goroutine at a time.
type prover interface {
	Confirm(ctx context.Context, c label.Challenge, channel []byte) (label.Confirmations, error)
}

// challengers wait for their turn at the TPM.
type challengers struct {
	turn chan struct{} // holds one token: who took it has the turn

	mu   sync.Mutex
	all  int                  // owned by mu
	from map[netip.Prefix]int // of sources and neighbourhoods; owned by mu; none is in it without a challenger
}

func newChallengers() *challengers {
	c := &challengers{turn: make(chan struct{}, 1), from: map[netip.Prefix]int{}}
	c.turn <- struct{}{}
	return c
}

// enter reports whether somebody from this address may wait. If so, leave must follow.
func (c *challengers) enter(a netip.Addr) bool {
	p := sourceOf(a)
	near := around(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= maxChallengers || c.from[p] >= maxChallengersFrom || c.from[near] >= maxChallengersNear {
		return false
	}
	c.all++
	c.from[p]++
	c.from[near]++
	return true
}

func (c *challengers) leave(a netip.Addr) {
	p := sourceOf(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	for _, of := range [...]netip.Prefix{p, around(p)} {
		if c.from[of]--; c.from[of] == 0 {
			delete(c.from, of)
		}
	}
}

// challenge answers POST /v1/challenge, to anybody: what it says is what a box wants to be known.
func (s *Server) challenge(r *http.Request) reply {
	if s.o.Prover == nil {
		return unavailable()
	}
	if bad := announced(r); bad.code != 0 {
		return bad
	}
	if r.ContentLength > label.MaxChallenge {
		return failure(http.StatusRequestEntityTooLarge, kra.CodeSize, "")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, label.MaxChallenge))
	if err != nil {
		return failure(http.StatusBadRequest, kra.CodeMalformed, "body: shorter than its Content-Length")
	}
	c, err := label.ParseChallenge(body)
	if err != nil {
		return failure(http.StatusBadRequest, kra.CodeMalformed, err.Error())
	}
	from := peerOf(r).addr // who holds a place has sent all that there is to send
	if !s.challengers.enter(from) {
		return busy()
	}
	defer s.challengers.leave(from)
	return s.confirm(r, c)
}

func (s *Server) confirm(r *http.Request, c label.Challenge) reply {
	channel, err := r.TLS.ExportKeyingMaterial(label.Exporter, c.Nonce, label.NonceSize)
	if err != nil {
		s.o.Log.Error("bind confirmation to channel", "error", err)
		return unavailable()
	}
	wait, cancel := context.WithTimeout(r.Context(), turnWithin)
	defer cancel()
	select {
	case <-s.challengers.turn:
		defer func() { s.challengers.turn <- struct{}{} }()
	case <-wait.Done():
		return busy()
	}
	if c.Label == label.KeyRelease && !c.Instantiate && !s.o.Standby.There() {
		return failure(http.StatusConflict, kra.CodeLabel, standbyDetail)
	}
	// The TPM goes on when a challenger hangs up: his turn lasts as long as its work, or the next one's would be added to it.
	all, err := s.o.Prover.Confirm(context.WithoutCancel(r.Context()), c, channel)
	switch {
	case errors.Is(err, ErrNoLabel):
		return failure(http.StatusConflict, kra.CodeLabel, "")
	case err != nil:
		s.o.Log.Error("confirm label", "error", err)
		return unavailable()
	}
	if c.Instantiate {
		s.o.Standby.Instantiate()
		s.o.Log.Info("service instantiated on a challenge", "peer", peerOf(r).addr)
	}
	if all = s.o.Standby.shown(all); len(all.Confirmations) == 0 {
		return failure(http.StatusConflict, kra.CodeLabel, standbyDetail)
	}
	return reply{code: http.StatusOK, body: all.Bytes()}
}
