package tpm

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// Limits of what is bound to a label. The TPM seals no more than 128 bytes (MAX_SYM_DATA).
const (
	maxBound     = 128
	maxBoundBlob = 4 << 10
)

// BindSecret seals a secret to a label of this box: the TPM gives it out only in a state in which the label may sign. The blob holds
// nothing in the clear. Whoever has the TPM can make a blob as good as this one: that one opens says nothing of who bound it.
func (a *Agent) BindSecret(ctx context.Context, l label.ID, secret []byte) ([]byte, error) {
	if len(secret) == 0 || len(secret) > maxBound {
		return nil, wire.Refused{Reason: fmt.Sprintf("bind secret: %d bytes, want 1 to %d", len(secret), maxBound)}
	}
	leave, err := a.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	srk, err := a.having(l)
	if err != nil {
		return nil, err
	}
	b, err := a.device.seal(srk, a.of(l).under(label.Sign), secret)
	if err != nil {
		return nil, err
	}
	return json.Marshal(b.stored())
}

// OpenSecret gives back what was bound to a label, if the box may sign as that label now.
func (a *Agent) OpenSecret(ctx context.Context, l label.ID, sealed []byte) ([]byte, error) {
	b, err := a.bound(l, sealed)
	if err != nil {
		return nil, wire.Refused{Reason: "open secret: " + err.Error()}
	}
	leave, err := a.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	srk, err := a.having(l)
	if err != nil {
		return nil, err
	}
	var secret []byte
	err = a.signing(l, func(g granted) (err error) {
		secret, err = a.device.unseal(srk, a.of(l).under(label.Sign), g, b)
		return err
	})
	return secret, err
}

// bound reads a blob and refuses one under another policy than the label's, whose secret anybody might have.
func (a *Agent) bound(l label.ID, sealed []byte) (blob, error) {
	if len(sealed) > maxBoundBlob {
		return blob{}, fmt.Errorf("%d bytes, at most %d", len(sealed), maxBoundBlob)
	}
	_, b, err := parseBlob(sealed)
	if err != nil {
		return blob{}, err
	}
	t, err := sealedTemplate(a.of(l).under(label.Sign))
	if err != nil {
		return blob{}, err
	}
	if pub, err := b.public.Contents(); err != nil || !sameTemplate(*pub, t) {
		return blob{}, fmt.Errorf("it is not bound to label %q", l)
	}
	return b, nil
}

// having gives the SRK of an enrolled box that has a label.
func (a *Agent) having(l label.ID) (object, error) {
	srk, err := a.ready()
	if err != nil {
		return srk, err
	}
	if _, ok := a.enrolment.Of(l); !ok {
		return srk, noLabel(l)
	}
	return srk, nil
}
