package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// An Identity is what a box's TLS certificate path says of it, verified to the domain root.
type Identity struct {
	URL      string    `json:"url"`
	Domain   string    `json:"domain"`
	Box      string    `json:"box"`
	Label    string    `json:"label"` // whose key certified the box's TLS key
	Names    []string  `json:"names"` // DNS names and addresses of the box
	RootName string    `json:"root_name"`
	Root     string    `json:"root"` // SHA-256 of the root certificate, hexadecimal
	From     time.Time `json:"from"` // of the TLS key's certificate
	Until    time.Time `json:"until"`
	State    string    `json:"state"` // the box's own word, a kra.State… constant
}

// Verify connects to the agent, validates its certificate path up to the domain root
// and reads which label vouches for it.
func (a *Agent) Verify(ctx context.Context) (Identity, error) {
	req, err := a.request(ctx, kra.PathStatus, nil)
	if err != nil {
		return Identity{}, fmt.Errorf("make request: %w", err)
	}
	res, err := a.http.Do(req)
	if err != nil {
		return Identity{}, a.transportError(unwrapURL(err))
	}
	defer res.Body.Close()
	id, err := identityOf(a.URL(), res.TLS)
	if err != nil {
		return Identity{}, untrusted("believe %s: %w", a.URL(), err)
	}
	st, err := a.Status(ctx)
	if err != nil {
		return Identity{}, err
	}
	if st.Domain != id.Domain || st.Box != id.Box {
		return Identity{}, untrusted("believe %s: it calls itself box %q of %q, its certificate says %q of %q", a.URL(), st.Box, st.Domain, id.Box, id.Domain)
	}
	id.State = st.State
	return id, nil
}

func identityOf(url string, s *tls.ConnectionState) (Identity, error) {
	by, err := peerOf(s)
	if err != nil {
		return Identity{}, err
	}
	path := s.VerifiedChains[0]
	leaf, root := path[0], path[len(path)-1]
	sum := sha256.Sum256(root.Raw)
	return Identity{URL: url, Domain: by.domain, Box: by.box, Label: by.label, Names: namesOf(leaf), RootName: root.Subject.String(),
		Root: hex.EncodeToString(sum[:]), From: leaf.NotBefore, Until: leaf.NotAfter}, nil
}

func namesOf(leaf *x509.Certificate) []string {
	names := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}
