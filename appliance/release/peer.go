package release

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/keyrelease/krabox/kra/policy"
)

// A peer is one connection's other end. It belongs to the goroutine that serves the connection.
type peer struct {
	addr netip.Addr

	// The last verdict on the certificates, and what it was based on.
	anchors   *Anchors
	platforms *Platforms
	id        identity
	err       error

	known known

	nonce nonce  // that the platform at the other end was given and has not used
	shown *shown // what it showed since; nil: nothing that counts
	doubt string // why its last showing did not count; "" if it did, or there was none
}

// known is what a world said last of the peer, and what that was based on.
type known struct {
	world       World
	anchors     *Anchors
	trusted     bool
	second      int64
	information policy.Information
	notes       []string
	err         error
}

type peerKey struct{}

// withPeer is http.Server.ConnContext.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return withThisPeer(ctx, &peer{addr: addrOf(c)})
}

// addrOf returns the other end's address, the zero Addr if it has none.
func addrOf(c net.Conn) netip.Addr {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

func withThisPeer(ctx context.Context, p *peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

func peerOf(r *http.Request) *peer {
	if p, ok := r.Context().Value(peerKey{}).(*peer); ok {
		return p
	}
	return &peer{}
}

// identify returns who the peer is. A verdict serves until the anchors change or a certificate's time is over, so that
// removing an anchor works at once on connections that are open.
func (p *peer) identify(r *http.Request, a *Anchors, of *Platforms, now time.Time) (identity, error) {
	if p.anchors == a && p.platforms == of && (p.err != nil || !now.Before(p.id.from) && !now.After(p.id.until)) {
		return p.id, p.err
	}
	var sent []*x509.Certificate
	if r.TLS != nil {
		sent = r.TLS.PeerCertificates
	}
	p.anchors, p.platforms = a, of
	p.id, p.err = a.identify(sent, now)
	if p.err == nil || of == nil {
		return p.id, p.err
	}
	id, err := of.identify(sent, now)
	if err != nil {
		p.err = fmt.Errorf("%w; as a platform: %w", p.err, err)
		return p.id, p.err
	}
	p.id, p.err = id, nil
	return p.id, nil
}
