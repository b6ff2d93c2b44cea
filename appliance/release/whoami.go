package release

import (
	"net/http"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/policy"
)

// whoAmI tells an authenticated decryptor what a decision about it would know now. It decides nothing and asks no service.
func (s *Server) whoAmI(r *http.Request) reply {
	o := s.look(r)
	id, err := o.channel()
	if err != nil {
		return failure(http.StatusUnauthorized, kra.CodeCertificate, "")
	}
	facts := policy.Facts{Decryptor: id.who, Source: o.peer.addr, ClockTrusted: o.trusted, Channel: policy.Authenticated}
	if facts.Information, _, err = o.resolve(&claimant{facts: facts}, id.chain); err != nil {
		s.o.Log.Debug("client certificate not accepted", "peer", o.peer.addr, "error", err)
		return failure(http.StatusUnauthorized, kra.CodeCertificate, "")
	}
	if id.platform != nil {
		c := claimant{facts: facts}
		if err := o.shows(&c, id.platform); err != nil {
			s.o.Log.Debug("platform not accepted", "peer", o.peer.addr, "error", err)
			return failure(http.StatusUnauthorized, kra.CodeCertificate, "")
		}
		facts = c.facts
	}
	w := kra.WhoAmI{Decryptor: id.who.String(), Access: o.snap.Book.WhoAmI(facts, o.now), Unavailable: facts.Information.Unavailable()}
	for _, i := range facts.Information.Items() {
		w.Information = append(w.Information, kra.Known{Kind: i.Kind.String(), Name: i.Name, Value: i.Value, Authority: i.Authority,
			Via: i.Via.String(), From: instant(i.From), Until: instant(i.Until)})
	}
	body, err := w.Encode()
	if err != nil {
		return unavailable()
	}
	return reply{code: http.StatusOK, body: body}
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
