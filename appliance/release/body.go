package release

import (
	"bytes"
	"context"
	"io"
	"mime"
	"net/http"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/policy"
)

// pooledBody is the largest buffer that is kept for another request.
const pooledBody = 64 << 10

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

// body reads the body of a request, within all bounds. It must be given back.
func (s *Server) body(r *http.Request) (*bytes.Buffer, reply) {
	n := r.ContentLength
	if s.count.bodies.Add(n) > maxBodies {
		s.count.bodies.Add(-n)
		return nil, busy()
	}
	b, ok := s.bodies.Get().(*bytes.Buffer)
	if !ok {
		b = new(bytes.Buffer)
	}
	b.Reset()
	if _, err := io.CopyN(b, r.Body, n); err != nil {
		s.giveBack(b, n)
		return nil, failure(http.StatusBadRequest, kra.CodeMalformed, "body: shorter than its Content-Length")
	}
	return b, reply{}
}

func (s *Server) giveBack(b *bytes.Buffer, n int64) {
	s.count.bodies.Add(-n)
	if b.Cap() <= pooledBody {
		s.bodies.Put(b)
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
