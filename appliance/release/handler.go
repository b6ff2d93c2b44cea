package release

import (
	"net/http"
	"strconv"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/board"
)

// A reply is one answer of the port. The zero Code is no reply.
type reply struct {
	code  int
	body  []byte
	allow string // for 405
	after string // for 503: seconds until trying again makes sense
	clear bool   // body holds keys
	kind  string // of a document of the board; empty: JSON of the port

	complete time.Time // of a refusal: when the last byte of its request was here
	done     func()    // called when it was sent; may be nil
}

func failure(code int, word, detail string) reply {
	return reply{code: code, body: kra.Error{Code: word, Detail: detail}.Encode()}
}

func busy() reply {
	r := failure(http.StatusServiceUnavailable, kra.CodeBusy, "")
	r.after = "1"
	return r
}

func unavailable() reply {
	r := failure(http.StatusServiceUnavailable, kra.CodeUnavailable, "")
	r.after = "5"
	return r
}

// serve answers every request of the port.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	var out reply
	switch r.URL.Path {
	case kra.PathRelease:
		out = only(http.MethodPost, r, func() reply { return s.release(r) })
	case kra.PathKeys:
		out = only(http.MethodGet, r, func() reply { return s.work(r, s.keys) })
	case kra.PathWhoAmI:
		out = only(http.MethodGet, r, func() reply {
			return s.inTurn(r, &s.walks, func() reply { return s.work(r, s.whoAmI) })
		})
	case kra.PathGroups:
		out = s.group(r)
	case kra.PathChallenge:
		out = only(http.MethodPost, r, func() reply { return s.challenge(r) })
	case kra.PathPlatform:
		out = only(http.MethodPost, r, func() reply { return s.platform(r) })
	case kra.PathStatus:
		out = only(http.MethodGet, r, s.status)
	default:
		out = s.document(r)
	}
	out.send(w, peerOf(r))
}

func only(method string, r *http.Request, f func() reply) reply {
	if r.Method != method {
		out := failure(http.StatusMethodNotAllowed, kra.CodeMethod, "")
		out.allow = method
		return out
	}
	return f()
}

// send writes the reply. A connection of which nobody knows whose it is, serves one request.
func (o reply) send(w http.ResponseWriter, p *peer) {
	if o.done != nil {
		defer o.done()
	}
	h := w.Header()
	if o.kind != "" {
		board.Headers(h, o.kind)
	} else {
		h["Content-Type"] = []string{kra.ContentType}
	}
	h["Content-Length"] = []string{strconv.Itoa(len(o.body))}
	h["Cache-Control"] = []string{"no-store"}
	if o.allow != "" {
		h["Allow"] = []string{o.allow}
	}
	if o.after != "" {
		h["Retry-After"] = []string{o.after}
	}
	if p.anchors == nil || p.err != nil {
		h["Connection"] = []string{"close"}
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerWithin)) // it began with the request
	w.WriteHeader(o.code)
	_, _ = w.Write(o.body) // a client that has gone cannot be told
	if o.clear {
		clear(o.body)
	}
}

// work runs f unless too many requests are at work.
func (s *Server) work(r *http.Request, f func(*http.Request) reply) reply {
	if s.count.inFlight.Add(1) > maxInFlight {
		s.count.inFlight.Add(-1)
		return busy()
	}
	defer s.count.inFlight.Add(-1)
	return f(r)
}

func (s *Server) status() reply {
	snap := s.o.Snapshot()
	st := kra.Status{State: kra.StateReady, Domain: snap.Domain, Box: snap.Box}
	if s.o.Health() != nil {
		st.State = kra.StateUnavailable
	}
	body, err := st.Encode()
	if err != nil {
		return unavailable()
	}
	return reply{code: http.StatusOK, body: body}
}

func (s *Server) keys(r *http.Request) reply {
	dir := s.o.Snapshot().Directory
	q := r.URL.Query()
	switch {
	case len(q) == 0:
		return s.directory(r, dir)
	case len(q) > 1 || len(q["access"]) != 1:
		return failure(http.StatusBadRequest, kra.CodeMalformed, "query: want access=ID,ID,... or none")
	}
	body, err := dir.some(q.Get("access"))
	if err != nil {
		return failure(http.StatusBadRequest, kra.CodeMalformed, "query: "+err.Error())
	}
	return reply{code: http.StatusOK, body: body}
}

