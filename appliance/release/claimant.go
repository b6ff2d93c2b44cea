package release

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/policy"
)

// Why a whole request is refused before any rule is asked. The log says it, the answer does not.
var (
	errImpostor  = errors.New("claims to be another decryptor")
	errNoSource  = errors.New("information was presented, and this box has no source that could vouch for it")
	errNobody    = errors.New("no certificate of that decryptor is known, or none can be delivered to")
	errPresented = errors.New("presents a certificate of another decryptor")
)

// A claimant is whom a request is for, how that is known, and how the keys reach him.
type claimant struct {
	facts   policy.Facts // all but answers of services
	now     time.Time
	shown   kra.Presented
	claim   string
	to      kra.To
	seal    crypto.PublicKey // nil: over the channel
	inside  bool             // he takes what the HSM sealed
	binding kra.Binding
	notes   []string
	refuse  error         // nothing is decided
	showed  *label.Digest // what a platform showed on the channel; nil: nothing
}

// An origin is a request with all that the port knows besides.
type origin struct {
	http    *http.Request
	snap    *Snapshot
	world   World
	peer    *peer
	now     time.Time
	trusted bool
	permits permits
}

// look reads everything that may change, at one time.
func (s *Server) look(r *http.Request) origin {
	o := origin{http: r, snap: s.o.Snapshot(), world: unknownWorld{}, peer: peerOf(r), permits: s.o.Permits}
	o.now, o.trusted = s.o.Clock()
	if s.o.World != nil {
		if w := s.o.World(); w != nil {
			o.world = w
		}
	}
	return o
}

// channel returns whom the secure channel proves.
func (o origin) channel() (identity, error) {
	return o.peer.identify(o.http, o.snap.Anchors, o.snap.Platforms, o.now)
}

// claimant finds out whom the request is for. ok is false when the form of the request alone says that it is for nobody:
// the channel proves nobody, and the answer is to go over it, or to a certificate that nothing names.
func (o origin) claimant(req kra.Request, body []byte) (c claimant, ok bool) {
	d, shown := req.Delivery(), req.Presented()
	c = claimant{facts: policy.Facts{Source: o.peer.addr, ClockTrusted: o.trusted, Channel: policy.Authenticated},
		now: o.now, shown: shown, claim: req.Claim(), to: d.To(), inside: d.Inside()}
	id, err := o.channel()
	if err != nil {
		if d.To() == kra.ToChannel || len(shown.Certificates) == 0 && c.claim == "" {
			return claimant{}, false
		}
		c.facts.Channel = policy.Reencrypted
	}
	c.refuse = o.settle(&c, id, req)
	if c.to != kra.ToChannel {
		c.binding = kra.NewBinding(o.snap.Domain, o.snap.Box, body)
		if c.showed != nil {
			c.binding = c.binding.On(*c.showed)
		}
	}
	return c, true
}

// settle fills in who, what is known about him and the key to seal to, or says why not.
func (o origin) settle(c *claimant, channel identity, req kra.Request) error {
	c.facts.Decryptor = channel.who
	if c.facts.Channel == policy.Authenticated && !channel.who.Claimed(c.claim) {
		return errImpostor
	}
	target, err := o.target(c, channel)
	if err != nil {
		return err
	}
	speaks := channel // whose chain is looked at for what is known
	if c.facts.Channel == policy.Reencrypted {
		c.facts.Decryptor, speaks = target.who, target
	}
	switch {
	case !c.facts.Decryptor.Claimed(c.claim):
		return errImpostor
	case target.who != c.facts.Decryptor:
		return errPresented
	}
	if c.seal, err = o.sealKey(req, target.chain[0]); err != nil {
		return err
	}
	if c.facts.Information, c.notes, err = o.resolve(c, speaks.chain); err != nil || speaks.platform == nil {
		return err
	}
	return o.shows(c, speaks.platform)
}

// target returns whose certificate is delivered to: one that was presented, or of the key repository, or the channel's.
func (o origin) target(c *claimant, channel identity) (identity, error) {
	switch {
	case len(c.shown.Certificates) > 0:
		id, err := o.snap.Anchors.recipient(c.shown.Certificates, o.now)
		if err != nil {
			return identity{}, fmt.Errorf("presented certificate: %w", err)
		}
		return id, o.world.Revoked(id.chain, o.now)
	case c.facts.Channel == policy.Reencrypted:
		return o.lookUp(c.claim)
	}
	return channel, nil
}

// sealKey returns the public key that keys are sealed to, nil if they go over the channel.
func (o origin) sealKey(req kra.Request, cert *x509.Certificate) (crypto.PublicKey, error) {
	switch d := req.Delivery(); d.To() {
	case kra.ToChannel:
		return nil, nil
	case kra.ToCertificate:
		return kra.Sealable(cert)
	case kra.ToKey:
		return d.Key(), d.VerifyKey(o.snap.Domain, o.snap.Box, cert, req.Headers())
	}
	return nil, errors.New("delivery is not set")
}

// lookUp finds the certificate of a decryptor that only its name was given of, in the key repository. Whoever published
// it there, it counts only if an anchor vouches for it.
func (o origin) lookUp(claim string) (identity, error) {
	for _, chain := range o.world.Certificates(claim) {
		id, err := o.snap.Anchors.recipient(chain, o.now)
		if err != nil || !id.who.Claimed(claim) || o.world.Revoked(id.chain, o.now) != nil {
			continue
		}
		if _, err := kra.Sealable(id.chain[0]); err == nil {
			return id, nil
		}
	}
	return identity{}, errNobody
}

// resolve asks the world about the holder of a verified chain: whether it still stands, and what else is known. For a
// request that presents nothing, the answer serves its connection for a second.
func (o origin) resolve(c *claimant, chain []*x509.Certificate) (policy.Information, []string, error) {
	k := known{world: o.world, anchors: o.snap.Anchors, trusted: o.trusted, second: o.now.Unix()}
	plain := c.facts.Channel == policy.Authenticated && len(c.shown.Attributes)+len(c.shown.Statements()) == 0
	if was := o.peer.known; plain && was.world == k.world && was.anchors == k.anchors && was.trusted == k.trusted && was.second == k.second {
		return was.information, was.notes, was.err
	}
	if k.err = o.world.Revoked(chain, o.now); k.err == nil {
		k.information, k.err = o.world.Resolve(Evidence{Chain: chain, Decryptor: c.facts.Decryptor, Attributes: c.shown.Attributes,
			Tokens: c.shown.Statements(), Channel: c.facts.Channel, Note: func(s string) { k.notes = append(k.notes, s) }}, o.now, o.trusted)
	}
	if plain {
		o.peer.known = k
	}
	return k.information, k.notes, k.err
}
