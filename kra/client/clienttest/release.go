package clienttest

import (
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"slices"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/cms"
	"github.com/keyrelease/krabox/kra/block/jwe"
	"github.com/keyrelease/krabox/kra/receipt"
)

// An asking is a request with what follows from it: whom it is for, and what keys are sealed to.
type asking struct {
	req     kra.Request
	name    string
	to      crypto.PublicKey // nil: over the channel
	binding kra.Binding
	refused bool // signed for another box, or by somebody else
}

// asking finds out whom a request is for, as an agent does; ok is false for nobody. What is presented is looked at no
// further than its certificates.
func (a *Agent) asking(body []byte, channel []*x509.Certificate) (ask asking, ok bool, err error) {
	if ask.req, err = kra.ParseRequest(body); err != nil {
		return ask, false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = ask.req
	ask.binding = kra.NewBinding(Domain, Box, body)
	shown, d := ask.req.Presented().Certificates, ask.req.Delivery()
	var cert *x509.Certificate
	switch {
	case len(channel) == 0 && d.To() == kra.ToChannel:
		return ask, false, nil
	case len(shown) > 0:
		cert = shown[0]
		_, err = cert.Verify(x509.VerifyOptions{Roots: a.pki.clientPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	case len(channel) > 0:
		cert = channel[0]
	default:
		cert = a.named[ask.req.Claim()]
	}
	if cert == nil || err != nil {
		return ask, false, err
	}
	if ask.name = cert.Subject.CommonName; len(channel) > 0 {
		ask.name = channel[0].Subject.CommonName
	}
	switch d.To() {
	case kra.ToCertificate:
		ask.to, err = kra.Sealable(cert)
	case kra.ToKey:
		ask.to, ask.refused = d.Key(), d.VerifyKey(Domain, Box, cert, ask.req.Headers()) != nil
	}
	return ask, err == nil, err
}

// release answers a request. All records of a request are logged before any key is sent.
func (a *Agent) release(ask asking) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	opened := make([]opening, len(ask.req.Headers()))
	for i, raw := range ask.req.Headers() {
		if !ask.refused {
			opened[i] = a.open(raw, ask.name)
		}
		if opened[i].fileKey != nil {
			if err := a.inside(ask, i, &opened[i]); err != nil {
				return nil, err
			}
			opened[i].index = a.log.append(opened[i])
		}
	}
	return a.answer(ask, opened)
}

type opening struct {
	fileKey []byte
	key     key
	wrap    block.Wrap
	header  block.Envelope
	index   int64
	sealed  *kra.Sealed // as an agent's HSM does that knows OAEP with SHA-1
	answer  *receipt.Hash
}

// inside seals what an agent's HSM would keep to itself.
func (a *Agent) inside(ask asking, i int, o *opening) error {
	to, ok := ask.to.(*rsa.PublicKey)
	var l Lie
	if a.lie != nil {
		l.Key = slices.Clone(o.fileKey)
		a.lie(&l)
	}
	if !ok || !l.Unasked && (!ask.req.Delivery().Inside() || o.wrap.Suite() != block.SuiteOAEPSHA1) {
		return nil
	}
	for range 2 { // the second is another ciphertext of the same key
		body, err := rsa.EncryptOAEP(crypto.SHA1.New(), rand.Reader, to, o.fileKey, nil)
		if err != nil {
			return err
		}
		s, err := kra.SealedInside(block.SuiteOAEPSHA1, body)
		if err != nil {
			return err
		}
		if o.sealed = &s; o.answer == nil {
			h := receipt.Hash(ask.binding.Answer(l.As(i), s))
			o.answer = &h
		}
		if !l.Unsaid {
			break
		}
	}
	return nil
}

func (a *Agent) open(raw []byte, name string) opening {
	h, err := envelope(raw)
	if err != nil {
		return opening{}
	}
	for _, w := range h.Wraps() {
		for _, k := range a.keys {
			if !slices.Contains(k.refs, w.Ref()) || !a.rule(k.public.Access, name) {
				continue
			}
			w := w.Named(k.id)
			if fileKey, err := k.open(w); err == nil && h.Check(fileKey) == nil {
				return opening{fileKey: fileKey, key: k, wrap: w, header: h}
			}
		}
	}
	return opening{}
}

// envelope tells the format by looking, as an agent does.
func envelope(raw []byte) (block.Envelope, error) {
	if h, err := cms.ParseHead(raw); err == nil {
		return h.Envelope()
	}
	if h, err := jwe.ParseHead(raw); err == nil {
		return h.Envelope()
	}
	h, err := block.ParseHeaderBytes(raw)
	return block.EnvelopeOf(h), err
}

func (k key) open(w block.Wrap) ([]byte, error) {
	if p, ok := k.private.(*rsa.PrivateKey); ok {
		return rsa.DecryptOAEP(w.Suite().OAEPHash().New(), nil, p, w.Body(), w.OAEPLabel())
	}
	return block.OpenEC(k.private.(*ecdh.PrivateKey), w)
}

func (a *Agent) answer(ask asking, opened []opening) ([]byte, error) {
	checkpoint, err := a.log.checkpoint()
	if err != nil {
		return nil, err
	}
	res := kra.Response{Results: make([]kra.Result, len(opened))}
	for i, o := range opened {
		if o.fileKey == nil {
			continue
		}
		raw, err := a.log.receipt(o.index)
		if err != nil {
			return nil, err
		}
		l := Lie{Key: o.fileKey, Access: o.key.public.Access, Receipt: raw, Checkpoint: checkpoint, Chain: a.pki.receiptPath.PEM()}
		if a.lie != nil {
			a.lie(&l)
		}
		k, err := block.NewFileKey(l.Key)
		if err != nil {
			return nil, err
		}
		res.Results[i] = kra.Released(k, l.Access, l.Receipt)
		if o.sealed != nil && !l.InTheClear {
			res.Results[i] = kra.ReleasedSealed(*o.sealed, l.Access, l.Receipt)
		} else if ask.to != nil && !l.InTheClear {
			s, err := ask.binding.Seal(ask.to, l.As(i), k)
			if err != nil {
				return nil, err
			}
			res.Results[i] = kra.ReleasedSealed(s, l.Access, l.Receipt)
		}
		res.Checkpoint, res.Chain = l.Checkpoint, l.Chain
	}
	return res.Append(nil)
}
