package release

import (
	"context"
	"crypto/x509"
	"net/http"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// groups are the groups of the box as their maintainers may see and change them.
type groups interface {
	// Show returns a group that the decryptor maintains, with a page of its members: those that follow after. Any
	// error is a refusal.
	Show(who kra.Decryptor, group, after string) (kra.GroupState, error)

	// Edit verifies that the holder of the certificate stated this, who is the decryptor, and does it. It returns when
	// the statement is in the log and the change is durable. Any error is a refusal: nothing changed, or what changed
	// is not known.
	Edit(ctx context.Context, who kra.Decryptor, cert *x509.Certificate, e kra.GroupEdit) (kra.GroupState, error)
}

// group answers a maintainer. A refusal leaves when the others do, and a turn ends no earlier: that it is over must not tell
// what the refusal's time does not.
func (s *Server) group(r *http.Request) reply {
	var now func(*http.Request) reply
	turns := &s.walks
	switch r.Method {
	case http.MethodGet:
		now = s.showGroup
	case http.MethodPost:
		now, turns = s.editGroup, &s.edits
	default:
		out := failure(http.StatusMethodNotAllowed, kra.CodeMethod, "")
		out.allow = http.MethodGet + ", " + http.MethodPost
		return out
	}
	return s.inTurn(r, turns, func() reply {
		out := s.work(r, now)
		if out.code == http.StatusForbidden {
			s.wait(out.complete)
		}
		return out
	})
}

func (s *Server) showGroup(r *http.Request) reply {
	complete := time.Now() // it has no body
	out := s.showGroupNow(r)
	out.complete = complete
	return out
}

func (s *Server) showGroupNow(r *http.Request) reply {
	o := s.look(r)
	id, err := o.channel()
	if err != nil {
		return failure(http.StatusUnauthorized, kra.CodeCertificate, "")
	}
	q := r.URL.Query()
	if len(q["group"]) != 1 || len(q["after"]) > 1 || len(q) != len(q["group"])+len(q["after"]) || kra.CheckName(q.Get("group")) != nil {
		return failure(http.StatusBadRequest, kra.CodeMalformed, "query: want group=NAME and perhaps after=DECRYPTOR")
	}
	if s.o.Groups == nil || o.stands(id) != nil {
		return failure(http.StatusForbidden, kra.CodeRefused, "")
	}
	g, err := s.o.Groups.Show(id.who, q.Get("group"), q.Get("after"))
	return s.groupReply(g, err)
}

func (s *Server) editGroup(r *http.Request) reply {
	if _, err := s.look(r).channel(); err != nil {
		return failure(http.StatusUnauthorized, kra.CodeCertificate, "")
	}
	if bad := announced(r); bad.code != 0 {
		return bad
	}
	body, bad := s.body(r, s.share(s.look(r)))
	if bad.code != 0 {
		return bad
	}
	defer s.giveBack(body)
	out := s.editGroupNow(r, body)
	out.complete = body.complete
	return out
}

func (s *Server) editGroupNow(r *http.Request, body body) reply {
	e, err := kra.ParseGroupEdit(body.Bytes())
	if err != nil {
		return failure(http.StatusBadRequest, kra.CodeMalformed, err.Error())
	}
	o := s.look(r) // the body took its time
	id, err := o.channel()
	switch {
	case err != nil:
		return failure(http.StatusUnauthorized, kra.CodeCertificate, "")
	case s.o.Health() != nil:
		return unavailable()
	case s.o.Groups == nil, o.stands(id) != nil:
		return failure(http.StatusForbidden, kra.CodeRefused, "")
	}
	g, err := s.o.Groups.Edit(r.Context(), id.who, id.chain[0], e)
	return s.groupReply(g, err)
}

func (s *Server) groupReply(g kra.GroupState, err error) reply {
	if err != nil {
		s.o.Log.Debug("group not for this client", "error", err)
		return failure(http.StatusForbidden, kra.CodeRefused, "")
	}
	body, err := g.Encode()
	if err != nil {
		s.o.Log.Error("encode group", "error", err)
		return unavailable()
	}
	return reply{code: http.StatusOK, body: body}
}
