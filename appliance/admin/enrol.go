package admin

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra/label"
	tpm "github.com/keyrelease/krabox/tpm/wire"
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

// identity is short: it is for a telephone, or for whoever reads it out. The fingerprint is what the desk of the domain has seen at enrolment.
func (s *step) identity(ctx context.Context) error {
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
	root, err := s.a.c.Domain.Certificate()
	if err != nil {
		return err
	}
	digest := sha256.Sum256(root.Raw)
	field(s, "box", s.state().Box().Name)
	field(s, "domain", s.a.c.Domain.Name)
	field(s, "root", fmt.Sprintf("%x", digest[:]))
	return field(s, "fingerprint", q.Fingerprint())
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
	if in.Epoch != "" {
		if err := s.say("Of the epoch: %s.", in.Epoch); err != nil {
			return err
		}
	}
	if !in.NeedsStore {
		if err := s.say("%s added. What is approved counts from the next boot.", count(in.Approvals, "approval was", "approvals were")); err != nil {
			return err
		}
		return s.nextBoot(ctx)
	}
	if err := s.a.furnish(ctx, in); err != nil {
		return err
	}
	return s.enrolled(ctx, in)
}

// take installs a bundle that came over the port: as one that was pasted, and in turn with those.
func (a *Agent) take(ctx context.Context, bundle []byte) (tpm.Installed, error) {
	a.change.Lock()
	defer a.change.Unlock()
	in, err := a.c.TPM.EnrolInstall(ctx, bundle)
	if err != nil || !in.NeedsStore {
		return in, err
	}
	return in, a.furnish(ctx, in)
}

// furnish makes the store of a box whose bundle was accepted.
func (a *Agent) furnish(ctx context.Context, in tpm.Installed) error {
	if a.c.Mode != console.Factory {
		return fmt.Errorf("this box is %s and cannot be enrolled", a.c.Mode)
	}
	return a.c.Install(ctx, in)
}

// enrolled ends the factory box's session, and its boot.
func (s *step) enrolled(ctx context.Context, in tpm.Installed) error {
	s.end = true
	s.say("The box is enrolled as %s. Its first officer is %s.", in.Box.Name, in.Officer.Name)
	if s.a.c.Machine == nil {
		return s.say("Start the agent again to open what was sealed.")
	}
	s.say("It restarts now, to open what was sealed in a measured boot.")
	return s.a.c.Machine.Reboot(ctx)
}

// nextBoot says what approvals that were added in maintenance are good for.
func (s *step) nextBoot(ctx context.Context) error {
	if s.a.c.Mode != console.Maintenance {
		return nil
	}
	st, err := s.a.c.TPM.Status(ctx)
	if err != nil {
		return err
	}
	if st.Unapproved != "" {
		return s.say("What runs is still not approved: %s.", st.Unapproved)
	}
	return s.say("What runs is approved: after a restart (reboot) the box opens.")
}
