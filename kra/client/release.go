package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A Release is a key that the agent let out, with the evidence that it wrote this
// down first. The zero Release has a spent key.
type Release struct {
	Key      block.FileKey
	Access   kra.AccessID
	Evidence Evidence
}

// An Answer is what came of one header: a Release, or the error why not. ErrRefused
// is the agent's decision; an *Untrusted error means that its receipt or its key is
// not what it says, and the key was cleared.
type Answer struct {
	Release Release
	Err     error
}

// Release asks for the keys of blocks, as many at once as a request holds, over
// connections that stay open. The answers are in the order of the headers. An error
// means that the exchange as a whole failed.
func (a *Agent) Release(ctx context.Context, headers []block.Header) ([]Answer, error) {
	return a.ReleaseEnvelopes(ctx, envelopesOf(headers))
}

func envelopesOf(headers []block.Header) []block.Envelope {
	out := make([]block.Envelope, len(headers))
	for i, h := range headers {
		out[i] = block.EnvelopeOf(h)
	}
	return out
}

// ReleaseEnvelopes is Release for blocks of any format. Only of an age block does it see that a released key is the
// block's; of others the content tells, when it is decrypted.
func (a *Agent) ReleaseEnvelopes(ctx context.Context, headers []block.Envelope) ([]Answer, error) {
	out := make([]Answer, 0, len(headers))
	for len(headers) > 0 {
		n := batch(headers, a.deliver.overhead())
		if n == 0 {
			return nil, &Damaged{fmt.Errorf("ask for release: header has %d bytes, an agent takes %d", len(headers[0].Bytes()), block.MaxHeader)}
		}
		answers, err := a.release(ctx, headers[:n])
		if err != nil {
			return nil, fmt.Errorf("ask for release: %w", err)
		}
		out, headers = append(out, answers...), headers[n:]
	}
	return out, nil
}

// batch returns how many headers fit one request, 0 if not even the first does.
func batch(headers []block.Envelope, size int) int {
	for i, h := range headers {
		n := len(h.Bytes())
		size += (n+2)/3*4 + 3
		if i == kra.MaxHeaders || size > kra.MaxBody {
			return i
		}
		if n > block.MaxHeader {
			return i
		}
	}
	return len(headers)
}

// release asks for the keys of headers that fit one request. A request whose delivery names a box is made again if another
// box of the same address answered: that one has refused it.
func (a *Agent) release(ctx context.Context, headers []block.Envelope) ([]Answer, error) {
	if a.platform != nil {
		a.one.Lock()
		defer a.one.Unlock()
	}
	to, err := a.addressee(ctx)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		shown, err := a.show(ctx)
		var answers []Answer
		from := to
		if err == nil {
			answers, from, err = a.releaseBy(ctx, to, shown, headers)
		}
		if errors.Is(err, errOtherConnection) && try < maxTries {
			continue
		}
		if err != nil || a.deliver.to != kra.ToKey || from == to || try == maxTries {
			return answers, err
		}
		to = from
	}
}

// addressee returns the box that a delivery to a key has to name: the one that answered last.
func (a *Agent) addressee(ctx context.Context) (issuer, error) {
	if a.deliver.to != kra.ToKey {
		return issuer{}, nil
	}
	if last := a.last.Load(); last != nil {
		return *last, nil
	}
	ans, err := a.exchange(ctx, kra.PathStatus, nil, kra.MaxBody)
	return ans.from, err
}

