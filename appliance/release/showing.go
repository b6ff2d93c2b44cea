package release

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/policy"
)

// nonceWithin is how long a platform has to answer a nonce: a hardware TPM takes a second for a confirmation, a busy one some more.
const nonceWithin = time.Minute

// A nonce is what a platform has to answer on this connection. It is good once.
type nonce struct {
	is []byte // nil: none was given, or it was used
	at time.Time
}

// shown is what a platform showed on this connection, verified: it is of the certificates of this connection and of no other.
type shown struct {
	digest label.Digest
	at     time.Time // when its nonce was made up

	version  uint64       // of the state that it confirmed; 0: it confirmed none
	attester label.Digest // key that quoted it
	root     *x509.Certificate
	document label.Digest // of what it says that its label means; zero: it said nothing, or was not asked
}

// platform answers POST /v1/platform: the first one on a connection gets a nonce, the next one brings what the platform's label key
// signed for it. All that does not count is refused alike; why is in the log, and in the record of the next release on the connection.
func (s *Server) platform(r *http.Request) reply {
	if id, err := s.look(r).channel(); err != nil || id.platform == nil {
		return failure(http.StatusUnauthorized, kra.CodeCertificate, "")
	}
	if bad := announced(r); bad.code != 0 {
		return bad
	}
	if r.ContentLength > label.MaxShowing {
		return failure(http.StatusRequestEntityTooLarge, kra.CodeSize, "")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, label.MaxShowing))
	if err != nil {
		return failure(http.StatusBadRequest, kra.CodeMalformed, "body: shorter than its Content-Length")
	}
	complete := time.Now()
	show, err := label.ParseShowing(body)
	if err != nil {
		return failure(http.StatusBadRequest, kra.CodeMalformed, err.Error())
	}
	p := peerOf(r) // who holds a place has sent all that there is to send
	if show.Asks() {
		p.nonce = nonce{make([]byte, label.NonceSize), complete}
		rand.Read(p.nonce.is)
		return reply{code: http.StatusOK, body: label.Shown{Nonce: p.nonce.is, Seconds: int(nonceWithin / time.Second)}.Bytes()}
	}
	if !s.showers.enter(p.addr) {
		return busy()
	}
	defer s.showers.leave(p.addr)
	return s.take(r, show, complete)
}

// take verifies a showing, one at a time, so that however many come they take no more than one processor from releases.
func (s *Server) take(r *http.Request, show label.Showing, complete time.Time) reply {
	p := peerOf(r)
	select {
	case <-s.showers.turn:
	case <-time.After(turnWithin):
		return busy()
	}
	seen, err := func() (*shown, error) {
		defer func() { s.showers.turn <- struct{}{} }() // whatever happens: nobody could confirm anything any more
		return s.look(r).verify(show, complete)
	}()
	p.shown, p.nonce, p.doubt = seen, nonce{}, ""
	if err != nil {
		p.doubt = "what the platform showed does not count: " + err.Error()
		s.o.Log.Warn("platform refused", "peer", p.addr, "error", err)
		s.wait(complete)
		return failure(http.StatusForbidden, kra.CodeRefused, "")
	}
	return reply{code: http.StatusOK, body: label.Shown{Shown: &seen.digest}.Bytes()}
}

// verify holds a showing to the nonce and the channel of its connection, and to whom the channel's certificates speak for.
func (o origin) verify(show label.Showing, now time.Time) (*shown, error) {
	id, err := o.channel()
	if err != nil || id.platform == nil {
		return nil, errors.New("the channel proves no platform any more")
	}
	n := o.peer.nonce
	switch {
	case n.is == nil:
		return nil, errors.New("it answers a nonce that this connection was not given, or has used")
	case now.Sub(n.at) > nonceWithin:
		return nil, fmt.Errorf("it is stale: the nonce was given %v ago", now.Sub(n.at).Round(time.Second))
	}
	channel, err := o.http.TLS.ExportKeyingMaterial(label.PlatformExporter, n.is, label.NonceSize)
	if err != nil {
		return nil, fmt.Errorf("bind to channel: %w", err)
	}
	seen := &shown{digest: show.Digest(), at: n.at, root: id.platform.domain.Root}
	if c := show.Confirmation; c != nil {
		if seen.version, seen.attester, err = id.platform.confirms(*c, n.is, channel, o.now); err != nil {
			return nil, err
		}
	}
	if i := show.Interpretation; i != nil {
		if seen.document, err = id.platform.means(*i, n.is, channel); err != nil {
			return nil, err
		}
	}
	return seen, o.allowed(id.platform, seen)
}

