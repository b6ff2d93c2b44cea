package client

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// A Delivery says how keys travel, and what goes along with requests. The zero
// Delivery is over the channel, with nothing.
type Delivery struct {
	To kra.To // zero is kra.ToChannel

	// Pair is the certificate that keys are sealed to, or whose key signs the key
	// that they are sealed to, with its private key: a second pair, which takes no
	// part in TLS. Nil is Config.Certificate. Its Certificate may be empty where
	// Decryptor is set.
	Pair *tls.Certificate

	// Decryptor is the whole identifier, where the agent has the certificate in its
	// key repository.
	Decryptor string

	Attributes [][]byte // attribute certificates, DER
	Tokens     []string // JSON web tokens
}

// delivery is a Delivery that was checked.
type delivery struct {
	to        kra.To
	own       bool // presents pair's certificates
	pair      tls.Certificate
	claim     string
	presented kra.Presented
}

func (d Delivery) close(channel *tls.Certificate) (delivery, error) {
	out := delivery{to: d.To, claim: d.Decryptor, presented: kra.Presented{Attributes: d.Attributes, Tokens: d.Tokens}}
	if d.To == 0 {
		out.to = kra.ToChannel
	}
	if out.to == kra.ToChannel {
		return out, nil
	}
	switch {
	case d.Pair != nil:
		out.pair, out.own = *d.Pair, len(d.Pair.Certificate) > 0
	case channel != nil:
		out.pair = *channel
	}
	if out.pair.PrivateKey == nil {
		return delivery{}, errors.New("prepare delivery: no private key to open answers with")
	}
	if !out.own && channel == nil && d.Decryptor == "" {
		return delivery{}, errors.New("prepare delivery: neither a certificate nor a decryptor is named")
	}
	var certs []*x509.Certificate
	for _, der := range out.pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return delivery{}, fmt.Errorf("prepare delivery: %w", err)
		}
		certs = append(certs, c)
	}
	if out.to == kra.ToCertificate && len(certs) > 0 {
		if _, err := kra.Sealable(certs[0]); err != nil { // an agent would refuse and not say why
			return delivery{}, fmt.Errorf("prepare delivery: %w", err)
		}
	}
	if out.own {
		out.presented.Certificates = certs
	}
	return out, nil
}

// request makes the request to a box for headers and returns what opens the answer. The box matters only if the delivery
// is to a key.
func (d delivery) request(box issuer, headers [][]byte) (req kra.Request, private any, err error) {
	if req, err = kra.NewRequest(headers, d.claim); err != nil {
		return req, nil, err
	}
	if req, err = req.Present(d.presented); err != nil {
		return req, nil, err
	}
	var how kra.Delivery
	switch d.to {
	case kra.ToKey:
		once, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			return req, nil, fmt.Errorf("make delivery key: %w", err)
		}
		signer, ok := d.pair.PrivateKey.(crypto.Signer)
		if !ok {
			return req, nil, errors.New("make delivery key: the certified key signs nothing")
		}
		if how, err = kra.SignDelivery(box.domain, box.box, once.PublicKey(), headers, signer); err != nil {
			return req, nil, err
		}
		private = once
	default:
		if how, err = kra.NewDelivery(d.to); err != nil {
			return req, nil, err
		}
		if d.insideOf(headers) {
			how = kra.NewInside()
		}
		private = d.pair.PrivateKey
	}
	req, err = req.Deliver(how)
	return req, private, err
}

// insideOf reports whether an agent's HSM may seal keys of these headers: that of a certificate is RSA's, and one of them
// is no age header, whose key is not the HSM's alone to see.
func (d delivery) insideOf(headers [][]byte) bool {
	own, ok := d.pair.PrivateKey.(interface{ Public() crypto.PublicKey })
	if d.to != kra.ToCertificate || !ok {
		return false
	}
	_, isRSA := own.Public().(*rsa.PublicKey)
	return isRSA && slices.ContainsFunc(headers, func(h []byte) bool { return !bytes.HasPrefix(h, []byte("age-encryption.org/")) })
}

// overhead is how many bytes of a request are not headers.
func (d delivery) overhead() int {
	req, _, err := d.request(issuer{}, [][]byte{{0}})
	if err != nil {
		return 0 // release says so
	}
	return len(req.Encode())
}

// key returns result i, opened if it had to be sealed. Nothing else than what was
// asked for is taken.
func (d delivery) key(asked kra.Delivery, res kra.Response, i int, b kra.Binding, private any) (block.FileKey, error) {
	sealed, is := res.Results[i].Sealed()
	_, inside := sealed.Inside()
	switch {
	case inside && !asked.Inside():
		return block.FileKey{}, errors.New("the key is sealed within the HSM, which nobody asked for")
	case d.to == kra.ToChannel && is:
		return block.FileKey{}, errors.New("the key is sealed, which nobody asked for")
	case d.to == kra.ToChannel:
		return res.Results[i].Key(), nil
	case !is:
		_ = res.Results[i].Key().Use(func([]byte) error { return nil })
		return block.FileKey{}, errors.New("the key is not sealed")
	}
	return b.Open(private, i, sealed)
}
