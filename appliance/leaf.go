package appliance

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// How a leaf is renewed: at half its life, and again after a pause while that fails.
const (
	leafRetry    = time.Minute
	leafFraction = 2
)

// A certifier has the label key certify a TLS key. It is the TPM's process: outside of an approved state it refuses.
type certifier interface {
	LeafTLS(ctx context.Context, spki []byte) (chain [][]byte, err error)
}

// A leaf is the box's TLS certificate and key: new at each start, renewed before it ends, connections untouched.
type leaf struct {
	by   certifier
	log  *slog.Logger
	cert atomic.Pointer[tls.Certificate]
}

func newLeaf(ctx context.Context, by certifier, log *slog.Logger) (*leaf, error) {
	l := &leaf{by: by, log: log}
	return l, l.renew(ctx)
}

// get serves tls.Config.GetCertificate. An expired leaf is no leaf.
func (l *leaf) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c := l.cert.Load()
	if c == nil || time.Now().After(c.Leaf.NotAfter) {
		return nil, errors.New("no valid certificate: the label key did not certify one")
	}
	return c, nil
}

func (l *leaf) renew(ctx context.Context) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make TLS key: %w", err)
	}
	c, err := certify(ctx, key, l.by.LeafTLS)
	if err != nil {
		return fmt.Errorf("certify TLS key: %w", err)
	}
	l.cert.Store(c)
	return nil
}

// certify has f certify the key and checks that it was this key.
func certify(ctx context.Context, key crypto.Signer, f func(context.Context, []byte) ([][]byte, error)) (*tls.Certificate, error) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	chain, err := f(ctx, spki)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, errors.New("empty certificate chain")
	}
	c, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, err
	}
	if pub, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(key.Public()) {
		return nil, errors.New("the certificate is for another key")
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: c}, nil
}

// keep renews the leaf until ctx ends.
func (l *leaf) keep(ctx context.Context) {
	for {
		wait := leafRetry
		if c := l.cert.Load(); c != nil {
			wait = max(wait, time.Until(c.Leaf.NotAfter)/leafFraction)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if err := l.renew(ctx); err != nil {
			l.log.Error("renew TLS certificate", "err", err)
		}
	}
}
