package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"net/http"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/label"
)

// Challenge asks the agent to show, now and on this connection, that it is what the label says, and verifies the answer up to the
// domain's root. It says nothing of other connections, which may lead to another box. An agent whose software is in another state answers with a *Rejected of kra.CodeLabel, or not at all.
func (a *Agent) Challenge(ctx context.Context, l label.ID) (label.Confirmed, error) {
	v, _, err := a.challenge(ctx, label.Challenge{Label: l})
	return v, err
}

// challenge also gives the connection on which the box showed it. It draws the nonce.
func (a *Agent) challenge(ctx context.Context, c label.Challenge) (label.Confirmed, *tls.ConnectionState, error) {
	c.Nonce = make([]byte, label.NonceSize)
	rand.Read(c.Nonce)
	ans, err := a.exchange(ctx, kra.PathChallenge, c.Bytes(), label.MaxConfirmation)
	if err != nil {
		return label.Confirmed{}, nil, err
	}
	if ans.status != http.StatusOK {
		return label.Confirmed{}, nil, a.rejected(ans)
	}
	v, err := a.confirmed(c, ans)
	return v, ans.channel, err
}

// confirmed wants the one label that was asked for, of the box that the connection's certificate names.
func (a *Agent) confirmed(c label.Challenge, ans answer) (label.Confirmed, error) {
	all, err := label.ParseConfirmations(ans.body)
	if err != nil {
		return label.Confirmed{}, untrusted("believe %s: %w", a.URL(), err)
	}
	channel, err := exported(ans.channel, c.Nonce)
	if err != nil {
		return label.Confirmed{}, untrusted("believe %s: %w", a.URL(), err)
	}
	if len(all.Confirmations) != 1 {
		return label.Confirmed{}, untrusted("believe %s: %d confirmations, asked for one label", a.URL(), len(all.Confirmations))
	}
	one := all.Confirmations[0]
	if by := ans.channel.VerifiedChains[0][1]; !bytes.Equal(one.Chain[0], by.Raw) {
		return label.Confirmed{}, untrusted("believe %s: the key of label %q that certified this connection is not the one that answers", a.URL(), ans.from.label)
	}
	v, err := one.Verify(label.Asked{Roots: a.trust.Roots(), Now: time.Now(), Nonce: c.Nonce, Channel: channel, MinEpoch: a.least})
	if err != nil {
		return label.Confirmed{}, untrusted("believe %s: %w", a.URL(), err)
	}
	if got := v.Value(); v.Box() != ans.from.box || got.Domain != ans.from.domain || got.Label != c.Label {
		return label.Confirmed{}, untrusted("believe %s: box %q of %q confirms label %q; the connection is with box %q of %q, asked for %q",
			a.URL(), v.Box(), got.Domain, got.Label, ans.from.box, ans.from.domain, c.Label)
	}
	if err := a.permitsConfirmed(ans, one, v); err != nil {
		return label.Confirmed{}, untrusted("believe %s: %w", a.URL(), err)
	}
	return v, nil
}

func exported(s *tls.ConnectionState, nonce []byte) ([]byte, error) {
	return s.ExportKeyingMaterial(label.Exporter, nonce, label.NonceSize)
}