// releaseBy makes one request to a box and reads the answer of the box that it came to.
func (a *Agent) releaseBy(ctx context.Context, to issuer, shown showing, headers []block.Envelope) ([]Answer, issuer, error) {
	raw := make([][]byte, len(headers))
	for i, h := range headers {
		raw[i] = h.Bytes()
	}
	req, private, err := a.deliver.request(to, raw)
	if err != nil {
		return nil, to, err
	}
	body := req.Encode()
	ans, err := a.exchange(ctx, kra.PathRelease, body, kra.MaxResponse)
	if err != nil {
		return nil, to, err
	}
	if ans.status != http.StatusOK && ans.status != http.StatusForbidden {
		return nil, ans.from, a.rejected(ans)
	}
	if err := shown.on(ans); err != nil {
		clear(ans.body)
		return nil, ans.from, err
	}
	res, err := kra.ParseResponse(ans.body, len(headers))
	if err != nil {
		return nil, ans.from, untrusted("%w", err)
	}
	out := make([]Answer, len(headers))
	binding := kra.NewBinding(ans.from.domain, ans.from.box, body)
	if shown.digest != nil {
		binding = binding.On(*shown.digest)
	}
	for i, h := range headers {
		if res.Results[i].Refused() {
			out[i].Err = ErrRefused
			continue
		}
		key, err := a.deliver.key(req.Delivery(), res, i, binding, private)
		if err != nil {
			out[i].Err = untrusted("believe the release: %w", err)
			continue
		}
		var answer *receipt.Hash
		if sealed, is := res.Results[i].Sealed(); is {
			answer = answerOf(binding, i, sealed)
		}
		out[i] = a.answer(h, ans.from, res, res.Results[i], key, claims{answer, (*receipt.Hash)(shown.digest)})
	}
	return out, ans.from, nil
}

// answer accepts a released key only with the receipt that names this very header and
// wrap, and only if it is the header's key.
func (a *Agent) answer(h block.Envelope, from issuer, res kra.Response, r kra.Result, released block.FileKey, c claims) Answer {
	ev, err := evidenceOf(r.Receipt(), res.Checkpoint, res.Chain)
	if err == nil {
		err = ev.covers(h, from, r.Access(), c, a.trust)
	}
	var kept block.FileKey
	used := released.Use(func(key []byte) error {
		if err != nil {
			return nil
		}
		if err = h.Check(key); err != nil {
			return nil
		}
		kept, err = block.NewFileKey(append([]byte(nil), key...))
		return nil
	})
	if err = errors.Join(err, used); err != nil {
		return Answer{Err: untrusted("believe the release: %w", err)}
	}
	return Answer{Release: Release{Key: kept, Access: r.Access(), Evidence: ev}}
}

// claims are what a receipt must say of one answer, and must not say if they are nil: what the HSM sealed, and what the platform showed.
type claims struct{ inside, shown *receipt.Hash }

func same(a, b *receipt.Hash) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }

// answerOf is what the receipt must say of a key that the agent's HSM sealed, nil for
// any other: that one is bound to the request by itself.
func answerOf(b kra.Binding, i int, s kra.Sealed) *receipt.Hash {
	if _, inside := s.Inside(); !inside {
		return nil
	}
	h := receipt.Hash(b.Answer(i, s))
	return &h
}

// covers verifies the receipt up to the domain root and that it is about the release
// of h's key to access by the box that the channel leads to.
func (e Evidence) covers(h block.Envelope, from issuer, access kra.AccessID, c claims, t Trust) error {
	v, err := e.Verify(t)
	if err != nil {
		return err
	}
	if v.Name() != (receipt.Name{Domain: from.domain, Box: from.box}) {
		return fmt.Errorf("receipt is of box %q of domain %q, and box %q of domain %q answered", v.Name().Box, v.Name().Domain, from.box, from.domain)
	}
	p := v.Public()
	if p.Kind != receipt.Release || p.Access != string(access) {
		return fmt.Errorf("receipt is for %v of %q, not for the release to %q", p.Kind, p.Access, access)
	}
	if p.Header == nil || *p.Header != receipt.Hash(h.Hash()) {
		return errors.New("receipt is for another header")
	}
	if !same(p.Answer, c.inside) {
		return errors.New("receipt is for another answer, or for another request")
	}
	if !same(p.Shown, c.shown) {
		return errors.New("receipt is for another connection: it does not name what this platform showed")
	}
	for _, w := range h.Wraps() {
		named := w.Ref().Kind() == block.RefKeyID // else which key it was, only the agent knows
		if (!named || p.Item.Key == receipt.Hash(w.KeyID())) && p.Item.Ciphertext == receipt.Hash(w.Hash()) {
			return nil
		}
	}
	return errors.New("receipt is for a wrapped key that the header does not have")
}

// Status asks the agent how it is.
func (a *Agent) Status(ctx context.Context) (kra.Status, error) {
	raw, err := a.document(ctx, kra.PathStatus, kra.MaxBody)
	if err != nil {
		return kra.Status{}, err
	}
	return kra.ParseStatus(raw)
}
