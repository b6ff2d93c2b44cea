package tpm

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
)

// A use is one thing to do under a policy.
type use struct {
	policy  policy
	command tpm2.TPMCC        // the command code that the policy's branch needs, or 0
	opts    []tpm2.AuthOption // parameter encryption where a secret moves
	do      func(tpm2.Session) error
}

// A granted is an approval, and the operator's word where it wants one.
type granted struct {
	label.Approval
	word *word
}

// authorize satisfies u's policy by an approval, in a session salted to the SRK, and runs u in it. The domain's
// signature is checked by the TPM before anything else is loaded, so one transient slot is enough. Nothing here
// decides: every refusal is the TPM's.
func (d *Device) authorize(srk object, g granted, u use) error {
	a := g.Approval
	ticket, err := d.verifySigned(u.policy.plan, a)
	if err != nil {
		return err
	}
	steps, err := u.policy.plan.steps(a)
	if err != nil {
		return err
	}
	s, done, err := srk.policySession(d, u.opts...)
	if err != nil {
		return fmt.Errorf("start policy session: %w", err)
	}
	defer func() { _ = done() }()
	for _, st := range steps {
		run := st.run
		if run == nil && g.word != nil {
			run = g.word.repeat
		}
		if run == nil {
			continue // the policy stays short of what was approved, and the TPM refuses it
		}
		if err := run(d, s); err != nil {
			return fmt.Errorf("approved policy: %w", err)
		}
	}
	if err := d.authorized(s, a, u, ticket); err != nil {
		return err
	}
	return u.do(s)
}

// verifySigned has the TPM check the domain's signature of an approval.
func (d *Device) verifySigned(p plan, a label.Approval) (tpm2.TPMTTKVerified, error) {
	key := p.domain.Key(a.By)
	pub, err := tpm2.Unmarshal[tpm2.TPMTPublic](key.Public())
	if err != nil || len(a.Signature) != 64 {
		return tpm2.TPMTTKVerified{}, fmt.Errorf("load domain key %s: %w", a.By, err)
	}
	ext, err := tpm2.LoadExternal{Hierarchy: tpm2.TPMRHOwner, InPublic: tpm2.New2B(*pub)}.Execute(d)
	if err != nil {
		return tpm2.TPMTTKVerified{}, fmt.Errorf("load domain key %s: %w", a.By, err)
	}
	defer d.flush(ext.ObjectHandle)
	digest := a.Signed()
	v, err := tpm2.VerifySignature{KeyHandle: ext.ObjectHandle, Digest: tpm2.TPM2BDigest{Buffer: digest[:]}, Signature: ecdsaSignature(a.Signature)}.Execute(d)
	if err != nil {
		return tpm2.TPMTTKVerified{}, fmt.Errorf("verify approval: %w", err)
	}
	return v.Validation, nil
}

// ecdsaSignature is r and s, 32 bytes each, as a TPM takes them.
func ecdsaSignature(rs []byte) tpm2.TPMTSignature {
	return tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{Hash: tpm2.TPMAlgSHA256,
		SignatureR: tpm2.TPM2BECCParameter{Buffer: rs[:32]}, SignatureS: tpm2.TPM2BECCParameter{Buffer: rs[32:]}})}
}

func (d *Device) authorized(s tpm2.Session, a label.Approval, u use, ticket tpm2.TPMTTKVerified) error {
	p := u.policy.plan
	if _, err := (tpm2.PolicyAuthorize{PolicySession: s.Handle(), ApprovedPolicy: tpm2.TPM2BDigest{Buffer: a.Policy[:]}, PolicyRef: p.ref(a.Kind),
		KeySign: name2B(p.domain.Key(a.By).Name()), CheckTicket: ticket}).Execute(d); err != nil {
		return fmt.Errorf("policy authorize: %w", err)
	}
	if u.command != 0 {
		if _, err := (tpm2.PolicyCommandCode{PolicySession: s.Handle(), Code: u.command}).Execute(d); err != nil {
			return fmt.Errorf("policy command code: %w", err)
		}
	}
	branches, err := u.policy.list()
	if err != nil {
		return err
	}
	if _, err := (tpm2.PolicyOr{PolicySession: s.Handle(), PHashList: branches}).Execute(d); err != nil {
		return fmt.Errorf("policy or: %w", err)
	}
	return nil
}

// unseal opens a sealed blob; the secret crosses the bus encrypted.
func (d *Device) unseal(srk object, p policy, g granted, b blob) (secret []byte, err error) {
	err = d.authorize(srk, g, use{policy: p, opts: []tpm2.AuthOption{encryptOut}, do: func(s tpm2.Session) error {
		o, err := d.load(srk, b)
		if err != nil {
			return err
		}
		defer d.flush(o.handle)
		r, err := tpm2.Unseal{ItemHandle: o.auth(s)}.Execute(d)
		if err == nil {
			secret = r.OutData.Buffer
		}
		return err
	}})
	return secret, err
}

// readHalf reads the half at stage open; it crosses the bus encrypted.
func (d *Device) readHalf(srk object, p plan, g granted) (half []byte, err error) {
	x := p.half()
	n, err := x.name(written)
	if err != nil {
		return nil, err
	}
	err = d.authorize(srk, g, use{x.policy, tpm2.TPMCCNVRead, []tpm2.AuthOption{encryptOut}, func(s tpm2.Session) error {
		r, err := tpm2.NVRead{AuthHandle: tpm2.AuthHandle{Handle: x.handle, Name: n, Auth: s},
			NVIndex: tpm2.NamedHandle{Handle: x.handle, Name: n}, Size: x.size}.Execute(d)
		if err == nil {
			half = r.Data.Buffer
		}
		return err
	}})
	return half, err
}

// write writes an index under an approval; w says what it was before.
func (d *Device) write(srk object, x index, w wasWritten, g granted, data []byte) error {
	n, err := x.name(w)
	if err != nil {
		return err
	}
	u := use{policy: x.policy, do: func(s tpm2.Session) error {
		_, err := tpm2.NVWrite{AuthHandle: tpm2.AuthHandle{Handle: x.handle, Name: n, Auth: s},
			NVIndex: tpm2.NamedHandle{Handle: x.handle, Name: n}, Data: tpm2.TPM2BMaxNVBuffer{Buffer: data}}.Execute(d)
		return err
	}}
	if x.handle == halfHandle {
		u.command, u.opts = tpm2.TPMCCNVWrite, []tpm2.AuthOption{encryptIn}
	}
	if err := d.authorize(srk, g, u); err != nil {
		return fmt.Errorf("write %s: %w", x.what, err)
	}
	return nil
}

// sign signs a digest with a label key, whose Name is checked against the one that the domain certified.
func (d *Device) sign(srk object, p plan, g granted, key blob, certified label.Name, digest []byte) (sig tpm2.TPMTSignature, err error) {
	err = d.authorize(srk, g, use{policy: p.under(label.Sign), do: func(s tpm2.Session) error {
		o, err := d.load(srk, key)
		if err != nil {
			return fmt.Errorf("label key: %w", err)
		}
		defer d.flush(o.handle)
		if string(o.name.Buffer) != string(certified[:]) {
			return fmt.Errorf("label key: it is not the one that the domain certified")
		}
		r, err := tpm2.Sign{KeyHandle: o.auth(s), Digest: tpm2.TPM2BDigest{Buffer: digest}, InScheme: ecdsaSHA256,
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}}.Execute(d)
		if err == nil {
			sig = r.Signature
		}
		return err
	}})
	return sig, err
}
