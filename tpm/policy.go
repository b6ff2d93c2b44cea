package tpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
)

// A plan is what a domain and a label fix: every policy and index of a box follows from it, the same on every box.
type plan struct {
	domain label.Domain
	label  label.ID
}

// of is the plan of another label of the same domain.
func (p plan) of(l label.ID) plan { return plan{p.domain, l} }

// home is whose references the indexes and the state secret are under: the agent's, whatever labels a box has beside.
func (p plan) home() plan { return p.of(label.KeyRelease) }

// A branch is one arm of a policy: PolicyAuthorize(key, ref), and PolicyCommandCode if command is set.
type branch struct {
	by      label.Signatory
	kind    label.Kind
	command tpm2.TPMCC
}

// A policy is PolicyOR over branches, in this order. It is the form of every authPolicy here, and never changes.
type policy struct {
	plan     plan
	branches []branch
}

var bothKeys = [...]label.Signatory{label.ByLabel, label.ByRecovery}

// under is PolicyOR(PolicyAuthorize(K_label, ref), PolicyAuthorize(K_recovery, ref)).
func (p plan) under(kind label.Kind) policy {
	o := policy{plan: p}
	for _, k := range bothKeys {
		o.branches = append(o.branches, branch{by: k, kind: kind})
	}
	return o
}

// halfPolicy splits the two references by command: a TPM index has one policy for reading and writing, and without the
// command code what may write could also read.
func (p plan) halfPolicy() policy {
	o := policy{plan: p.home()}
	for _, k := range bothKeys {
		o.branches = append(o.branches, branch{k, label.Seal, tpm2.TPMCCNVRead}, branch{k, label.Sign, tpm2.TPMCCNVWrite})
	}
	return o
}

func name2B(n label.Name) tpm2.TPM2BName { return tpm2.TPM2BName{Buffer: n[:]} }

func (p plan) ref(k label.Kind) tpm2.TPM2BDigest {
	r := label.Ref(k, p.label)
	return tpm2.TPM2BDigest{Buffer: r[:]}
}

func (p plan) branchDigest(b branch) (tpm2.TPM2BDigest, error) {
	steps := []updater{tpm2.PolicyAuthorize{PolicyRef: p.ref(b.kind), KeySign: name2B(p.domain.Key(b.by).Name())}}
	if b.command != 0 {
		steps = append(steps, tpm2.PolicyCommandCode{Code: b.command})
	}
	d, err := calculate(steps...)
	return tpm2.TPM2BDigest{Buffer: d[:]}, err
}

func (o policy) list() (tpm2.TPMLDigest, error) {
	var l tpm2.TPMLDigest
	for _, b := range o.branches {
		d, err := o.plan.branchDigest(b)
		if err != nil {
			return l, err
		}
		l.Digests = append(l.Digests, d)
	}
	return l, nil
}

func (o policy) digest() (label.Digest, error) {
	l, err := o.list()
	if err != nil {
		return label.Digest{}, err
	}
	return calculate(tpm2.PolicyOr{PHashList: l})
}

// updater is a policy command that can be calculated without a TPM.
type updater interface {
	Update(*tpm2.PolicyCalculator) error
}

// calculate uses a fresh calculator: unlike the TPM, PolicyAuthorize.Update does not reset one.
func calculate(steps ...updater) (label.Digest, error) {
	c, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return label.Digest{}, fmt.Errorf("calculate policy: %w", err)
	}
	for _, s := range steps {
		if err := s.Update(c); err != nil {
			return label.Digest{}, fmt.Errorf("calculate policy: %w", err)
		}
	}
	return label.Digest(c.Hash().Digest), nil
}

// A step is one command of an approved policy: calculated by the desk, run in a session by the box. A step without run needs an
// operator's word.
type step struct {
	offline updater
	run     func(*Device, tpm2.Session) error
}

// steps are the policy commands that an approval stands for.
func (p plan) steps(a label.Approval) ([]step, error) {
	switch {
	case a.Kind == label.Seal, a.Kind == label.Sign && a.Operator == label.NoOperator:
		atMost, err := p.epochIs(tpm2.TPMEOUnsignedLE, a.Version)
		return []step{atMost, registersAre(a.PCRs)}, err
	case a.Kind == label.Sign:
		atMost, err := p.epochIs(tpm2.TPMEOUnsignedLE, a.Version)
		if err != nil {
			return nil, err
		}
		there, err := p.operatorIsThere(a)
		return []step{atMost, registersAre(a.PCRs), there}, err
	case a.Advances():
		below, err := p.epochIs(tpm2.TPMEOUnsignedLT, a.Version)
		if err != nil {
			return nil, err
		}
		w, err := p.writes(p.epoch(), written, u64(a.Version))
		return []step{below, registersAre(a.PCRs), w}, err
	case a.Kind == label.Epoch:
		w, err := p.writes(p.epoch(), unwritten, u64(a.Version))
		return []step{neverWritten(), w}, err
	}
	return nil, errors.New("policy of an approval of no kind")
}

