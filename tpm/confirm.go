package tpm

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// Confirm shows what the box is, now: the label key signs a statement with the challenger's nonce and channel, if the TPM is in an
// approved state, and the AK quotes the registers for it. The agent hands in nothing else of what is signed.
func (a *Agent) Confirm(ctx context.Context, c label.Challenge, channel []byte) (label.Confirmations, error) {
	if !a.confirming.TryLock() {
		return label.Confirmations{}, wire.Refused{Reason: "another challenge is being answered"}
	}
	defer a.confirming.Unlock()
	leave, err := a.enter(ctx)
	if err != nil {
		return label.Confirmations{}, err
	}
	defer leave()
	srk, err := a.ready()
	if err != nil {
		return label.Confirmations{}, err
	}
	if c.Label != "" {
		one, err := a.confirm(srk, c.Label, c.Nonce, channel)
		return label.Confirmations{Confirmations: []label.Confirmation{one}}, err
	}
	return a.confirmAll(srk, c.Nonce, channel)
}

// confirmAll shows every label that the box can be now, in the order of its enrolment. If it can be none, it says why it is not the first.
func (a *Agent) confirmAll(srk object, nonce, channel []byte) (all label.Confirmations, err error) {
	var not error
	for _, l := range a.enrolment.Labels {
		one, err := a.confirm(srk, l.Label, nonce, channel)
		var refused wire.Refused
		switch {
		case errors.As(err, &refused):
			not = cmp.Or(not, err)
			continue
		case err != nil:
			return all, err
		}
		if all.Confirmations = append(all.Confirmations, one); len(all.Confirmations) == label.MaxConfirmations {
			break
		}
	}
	if len(all.Confirmations) == 0 {
		return all, not
	}
	return all, nil
}

func noLabel(l label.ID) error {
	return wire.Refused{Reason: fmt.Sprintf("the box has no label %q", l)}
}

func (a *Agent) confirm(srk object, l label.ID, nonce, channel []byte) (label.Confirmation, error) {
	e := a.enrolment
	of, ok := e.Of(l)
	if !ok {
		return label.Confirmation{}, noLabel(l)
	}
	s, err := a.domain.Confirm(e.Box.Name, l, nonce, channel)
	if err != nil {
		return label.Confirmation{}, wire.Refused{Reason: err.Error()}
	}
	one := label.Confirmation{Statement: s, Chain: of.Chain, Platform: e.Platform, Authority: e.Authority}
	if err := a.show(srk, &one); err != nil {
		return label.Confirmation{}, refuse(err)
	}
	return one, nil
}

// show adds what the TPM and the domain say: signature, quote, and the value whose registers are found.
func (a *Agent) show(srk object, c *label.Confirmation) (err error) {
	found, err := a.device.readPCRs()
	if err != nil {
		return err
	}
	c.PCRs = label.PCRs{}
	for _, i := range label.ApprovedPCRs() {
		c.PCRs[i] = found[i]
	}
	var ok bool
	l := c.Statement.Label
	if c.Value, ok = a.valueOf(l, c.PCRs); !ok {
		return wire.Refused{Reason: fmt.Sprintf("the box holds no signed value of label %q for what it runs: install a bundle of this release", l)}
	}
	digest := sha256.Sum256(c.Statement.Bytes())
	sig, err := a.signLabel(srk, l, digest[:])
	if err != nil {
		return err
	}
	if c.Signature, err = rawSignature(sig); err != nil {
		return err
	}
	_, ak, err := a.folder.readBlob(akFile)
	if err != nil {
		return err
	}
	c.Quote, err = a.attest(ak, c.Statement.Qualifying(), label.ApprovedPCRs())
	return err
}

// signLabel has the key of a label sign a digest that this package made, if the TPM is in a state approved for the label.
func (a *Agent) signLabel(srk object, l label.ID, digest []byte) (sig tpm2.TPMTSignature, err error) {
	of, ok := a.enrolment.Of(l)
	if !ok {
		return sig, noLabel(l)
	}
	_, key, err := a.folder.readBlob(labelFile(l))
	if err != nil {
		return sig, wire.Refused{Reason: err.Error()}
	}
	err = a.signing(l, func(g granted) (err error) {
		sig, err = a.device.sign(srk, a.of(l), g, key, of.Key, digest)
		return err
	})
	return sig, err
}

// rawSignature is r and s, 32 bytes each.
func rawSignature(sig tpm2.TPMTSignature) ([]byte, error) {
	e, err := sig.Signature.ECDSA()
	if err != nil {
		return nil, fmt.Errorf("read signature: %w", err)
	}
	out := make([]byte, 64)
	r, s := e.SignatureR.Buffer, e.SignatureS.Buffer
	if len(r) > 32 || len(s) > 32 {
		return nil, fmt.Errorf("read signature: %d and %d bytes", len(r), len(s))
	}
	copy(out[32-len(r):], r)
	copy(out[64-len(s):], s)
	return out, nil
}

// attest has the AK quote registers of the SHA-256 bank for some qualifying data.
func (a *Agent) attest(ak blob, qualifying [32]byte, pcrs []int) (label.Signed, error) {
	key, err := a.device.load(*a.srk, ak)
	if err != nil {
		return label.Signed{}, fmt.Errorf("attestation key: %w", err)
	}
	defer a.device.flush(key.handle)
	q, err := tpm2.Quote{SignHandle: key.auth(tpm2.PasswordAuth(nil)), QualifyingData: tpm2.TPM2BData{Buffer: qualifying[:]},
		InScheme: ecdsaSHA256, PCRSelect: selection(pcrs)}.Execute(a.device)
	if err != nil {
		return label.Signed{}, fmt.Errorf("quote: %w", err)
	}
	return label.Signed{Attest: q.Quoted.Bytes(), Signature: tpm2.Marshal(q.Signature)}, nil
}
