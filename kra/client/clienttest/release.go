package clienttest

import (
	"crypto/ecdh"
	"crypto/rsa"
	"crypto/sha256"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// release answers a request's body. All records of a request are logged before any key is sent.
func (a *Agent) release(body []byte, name string) ([]byte, error) {
	req, err := kra.ParseRequest(body)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	opened := make([]opening, len(req.Headers()))
	for i, raw := range req.Headers() {
		opened[i] = a.open(raw, name)
		if opened[i].fileKey != nil {
			opened[i].index = a.log.append(opened[i])
		}
	}
	return a.answer(opened)
}

type opening struct {
	fileKey []byte
	key     key
	wrap    block.Wrap
	header  block.Header
	index   int64
}

func (a *Agent) open(raw []byte, name string) opening {
	h, err := block.ParseHeaderBytes(raw)
	if err != nil {
		return opening{}
	}
	for _, w := range h.Wraps() {
		for _, k := range a.keys {
			if k.id != w.KeyID() || !a.rule(k.public.Access, name) {
				continue
			}
			if fileKey, err := k.open(w); err == nil && h.VerifyMAC(fileKey) == nil {
				return opening{fileKey: fileKey, key: k, wrap: w, header: h}
			}
		}
	}
	return opening{}
}

func (k key) open(w block.Wrap) ([]byte, error) {
	if p, ok := k.private.(*rsa.PrivateKey); ok {
		return rsa.DecryptOAEP(sha256.New(), nil, p, w.Body(), block.Info(w.KeyID()))
	}
	return block.OpenP256(k.private.(*ecdh.PrivateKey), w)
}

func (a *Agent) answer(opened []opening) ([]byte, error) {
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
		l := Lie{o.fileKey, o.key.public.Access, raw, checkpoint, a.pki.receiptPath.PEM()}
		if a.lie != nil {
			a.lie(&l)
		}
		k, err := block.NewFileKey(l.Key)
		if err != nil {
			return nil, err
		}
		res.Results[i] = kra.Released(k, l.Access, l.Receipt)
		res.Checkpoint, res.Chain = l.Checkpoint, l.Chain
	}
	return res.Append(nil)
}
