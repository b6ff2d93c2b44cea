package tpm

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// Advertise says of every label that the platform can be now that it could be, for a time. The agent hands in where it is reached, and
// nothing else of what is signed: an advert is a statement of its own kind, and never passes for a confirmation. There may be none.
func (a *Agent) Advertise(ctx context.Context, addresses []string, life time.Duration) (all []label.SignedAdvert, err error) {
	leave, err := a.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	srk, err := a.ready()
	if err != nil {
		return nil, err
	}
	found, err := a.device.readPCRs()
	if err != nil {
		return nil, err
	}
	pcrs := label.PCRs{}
	for _, i := range label.ApprovedPCRs() {
		pcrs[i] = found[i]
	}
	var not error
	for _, of := range a.enrolment.Labels {
		one, err := a.advertise(srk, of, pcrs, addresses, life)
		var refused wire.Refused
		switch {
		case errors.As(err, &refused):
			not = cmp.Or(not, err)
			continue
		case err != nil:
			return nil, err
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return nil, not
	}
	return all, nil
}

// advertise makes one advert, of a label that the registers stand for and whose key signs.
func (a *Agent) advertise(srk object, of label.OfLabel, found label.PCRs, addresses []string, life time.Duration) (label.SignedAdvert, error) {
	d, ok := a.definition(of.Label)
	if !ok {
		return label.SignedAdvert{}, noLabel(of.Label)
	}
	v, ok := a.valueOf(of.Label, found)
	if !ok {
		return label.SignedAdvert{}, wire.Refused{Reason: "the platform holds no signed value of label " + string(of.Label) + " for what it runs: install a bundle of this release"}
	}
	offer := label.Provide
	if d.Part == label.Client || d.Part == label.Peer && len(addresses) == 0 {
		offer = label.TakePart
	}
	now := a.cfg.Now()
	s := label.SignedAdvert{Chain: of.Chain, Platform: a.enrolment.Platform, Authority: a.enrolment.Authority, Values: []label.SignedValue{v}, Description: of.Description}
	var err error
	if s.Advert, err = a.domain.NewAdvert(a.enrolment.Box.Name, of.Label, d.Part, offer, addresses, now, now.Add(life), a.nextSerial()); err != nil {
		return s, wire.Refused{Reason: err.Error()}
	}
	digest := s.Advert.Digest()
	sig, err := a.signLabel(srk, of.Label, digest[:])
	if err != nil {
		return s, refuse(err)
	}
	s.Signature, err = rawSignature(sig)
	return s, err
}

// Retract takes back all that the platform has advertised of a label.
func (a *Agent) Retract(ctx context.Context, l label.ID) (s label.SignedRetraction, err error) {
	leave, err := a.enter(ctx)
	if err != nil {
		return s, err
	}
	defer leave()
	srk, err := a.ready()
	if err != nil {
		return s, err
	}
	of, ok := a.enrolment.Of(l)
	if !ok {
		return s, noLabel(l)
	}
	s.Chain = of.Chain
	if s.Retraction, err = a.domain.NewRetraction(a.enrolment.Box.Name, l, a.nextSerial(), a.cfg.Now()); err != nil {
		return s, wire.Refused{Reason: err.Error()}
	}
	digest := s.Retraction.Digest()
	sig, err := a.signLabel(srk, l, digest[:])
	if err != nil {
		return s, refuse(err)
	}
	s.Signature, err = rawSignature(sig)
	return s, err
}

// nextSerial is above all serials before, also those of earlier boots as long as the clock goes on.
func (a *Agent) nextSerial() uint64 {
	a.serial = max(a.serial+1, uint64(max(1, a.cfg.Now().UnixMilli())))
	return a.serial
}
