package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// releaseLabel is the label whose keys certify what an agent uses: its TLS key, its
// receipt keys and the key-release keys.
const releaseLabel = "key-release"

// An issuer is who issued a leaf: the key of a label on one box of a domain. It is read
// from the label certificate's URI kra://DOMAIN/label/LABEL/BOX, never from the leaf.
type issuer struct{ domain, label, box string }

// issuerOf holds a verified path to the domain's form: the root, or something under it,
// certified a label key, and that issued the leaf.
func issuerOf(path []*x509.Certificate) (issuer, error) {
	if len(path) < 3 {
		return issuer{}, errors.New("no label key stands between the certificate and the domain root")
	}
	l := path[1]
	if !l.IsCA || l.MaxPathLen != 0 || !l.MaxPathLenZero || len(l.URIs) != 1 {
		return issuer{}, fmt.Errorf("%q is not the certificate of a label key", l.Subject)
	}
	f := strings.Split(strings.TrimPrefix(l.URIs[0].String(), scheme), "/")
	if !strings.HasPrefix(l.URIs[0].String(), scheme) || len(f) != 4 || f[0] == "" || f[1] != "label" || f[3] == "" {
		return issuer{}, fmt.Errorf("%q does not name a label key", l.URIs[0])
	}
	by := issuer{domain: f[0], label: f[2], box: f[3]}
	if by.label != releaseLabel {
		return issuer{}, fmt.Errorf("box %s vouches with its label %q, not with %q", by.box, by.label, releaseLabel)
	}
	return by, nil
}

// checkPeer refuses a connection whose server the domain vouches for as something else
// than an agent, or that it does not permit. Nothing was sent over it yet.
func (a *Agent) checkPeer(s tls.ConnectionState) error {
	by, err := peerOf(&s)
	if err == nil {
		err = a.permits(&s, by)
	}
	if err != nil {
		return &Untrusted{err}
	}
	return nil
}

// peerOf returns which box is at the other end of a verified connection.
func peerOf(s *tls.ConnectionState) (issuer, error) {
	if s == nil || s.Version < tls.VersionTLS13 || len(s.VerifiedChains) == 0 {
		return issuer{}, errors.New("connection is not verified TLS 1.3")
	}
	return issuerOf(s.VerifiedChains[0])
}
