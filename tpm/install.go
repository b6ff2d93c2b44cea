package tpm

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// EnrolInstall takes a bundle of the domain. What it does may be cut anywhere and is repeated as a whole:
//
// One for this box comes sealed to its TPM: opening it is what proves that attestation and endorsement key are of one TPM.
//
//	approvals, bundle on the disk -> epoch -> half -> sealed state -> (agent: store, record)
//
// Until the record is written the box stays a factory box: half and state secret are made anew each time, because at
// running the TPM lets nobody read the half.
func (a *Agent) EnrolInstall(ctx context.Context, text []byte) (wire.Installed, error) {
	leave, err := a.enter(ctx)
	if err != nil {
		return wire.Installed{}, err
	}
	defer leave()
	text, sealed, err := a.unwrap(text)
	if err != nil {
		return wire.Installed{}, err
	}
	b, err := label.OpenBundle(text, a.domain)
	if err != nil {
		return wire.Installed{}, wire.Refused{Reason: err.Error()}
	}
	if b.Enrolment != nil && !sealed {
		return wire.Installed{}, wire.Refused{Reason: "a bundle for one box comes sealed to its TPM, this one does not"}
	}
	if err := a.checkApprovals(b); err != nil {
		return wire.Installed{}, wire.Refused{Reason: err.Error()}
	}
	if b.Enrolment == nil {
		n, err := a.addApprovals(b.Approvals)
		i := wire.NewInstalled(label.Box{}, label.Officer{}, n, nil)
		if err := errors.Join(err, a.addValues(b.Values), a.addDefinitions(b.Labels), a.reload()); err != nil {
			return i, err
		}
		i.Epoch, err = a.tryAdvance(b)
		return i, err
	}
	if err := a.newest(text, b); err != nil {
		return wire.Installed{}, err
	}
	if err := a.acceptable(b); err != nil {
		return wire.Installed{}, err
	}
	i, err := a.install(text, b)
	return i, refuse(err)
}