// directory answers with the whole directory, which may be long: a source has its turn until all of it is sent.
func (s *Server) directory(r *http.Request, dir *Directory) reply {
	giveBack, ok := take(&s.lists, sourceOf(peerOf(r).addr))
	if !ok {
		return busy()
	}
	whole, err := dir.Encode()
	if err != nil {
		giveBack()
		s.o.Log.Error("encode directory", "error", err)
		return unavailable()
	}
	return reply{code: http.StatusOK, body: whole, done: giveBack}
}

// document answers with a part of the box's board. All of it was made before anybody asked; a source has its turn until it is sent.
func (s *Server) document(r *http.Request) reply {
	if s.o.Documents == nil {
		return failure(http.StatusNotFound, kra.CodePath, "")
	}
	all := s.o.Documents()
	d, ok := all[r.URL.Path]
	switch {
	case all == nil && r.URL.Path == board.PathPage:
		return unavailable()
	case !ok:
		return failure(http.StatusNotFound, kra.CodePath, "")
	}
	return only(http.MethodGet, r, func() reply {
		giveBack, ok := take(&s.lists, sourceOf(peerOf(r).addr))
		if !ok {
			return busy()
		}
		return reply{code: http.StatusOK, kind: d.Kind, body: d.Body, done: giveBack}
	})
}

// release answers a key release request. What depends on certificates and form only is answered at once; a refusal
// leaves when a multiple of the delay has passed since the request was complete, so that its time says nothing about its
// reason.
func (s *Server) release(r *http.Request) reply {
	out := s.work(r, s.releaseNow)
	if !out.complete.IsZero() {
		s.wait(out.complete)
	}
	return out
}

// wait is for the rest of a delay since a request was complete. If it began with the request's first byte, whoever sends
// the last one shortly before its end would have the work compared with as short a time as he likes. Nor does it end with
// the context of a request: that does when its time to be read is over, long before the slowest answer.
func (s *Server) wait(since time.Time) {
	time.Sleep(s.delay - time.Since(since)%s.delay)
}

// releaseNow does the work. Whoever is not known is let in as far as his request is one that asks for nothing but sealed
// keys.
func (s *Server) releaseNow(r *http.Request) reply {
	first := s.look(r)
	_, err := first.channel()
	if err == nil {
		s.count.requests.Add(1)
		return s.releaseTo(r)
	}
	s.o.Log.Debug("client certificate not accepted", "peer", first.peer.addr, "error", err)
	if bad := announced(r); bad.code != 0 {
		return bad
	}
	if !s.strangers.enter(first.peer.addr, r.ContentLength) {
		return busy()
	}
	defer s.strangers.leave(first.peer.addr, r.ContentLength)
	out := s.releaseTo(r)
	if !out.complete.IsZero() { // with its place: when that is free again tells no time either
		s.wait(out.complete)
		out.complete = time.Time{}
	}
	return out
}

func (s *Server) releaseTo(r *http.Request) reply {
	if bad := announced(r); bad.code != 0 {
		return bad
	}
	body, bad := s.body(r, s.share(s.look(r)))
	if bad.code != 0 {
		return bad
	}
	defer s.giveBack(body)
	req, err := kra.ParseRequest(body.Bytes())
	if err != nil {
		return failure(http.StatusBadRequest, kra.CodeMalformed, err.Error())
	}
	jobs, err := parse(req)
	if err != nil {
		return failure(http.StatusBadRequest, kra.CodeMalformed, err.Error())
	}
	o := s.look(r) // the body took its time: what was revoked meanwhile counts
	if _, err := o.channel(); err != nil && !s.strangers.charge(o.peer.addr, len(jobs), time.Now()) {
		return busy()
	}
	c, ok := o.claimant(req, body.Bytes())
	if !ok {
		return failure(http.StatusUnauthorized, kra.CodeCertificate, "")
	}
	if s.o.Health() != nil {
		return unavailable()
	}
	if err := s.o.Standby.enter(); err != nil && c.refuse == nil {
		c.refuse = err
	}
	out, refused := s.respond(r, o.snap.Book, &c, jobs)
	if refused {
		out.complete = body.complete
	}
	return out
}
