package admin

import (
	"context"
	"fmt"

	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra/label"
)

func (s *step) enrolRequest(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	pem, err := s.a.c.TPM.EnrolRequest(ctx)
	if err != nil {
		return err
	}
	q, err := label.ParseRequest(pem)
	if err != nil {
		return err
	}
	s.Write(pem)
	if err := s.say("Its fingerprint is %s: the desk must show the same.", q.Fingerprint()); err != nil {
		return err
	}
	return s.say("Give this to the desk of %s. Its answer goes into: enrol install", s.a.c.Domain.Name)
}

// enrolInstall gives the TPM's process a bundle. It may be repeated, also after a power cut in its middle.
func (s *step) enrolInstall(ctx context.Context) error {
	bundle, err := s.next(wire.Paste, "Paste the domain's bundle (KRA SEALED BUNDLE or KRA BUNDLE).")
	if err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	in, err := s.a.c.TPM.EnrolInstall(ctx, []byte(bundle))
	if err != nil {
		return err
	}
	if !in.NeedsStore {
		return s.say("%s added. What is approved counts from the next boot.", count(in.Approvals, "approval was", "approvals were"))
	}
	if s.a.c.Mode != console.Factory {
		return fmt.Errorf("this box is %s and cannot be enrolled", s.a.c.Mode)
	}
	if err := s.a.c.Install(ctx, in); err != nil {
		return err
	}
	s.end = true
	s.say("The box is enrolled as %s. Its first officer is %s.", in.Box.Name, in.Officer.Name)
	if s.a.c.Machine == nil {
		return s.say("Start the agent again to open what was sealed.")
	}
	s.say("It restarts now, to open what was sealed in a measured boot.")
	return s.a.c.Machine.Reboot(ctx)
}