// confirms verifies a confirmation: the platform that the channel's certificates speak for is in a state that its domain signed.
func (p *platform) confirms(c label.Confirmation, nonce, channel []byte, now time.Time) (version uint64, attester label.Digest, err error) {
	if p.holder.Unmeasured {
		return 0, attester, errors.New("its label key is measured by nothing: it cannot confirm a state")
	}
	if len(c.Chain) == 0 || !bytes.Equal(c.Chain[0], p.cert.Raw) {
		return 0, attester, errors.New("it is of another label key than the channel")
	}
	roots := x509.NewCertPool()
	roots.AddCert(p.domain.Root)
	v, err := c.Verify(label.Asked{Roots: roots, Now: now, Nonce: nonce, Channel: channel})
	if err != nil {
		return 0, attester, err
	}
	of := v.Value()
	if v.Box() != p.holder.Name || of.Label != p.holder.Label || of.Domain != p.holder.Domain || of.Version > policy.MaxVersion {
		return 0, attester, errors.New("it is of another platform, or of another label, than the channel")
	}
	ak, err := x509.ParseCertificate(c.Platform)
	if err != nil {
		return 0, attester, err
	}
	return of.Version, label.KeyOf(ak), nil
}

// means verifies what the platform says of its label, and gives the description's digest: the one that the officers know, or, where they
// named none, the one that its domain signed.
func (p *platform) means(i label.Interpretation, nonce, channel []byte) (document label.Digest, err error) {
	document = p.label.Document
	if document == (label.Digest{}) {
		if _, document, err = label.Description(p.cert); err != nil {
			return document, err
		}
	}
	return document, i.Verify(p.holder, p.cert, document, nonce, channel)
}

// allowed asks the platform's domain, and nobody where no permissions are kept.
func (o origin) allowed(p *platform, seen *shown) error {
	if o.permits == nil {
		return nil
	}
	keys, version := []label.Digest{label.KeyOf(p.cert)}, uint64(0)
	if seen != nil && seen.version != 0 {
		keys, version = append(keys, seen.attester), seen.version
	}
	return o.permits(p.holder, version, o.now, keys...)
}

// stands says why whom the channel proves does not count any more, if so.
func (o origin) stands(id identity) error {
	if err := o.world.Revoked(id.chain, o.now); err != nil || id.platform == nil {
		return err
	}
	return o.allowed(id.platform, o.peer.shown)
}

// shows fills in what rules may ask of a platform: what its label certificate says, and what counts of what it showed. A platform whose
// label has to be interpreted, and was not, is none. A revoked one gets nothing, whatever else speaks for it.
func (o origin) shows(c *claimant, p *platform) error {
	seen := o.peer.shown
	if seen != nil && !seen.root.Equal(p.domain.Root) {
		seen = nil
	}
	if o.peer.doubt != "" {
		c.notes = append(c.notes, o.peer.doubt)
	}
	if err := o.allowed(p, seen); err != nil {
		return err
	}
	if d := p.label.Document; d != (label.Digest{}) && (seen == nil || seen.document != d) {
		c.notes = append(c.notes, "the platform did not state on this connection that its label means "+d.String())
		return nil
	}
	c.facts.Platform = policy.Platform{Domain: p.holder.Domain, Label: p.label.As, Name: p.holder.Name, Unmeasured: p.holder.Unmeasured}
	if seen == nil {
		return nil
	}
	c.showed = &seen.digest
	if seen.version != 0 {
		c.facts.Platform.Version, c.facts.Platform.Confirmation = seen.version, seen.digest
		c.facts.Platform.Age = max(0, int64(time.Since(seen.at)/time.Second))
	}
	return nil
}