// checkApprovals checks each approval's policy, and that it keeps to the definition of its label, where there is one.
func (a *Agent) checkApprovals(b label.Bundle) error {
	of := map[label.ID]label.Definition{}
	for _, d := range append(label.Builtin(), a.defined...) {
		of[d.Label] = d
	}
	for _, s := range b.Labels {
		of[s.Definition.Label] = s.Definition
	}
	for _, p := range b.Approvals {
		if err := a.check(p); err != nil {
			return err
		}
		if d, ok := of[p.Label]; ok && p.Kind == label.Sign {
			if err := d.Admits(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// newest refuses a bundle that is older than the one that an enrolled box has. The same one may be given again.
func (a *Agent) newest(text []byte, b label.Bundle) error {
	c, err := a.device.condition(a.record())
	if err != nil || c != holding || a.enrolment == nil || b.Sequence > a.sequence {
		return err
	}
	if held, err := a.folder.read(bundleFile); err == nil && bytes.Equal(held, text) {
		return nil
	}
	return wire.Refused{Reason: fmt.Sprintf("the bundle is number %d of its domain, this box has number %d: an older one does not replace it", b.Sequence, a.sequence)}
}

// acceptable refuses, before anything is changed, what is not for this box or would lock it.
func (a *Agent) acceptable(b label.Bundle) error {
	e := b.Enrolment
	if a.srk == nil {
		return wire.Refused{Reason: "the box has made no enrolment request yet"}
	}
	if string(a.srk.name.Buffer) != string(e.SRK[:]) {
		return wire.Refused{Reason: fmt.Sprintf("the bundle is for another box: it names storage root key %s, this box has %x",
			e.SRK.Short(), a.srk.name.Buffer[2:10])}
	}
	if err := a.travels(e); err != nil {
		return err
	}
	if err := a.check(e.Epoch); err != nil || e.Epoch.Advances() {
		return wire.Refused{Reason: cmp.Or(err, errors.New("the first epoch is one to move it")).Error()}
	}
	if err := a.labelled(e); err != nil {
		return err
	}
	switch s, reason, err := a.state(); {
	case err != nil:
		return err
	case s == wire.Inconsistent:
		return wire.Refused{Reason: reason}
	}
	return a.wouldOpen(b)
}

// labelled refuses label keys that are not this box's, or not certified as what they are.
func (a *Agent) labelled(e *label.Enrolment) error {
	if _, ok := e.Of(label.KeyRelease); !ok {
		return wire.Refused{Reason: fmt.Sprintf("the bundle certifies no key of label %q", label.KeyRelease)}
	}
	for _, of := range e.Labels {
		_, key, err := a.folder.readBlob(labelFile(of.Label))
		if err != nil {
			return wire.Refused{Reason: fmt.Sprintf("the box has no key of label %q: make an enrolment request", of.Label)}
		}
		name, err := keyName(key)
		if err != nil {
			return err
		}
		if name != of.Key {
			return wire.Refused{Reason: fmt.Sprintf("the bundle is for another box: it names %s as key of label %q, this box has %s", of.Key.Short(), of.Label, name.Short())}
		}
		if err := certifies(a.domain, e.Box.Name, of, key); err != nil {
			return wire.Refused{Reason: err.Error()}
		}
	}
	return nil
}

// travels refuses a passport of another TPM or of another attestation key than the one that this box asks with.
func (a *Agent) travels(e *label.Enrolment) error {
	_, b, err := a.folder.readBlob(akFile)
	if err != nil {
		return wire.Refused{Reason: "the box has made no enrolment request yet"}
	}
	ak, err := keyName(b)
	if err != nil {
		return err
	}
	x, err := a.device.endorser()
	if err != nil {
		return err
	}
	ek, done, err := a.device.endorsementKey(x)
	if err != nil {
		return err
	}
	done()
	if found := label.Name(ek.name.Buffer); e.Passport.EK != found || e.Passport.AK != ak {
		return wire.Refused{Reason: fmt.Sprintf("the passport is of another platform: it names endorsement key %s and attestation key %s, this box has %s and %s",
			e.Passport.EK.Short(), e.Passport.AK.Short(), found.Short(), ak.Short())}
	}
	pub, err := publicKey(b)
	if err != nil {
		return err
	}
	return attests(a.domain, e, pub)
}

// attests checks that the platform certificate is for this attestation key.
func attests(d label.Domain, e *label.Enrolment, ak *ecdsa.PublicKey) error {
	root, err := d.Certificate()
	if err != nil {
		return err
	}
	certified, _, err := label.ReadPlatform(root, d.Name, e.Box.Name, e.Platform)
	if err != nil {
		return wire.Refused{Reason: err.Error()}
	}
	if !ak.Equal(certified) {
		return wire.Refused{Reason: "the platform certificate is for another attestation key"}
	}
	return nil
}

// wouldOpen refuses a bundle under which the next boot of what runs now would be locked.
func (a *Agent) wouldOpen(b label.Bundle) error {
	found, err := a.device.readPCRs()
	if err != nil {
		return err
	}
	epoch, err := a.epochValue()
	if err != nil {
		return err
	}
	if epoch == 0 {
		epoch = b.Enrolment.Epoch.Version
	}
	return opens(b.Approvals, found, epoch)
}

// opens refuses approvals under which what has these registers, at whatever stage it is, would be locked at its next boot.
func opens(all []label.Approval, found label.PCRs, epoch uint64) error {
	if _, err := choose(all, label.KeyRelease, label.Sign, found, epoch, nil); err != nil {
		return err
	}
	then := maps.Clone(found)
	then[label.StagePCR] = label.StageValue(label.Seal)
	_, err := choose(all, label.KeyRelease, label.Seal, then, epoch, nil)
	return err
}

func keyName(key blob) (label.Name, error) {
	pub, err := key.public.Contents()
	if err != nil {
		return label.Name{}, fmt.Errorf("read key: %w", err)
	}
	n, err := tpm2.ObjectName(pub)
	if err != nil || len(n.Buffer) != len(label.Name{}) {
		return label.Name{}, fmt.Errorf("read key: no Name")
	}
	return label.Name(n.Buffer), nil
}

// certifies checks that the chain is the domain's, and for this key of this label of this box.
func certifies(d label.Domain, box string, of label.OfLabel, key blob) error {
	root, err := d.Certificate()
	if err != nil {
		return err
	}
	c, err := x509.ParseCertificate(of.Chain[0])
	if err != nil {
		return fmt.Errorf("parse label certificate: %w", err)
	}
	pub, err := publicKey(key)
	if err != nil {
		return err
	}
	if !pub.Equal(c.PublicKey) {
		return errors.New("label certificate is for another key")
	}
	if len(of.Chain) != 1 || c.CheckSignatureFrom(root) != nil {
		return errors.New("label certificate is not signed by the domain's root")
	}
	if uri := d.LabelURI(of.Label, box); len(c.URIs) != 1 || c.URIs[0].String() != uri {
		return fmt.Errorf("label certificate is not for %s", uri)
	}
	return nil
}

func publicKey(b blob) (*ecdsa.PublicKey, error) {
	t, err := b.public.Contents()
	if err != nil {
		return nil, fmt.Errorf("read public area: %w", err)
	}
	return ecdsaKey(*t)
}

func ecdsaKey(t tpm2.TPMTPublic) (*ecdsa.PublicKey, error) {
	k, err := tpm2.Pub(t)
	if err != nil {
		return nil, fmt.Errorf("read public area: %w", err)
	}
	pub, ok := k.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("read public area: not an ECDSA key")
	}
	return pub, nil
}

func (a *Agent) install(text []byte, b label.Bundle) (wire.Installed, error) {
	added, err := a.addApprovals(b.Approvals)
	if err != nil {
		return wire.Installed{}, err
	}
	if err := errors.Join(a.addValues(b.Values), a.addDefinitions(b.Labels)); err != nil {
		return wire.Installed{}, err
	}
	if err := a.folder.write(bundleFile, text); err != nil {
		return wire.Installed{}, err
	}
	if err := a.reload(); err != nil {
		return wire.Installed{}, err
	}
	switch c, err := a.device.condition(a.record()); {
	case err != nil:
		return wire.Installed{}, err
	case c == holding: // enrolled before: names and approvals are new, no secret is
		return wire.NewInstalled(b.Enrolment.Box, b.Enrolment.Officer, added, nil), nil
	}
	o, err := a.newSecrets(b.Enrolment)
	if err != nil {
		return wire.Installed{}, err
	}
	defer o.Wipe()
	key, chain := wire.Derive(o)
	clear(chain[:])
	return wire.NewInstalled(b.Enrolment.Box, b.Enrolment.Officer, added, key[:]), nil
}

// newSecrets fixes epoch, half and state secret, in this order.
func (a *Agent) newSecrets(e *label.Enrolment) (wire.Opened, error) {
	srk := *a.srk
	c, err := a.device.condition(a.epoch())
	if err != nil {
		return wire.Opened{}, err
	}
	if c == defined {
		if err := a.device.write(srk, a.epoch(), unwritten, granted{Approval: e.Epoch}, u64(e.Epoch.Version)); err != nil {
			return wire.Opened{}, err
		}
	}
	sealed, half := make([]byte, wire.SecretSize), make([]byte, wire.SecretSize)
	rand.Read(sealed)
	rand.Read(half)
	if err := a.writeHalf(srk, half); err != nil {
		return wire.Opened{}, err
	}
	s, err := a.device.seal(srk, a.under(label.Seal), sealed)
	if err != nil {
		return wire.Opened{}, err
	}
	if err := a.folder.remove(zeroizedFile); err != nil {
		return wire.Opened{}, err
	}
	if err := a.folder.writeBlob(sealedFile, s.stored()); err != nil {
		return wire.Opened{}, err
	}
	return wire.NewOpened(sealed, half)
}

func (a *Agent) writeHalf(srk object, half []byte) error {
	c, err := a.device.condition(a.half())
	if err != nil {
		return err
	}
	before := written
	if c == defined {
		before = unwritten
	}
	return a.signing(label.KeyRelease, func(approval granted) error { return a.device.write(srk, a.half(), before, approval, half) })
}
