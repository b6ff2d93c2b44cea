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

// leafEvery is how often a leaf is looked at: it is renewed from half its life on, again and again while that fails. What is
// looked at is the clock of the wall, which may be set.
const leafEvery = time.Minute

// A certifier has the label key certify a TLS key. It is the TPM's process: outside of an approved state it refuses.
type certifier interface {
	LeafTLS(ctx context.Context, spki []byte) (chain [][]byte, err error)
}

// A leaf is the box's TLS certificate and key: new at each start, renewed before it ends, connections untouched.
type leaf struct {
	by     certifier
	log    *slog.Logger
	now    func() time.Time
	cert   atomic.Pointer[tls.Certificate]
	failed atomic.Pointer[error] // why the last renewal failed
}

func newLeaf(ctx context.Context, by certifier, now func() time.Time, log *slog.Logger) (*leaf, error) {
	l := &leaf{by: by, log: log, now: now}
	return l, l.renew(ctx)
}

// get serves tls.Config.GetCertificate. An expired leaf is no leaf.
func (l *leaf) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c := l.cert.Load()
	if c == nil || l.now().After(c.Leaf.NotAfter) {
		return nil, errors.New("no valid certificate: the label key did not certify one")
	}
	return c, nil
}

// there says whether there is a certificate that has not ended, and so a key.
func (l *leaf) there() bool {
	_, err := l.get(nil)
	return err == nil
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

// keep renews the leaf when it is due, at each tick, until ctx ends.
func (l *leaf) keep(ctx context.Context, tick <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			l.look(ctx)
		}
	}
}

// look renews the leaf if it is due. The one that is there serves on while that fails, until it ends.
func (l *leaf) look(ctx context.Context) {
	if !l.due() {
		return
	}
	err := l.renew(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		l.log.Error("renew TLS certificate", "err", err)
		l.failed.Store(&err)
		return
	}
	l.failed.Store(nil)
}

// due reports whether half of the leaf's life is over, or has not begun because the clock was set back.
func (l *leaf) due() bool {
	c, now := l.cert.Load().Leaf, l.now()
	return now.Before(c.NotBefore) || now.After(c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore)/2))
}

// health says what is wrong with the leaf, if anything is.
func (l *leaf) health() error {
	err := l.failed.Load()
	if err == nil {
		return l.ending()
	}
	return fmt.Errorf("TLS certificate: not renewed, ends %s UTC: %w", l.cert.Load().Leaf.NotAfter.UTC().Format(time.DateTime), *err)
}

// endingSoon is how long before its end the certificate of the label key is spoken of: a desk needs its people for another one.
const endingSoon = 90 * 24 * time.Hour

// ending says when the label key's certificate, which all others are under, is about to end: without another one the box is locked at the
// first start after that.
func (l *leaf) ending() error {
	by, err := x509.ParseCertificate(l.cert.Load().Certificate[1])
	if err != nil {
		return fmt.Errorf("the domain's certificate of this box: %w", err)
	}
	if l.now().Before(by.NotAfter.Add(-endingSoon)) {
		return nil
	}
	return fmt.Errorf("the domain's certificate of this box ends %s UTC, and the box opens no more then; before that: enrol request, at the desk domain rekey, and enrol install",
		by.NotAfter.UTC().Format(time.DateTime))
}
