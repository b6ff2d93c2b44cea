package tpm

import (
	"context"
	"crypto/sha256"
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
	if c.Label != "" && c.Label != a.label {
		return label.Confirmations{}, wire.Refused{Reason: fmt.Sprintf("the box has no label %q", c.Label)}
	}
	e := a.enrolment
	s, err := a.domain.Confirm(e.Box.Name, a.label, c.Nonce, channel)
	if err != nil {
		return label.Confirmations{}, wire.Refused{Reason: err.Error()}
	}
	one := label.Confirmation{Statement: s, Chain: e.Chain, Platform: e.Platform, Authority: e.Authority}
	if err := a.show(srk, &one); err != nil {
		return label.Confirmations{}, refuse(err)
	}
	return label.Confirmations{Confirmations: []label.Confirmation{one}}, nil
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
	if c.Value, ok = a.valueOf(c.PCRs); !ok {
		return wire.Refused{Reason: "the box holds no signed value of its label for what it runs: install a bundle of this release"}
	}
	digest := sha256.Sum256(c.Statement.Bytes())
	sig, err := a.signLabel(srk, digest[:])
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

// signLabel has the label key sign a digest that this package made, if the TPM is in an approved state.
func (a *Agent) signLabel(srk object, digest []byte) (sig tpm2.TPMTSignature, err error) {
	_, key, err := a.folder.readBlob(labelFile)
	if err != nil {
		return sig, wire.Refused{Reason: err.Error()}
	}
	err = a.signing(func(approval label.Approval) (err error) {
		sig, err = a.device.sign(srk, a.plan, approval, key, a.enrolment.LabelKey, digest)
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
