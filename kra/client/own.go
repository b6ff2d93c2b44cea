package client

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/cms"
)

// A pair is a key pair of one's own, and how headers of CMS and JWE name it.
type pair struct {
	id   block.KeyID
	refs []block.Ref
	open func(block.Wrap) ([]byte, error)
}

// Own makes the opener try a certificate's private key on blocks of other formats than age's, before anybody is asked. A
// key of a kind that no suite wraps to is passed over.
func (o *Opener) Own(c tls.Certificate) error {
	if o.ask == AskAlways || len(c.Certificate) == 0 {
		return nil
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return fmt.Errorf("read own certificate: %w", err)
	}
	to, err := cms.ToCertificate(leaf)
	if err != nil {
		return nil
	}
	refs, err := block.RefsOf(leaf.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil
	}
	p := pair{id: block.KeyIDOfSPKI(leaf.RawSubjectPublicKeyInfo), refs: append(refs, to.Refs()...)}
	switch k := c.PrivateKey.(type) {
	case *rsa.PrivateKey:
		p.open = func(w block.Wrap) ([]byte, error) {
			return rsa.DecryptOAEP(w.Suite().OAEPHash().New(), nil, k, w.Body(), w.OAEPLabel())
		}
	case *ecdsa.PrivateKey:
		kx, err := k.ECDH()
		if err != nil {
			return fmt.Errorf("read own key: %w", err)
		}
		p.open = func(w block.Wrap) ([]byte, error) { return block.OpenECAs(p.id, ecdh.KeyExchanger(kx), w) }
	default:
		return nil
	}
	o.pairs = append(o.pairs, p)
	return nil
}

// openPairs opens an envelope that names one of the pairs. That what comes out is the block's key shows only with its
// content.
func (o *Opener) openPairs(e block.Envelope) (block.FileKey, error) {
	for _, w := range e.Wraps() {
		for _, p := range o.pairs {
			if !slices.Contains(p.refs, w.Ref()) {
				continue
			}
			key, err := p.open(w.Named(p.id))
			if err == nil {
				err = e.Check(key)
			}
			if err != nil {
				return block.FileKey{}, &Damaged{errors.New("open header: its key for your certificate does not open")}
			}
			return block.NewFileKey(key)
		}
	}
	return block.FileKey{}, errNoMatch
}
