package admin

import (
	"cmp"
	"context"
	"time"

	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra/label"
)

// operators is the part of the TPM's process that hears whether an operator is present. It decides, and counts the time.
type operators interface {
	Present(ctx context.Context, l label.ID, passphrase []byte, during time.Duration) error
	OperatorChallenge(ctx context.Context, l label.ID, during time.Duration) ([]byte, error)
	OperatorAnswer(ctx context.Context, text []byte) error
	Absent(ctx context.Context, l label.ID) error
	Advance(ctx context.Context) (uint64, error)
}

func (s *step) operatorPresent(ctx context.Context, c console.OperatorPresent) error {
	passphrase, err := s.next(wire.Secret, "The presence passphrase of this box, which the domain keeps:")
	if err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	during := cmp.Or(c.For, label.MaxPresence)
	if err := s.a.c.TPM.Present(ctx, label.ID(c.Label), []byte(passphrase), during); err != nil {
		return err
	}
	s.attended(ctx, during)
	return s.say("An operator is present: the label %s may sign for %s.", c.Label, during)
}

func (s *step) operatorChallenge(ctx context.Context, c console.OperatorChallenge) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	during := cmp.Or(c.For, label.MaxPresence)
	text, err := s.a.c.TPM.OperatorChallenge(ctx, label.ID(c.Label), during)
	if err != nil {
		return err
	}
	s.Write(text)
	return s.say("Answer it with the operator's token (kra operator answer), then: operator answer. The %s have begun.", during)
}

func (s *step) operatorAnswer(ctx context.Context) error {
	text, err := s.next(wire.Paste, "Paste the token's answer (KRA OPERATOR ANSWER).")
	if err != nil {
		return err
	}
	answer, err := label.ParseOperatorAnswer([]byte(text))
	if err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	if err := s.a.c.TPM.OperatorAnswer(ctx, []byte(text)); err != nil {
		return err
	}
	s.attended(ctx, label.MaxPresence)
	return s.say("An operator is present: the label %s may sign.", answer.Label)
}

func (s *step) operatorLeave(ctx context.Context, c console.OperatorLeave) error {
	if err := s.act(ctx); err != nil {
		return err
	}
	err := s.a.c.TPM.Absent(ctx, label.ID(c.Label))
	s.follow(ctx) // whatever became of it
	if err != nil {
		return err
	}
	return s.say("No operator is present: a label %s that wants one signs no more.", c.Label)
}

// attended has keys that are bound to a label follow it, now and when the operator's time ends.
func (s *step) attended(ctx context.Context, during time.Duration) {
	s.follow(ctx)
	time.AfterFunc(during, func() { s.follow(context.WithoutCancel(ctx)) })
}

// epochAdvance moves the epoch, if the domain approved that for what runs.
func (s *step) epochAdvance(ctx context.Context) error {
	if err := s.confirm("Move the epoch forward, as the domain approved for this release? Older releases then neither open nor sign on this box; there is no way back."); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	n, err := s.a.c.TPM.Advance(ctx)
	if err != nil {
		return err
	}
	return s.say("The epoch is %d.", n)
}