func (p plan) approvedPolicy(a label.Approval) (label.Digest, error) {
	steps, err := p.steps(a)
	if err != nil {
		return label.Digest{}, err
	}
	var us []updater
	for _, s := range steps {
		us = append(us, s.offline)
	}
	return calculate(us...)
}

// check verifies the domain's signature and that the signed policy follows from version, registers and operator.
func (p plan) check(a label.Approval) error {
	if err := a.Verify(p.domain); err != nil {
		return err
	}
	d, err := p.of(a.Label).approvedPolicy(a)
	if err != nil {
		return err
	}
	if d != a.Policy {
		return fmt.Errorf("verify approval %q: its policy does not follow from its version, registers and operator", a.Description)
	}
	return nil
}

func u64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func selection(pcrs []int) tpm2.TPMLPCRSelection {
	var s []uint
	for _, p := range pcrs {
		s = append(s, uint(p))
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(s...)}}}
}

// pcrDigest is the digest of the values, in ascending order of registers.
func pcrDigest(pcrs []int, v label.PCRs) []byte {
	var all bytes.Buffer
	for _, p := range pcrs {
		d := v[p]
		all.Write(d[:])
	}
	h := sha256.Sum256(all.Bytes())
	return h[:]
}

func registersAre(v label.PCRs) step {
	pcrs := label.ApprovedPCRs()
	return step{
		tpm2.PolicyPCR{PcrDigest: tpm2.TPM2BDigest{Buffer: pcrDigest(pcrs, v)}, Pcrs: selection(pcrs)},
		func(d *Device, s tpm2.Session) error {
			_, err := tpm2.PolicyPCR{PolicySession: s.Handle(), Pcrs: selection(pcrs)}.Execute(d)
			return err
		},
	}
}

// epochIs is PolicyNV of the epoch against a version. At most the version: it dies when the domain moves the epoch on. Below it:
// that very move, which is so done once.
func (p plan) epochIs(how tpm2.TPMEO, version uint64) (step, error) {
	x := p.epoch()
	n, err := x.name(written)
	nv := tpm2.NamedHandle{Handle: x.handle, Name: n}
	c := tpm2.PolicyNV{NVIndex: &nv, OperandB: tpm2.TPM2BOperand{Buffer: u64(version)}, Operation: how}
	return step{c, func(d *Device, s tpm2.Session) error {
		r := c
		r.NVIndex, r.PolicySession, r.AuthHandle = nv, s.Handle(), tpm2.AuthHandle{Handle: x.handle, Name: n, Auth: tpm2.PasswordAuth(nil)}
		_, err := r.Execute(d)
		return err
	}}, err
}

func neverWritten() step {
	c := tpm2.PolicyNVWritten{WrittenSet: false}
	return step{c, func(d *Device, s tpm2.Session) error {
		r := c
		r.PolicySession = s.Handle()
		_, err := r.Execute(d)
		return err
	}}
}

// writes is PolicyCpHash of one NV_Write of exactly these bytes.
func (p plan) writes(x index, w wasWritten, data []byte) (step, error) {
	n, err := x.name(w)
	if err != nil {
		return step{}, err
	}
	h, err := tpm2.CPHash(tpm2.TPMAlgSHA256, tpm2.NVWrite{
		AuthHandle: tpm2.AuthHandle{Handle: x.handle, Name: n, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    tpm2.NamedHandle{Handle: x.handle, Name: n}, Data: tpm2.TPM2BMaxNVBuffer{Buffer: data}})
	if err != nil {
		return step{}, fmt.Errorf("calculate cpHash: %w", err)
	}
	c := tpm2.PolicyCPHash{CPHashA: *h}
	return step{c, func(d *Device, s tpm2.Session) error {
		r := c
		r.PolicySession = s.Handle()
		_, err := r.Execute(d)
		return err
	}}, nil
}
