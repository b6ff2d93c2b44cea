package release

import (
	"bytes"
	"context"
	"io"
	"mime"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/policy"
)

// pooledBody is the largest buffer that is kept for another request.
const pooledBody = 64 << 10

// maxBodiesOfOne bounds the bytes of all bodies of one decryptor that are being read or at work: an eighth of all.
const maxBodiesOfOne = maxBodies / 8

// announced judges a body by what the head of the request says of it.
func announced(r *http.Request) reply {
	switch {
	case !isJSON(r.Header.Get("Content-Type")):
		return failure(http.StatusUnsupportedMediaType, kra.CodeMedia, "")
	case r.ContentLength < 0:
		return failure(http.StatusLengthRequired, kra.CodeLength, "")
	case r.ContentLength > kra.MaxBody:
		return failure(http.StatusRequestEntityTooLarge, kra.CodeSize, "")
	}
	return reply{}
}

// A body is what a request said, and what must be given back for it.
type body struct {
	*bytes.Buffer
	n        int64
	share    *atomic.Int64 // of a decryptor; nil: a stranger's, whose source bounds it
	complete time.Time     // when the last byte was here
}

// share returns what counts the bytes of whom the channel proves.
func (s *Server) share(o origin) *atomic.Int64 {
	id, err := o.channel()
	if err != nil {
		return nil
	}
	return placeOf(&s.held, id.who)
}

// body reads the body of a request, within all bounds. It must be given back.
func (s *Server) body(r *http.Request, share *atomic.Int64) (body, reply) {
	n := r.ContentLength
	if share != nil && share.Add(n) > maxBodiesOfOne {
		share.Add(-n)
		return body{}, busy()
	}
	b := body{n: n, share: share}
	if s.count.bodies.Add(n) > maxBodies {
		s.giveBack(b)
		return body{}, busy()
	}
	var ok bool
	if b.Buffer, ok = s.bodies.Get().(*bytes.Buffer); !ok {
		b.Buffer = new(bytes.Buffer)
	}
	b.Reset()
	if _, err := io.CopyN(b, r.Body, n); err != nil {
		s.giveBack(b)
		return body{}, failure(http.StatusBadRequest, kra.CodeMalformed, "body: shorter than its Content-Length")
	}
	b.complete = time.Now()
	return b, reply{}
}

func (s *Server) giveBack(b body) {
	s.count.bodies.Add(-b.n)
	if b.share != nil {
		b.share.Add(-b.n)
	}
	if b.Buffer != nil && b.Cap() <= pooledBody {
		s.bodies.Put(b.Buffer)
	}
}

func isJSON(contentType string) bool {
	if contentType == kra.ContentType {
		return true
	}
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && t == kra.ContentType
}

// respond runs the jobs and makes the reply.
func (s *Server) respond(r *http.Request, book *policy.Book, c *claimant, jobs []job) (out reply, refused bool) {
	ctx := context.WithoutCancel(r.Context()) // the work does not end with the connection: what the HSM did must reach the log
	resp, err := s.run(ctx, book, c, jobs)
	if err != nil {
		s.count.failed.Add(1)
		s.o.Log.Error("release failed", "error", err)
		return unavailable(), false
	}
	released := 0
	for _, res := range resp.Results {
		if !res.Refused() {
			released++
		}
	}
	s.count.released.Add(uint64(released))
	if c.facts.Channel == policy.Reencrypted {
		s.strangers.released(c.facts.Source, released)
	}
	s.count.refused.Add(uint64(len(resp.Results) - released))
	body, err := resp.Append(make([]byte, 0, 4096+2048*released))
	if err != nil {
		s.o.Log.Error("release failed", "error", err)
		return unavailable(), false
	}
	code := http.StatusOK
	if released == 0 {
		code = http.StatusForbidden
	}
	return reply{code: code, body: body, clear: true}, released < len(resp.Results)
}
