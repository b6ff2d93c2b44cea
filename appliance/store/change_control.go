package store

import (
	"strconv"
	"time"
)

// Limits of requests.
const (
	MaxRequests   = 32       // that wait at a time
	MaxRequestsOf = 8        // likewise of one officer
	maxRequest    = 4 << 10  // bytes of a line, and of a text that is shown
	maxTold       = 64 << 10 // bytes of all texts
	maxPasted     = 1 << 20  // bytes of what was pasted
	maxSecrets    = 4        // of one request
)

// A Control says which acts wait for a second officer. The zero Control: those that weaken or destroy, as soon as there is
// a second one.
type Control struct {
	Off   bool `json:"off,omitempty"`
	Rules bool `json:"rules,omitempty"` // what changes who gets keys waits too
}

// A Counter is the number of the last request; none is used again.
type Counter struct {
	Last uint64 `json:"last"`
}

// A Request is a command of one officer that waits for another.
type Request struct {
	Number  uint64    `json:"number"`
	By      string    `json:"by"`
	Team    string    `json:"team,omitempty"` // whose officer asked
	Line    string    `json:"line"`
	Pasted  []Secret  `json:"pasted,omitempty"`  // what was pasted with it
	Secrets []Secret  `json:"secrets,omitempty"` // what a source is to be presented, in the order in which it was typed
	Hash    string    `json:"hash,omitempty"`    // argon2id, PHC form, of a passphrase that was typed with it
	Told    []string  `json:"told"`              // what it would do, in words
	Basis   [32]byte  `json:"basis"`             // of what it would do and of what that depends on
	Made    time.Time `json:"made"`
	Until   time.Time `json:"until"`
}

// Waits says whether the request may still be approved. A clock that was put back behind its beginning ends it too.
func (r Request) Waits(now time.Time) bool { return !now.Before(r.Made) && now.Before(r.Until) }

// Control returns which acts wait for a second officer.
func (s *State) Control() Control { return s.control.single() }

// LastRequest returns the number of the last request, 0 before the first.
func (s *State) LastRequest() uint64 { return s.counter.single().Last }

// Two reports whether what weakens or destroys waits for a second officer now.
func (s *State) Two() bool { return !s.Control().Off && s.Chiefs() > 1 }

// Requests returns what waits, oldest first.
func (s *State) Requests() []Request { return s.requests.sorted() }

// Request returns what waits under a number.
func (s *State) Request(number uint64) (Request, bool) { return s.requests.get(requestKey(number)) }

func requestKey(number uint64) string {
	k := strconv.FormatUint(number, 10)
	return "00000000000000000000"[len(k):] + k
}

// ControlSet says which acts wait for a second officer.
type ControlSet struct {
	Off   bool `json:"off"`
	Rules bool `json:"rules"`
}

func (ControlSet) kind() string { return "control-set" }

func (c ControlSet) apply(d *State) error {
	was := d.Control()
	if was.Off == c.Off && was.Rules == c.Rules {
		return invalid("that is so already")
	}
	d.control.put(only, Control(c))
	return nil
}

// RequestAdd has a command wait. Its number is the next one.
type RequestAdd struct {
	Request Request `json:"request"`
}

func (RequestAdd) kind() string { return "request-add" }

func (c RequestAdd) apply(d *State) error {
	r := c.Request
	of, size := 0, 0
	for _, x := range d.requests.all() {
		if x.By == r.By {
			of++
		}
	}
	for _, t := range r.Told {
		size += len(t)
	}
	pasted := 0
	for _, p := range r.Pasted {
		pasted += p.size()
	}
	secrets := len(r.Secrets) <= maxSecrets
	for _, p := range r.Secrets {
		secrets = secrets && p.size() > 0 && p.size() <= maxSecret
	}
	switch {
	case !d.officers.has(r.By):
		return invalid("there is no officer %.80q", r.By)
	case d.requests.size() >= MaxRequests || of >= MaxRequestsOf:
		return invalid("%d requests wait, %d of them of %s, and no more than %d and %d may: approve or reject some first (pending)",
			d.requests.size(), of, r.By, MaxRequests, MaxRequestsOf)
	case r.Line == "" || len(r.Line) > maxRequest || len(r.Told) == 0 || size > maxTold || pasted > maxPasted || !secrets || r.Hash != "" && !isHash(r.Hash):
		return invalid("the request is empty, malformed or too long")
	case r.Number != 0 || !r.Until.After(r.Made):
		return invalid("the request has a number, or no time")
	}
	r.Number, r.Made, r.Until = d.LastRequest()+1, r.Made.UTC(), r.Until.UTC()
	d.counter.put(only, Counter{r.Number})
	d.requests.put(requestKey(r.Number), r)
	return nil
}

// RequestEnd removes a request: it was approved or rejected, or has expired.
type RequestEnd struct {
	Number uint64 `json:"number"`
}

func (RequestEnd) kind() string { return "request-end" }

func (c RequestEnd) apply(d *State) error {
	if !d.requests.has(requestKey(c.Number)) {
		return invalid("there is no request %d", c.Number)
	}
	d.requests.remove(requestKey(c.Number))
	return nil
}
