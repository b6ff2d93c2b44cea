package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// An Identity is what a box's TLS certificate path says of it, verified to the domain root.
type Identity struct {
	URL    string     `json:"url"`
	Names  []string   `json:"names"`  // of the box: DNS names and addresses
	Label  string     `json:"label"`  // the label key that certified the box's TLS key
	Domain string     `json:"domain"` // the root's name
	Root   string     `json:"root"`   // SHA-256 of the root certificate, hexadecimal
	From   time.Time  `json:"from"`
	Until  time.Time  `json:"until"`
	Status kra.Status `json:"status"` // the box's own word
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
	if id.Status, _, err = a.Status(ctx); err != nil {
		return Identity{}, err
	}
	return id, nil
}

func identityOf(url string, s *tls.ConnectionState) (Identity, error) {
	if s == nil || len(s.VerifiedChains) == 0 || s.Version < tls.VersionTLS13 {
		return Identity{}, errors.New("connection is not verified TLS 1.3")
	}
	path := s.VerifiedChains[0]
	if err := checkLabel(path); err != nil {
		return Identity{}, err
	}
	leaf, root := path[0], path[len(path)-1]
	sum := sha256.Sum256(root.Raw)
	return Identity{URL: url, Names: namesOf(leaf), Label: path[1].Subject.CommonName, Domain: root.Subject.CommonName,
		Root: hex.EncodeToString(sum[:]), From: leaf.NotBefore, Until: leaf.NotAfter}, nil
}

func namesOf(leaf *x509.Certificate) []string {
	names := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}
