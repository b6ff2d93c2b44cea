package admin

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyrelease/krabox/appliance/account"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
)

func (s *step) logout(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	s.a.sessions.end(s.session)
	s.end = true
	return nil
}

func (s *step) officerList() error {
	t := newTable("OFFICER", "DUTY", "FAILED LOG-INS", "LAST FAILURE", "SECOND FACTOR")
	for _, o := range s.a.c.Store.State().Officers() {
		t.row(o.Name, dutyWords(o), fmt.Sprint(o.Failures), stamp(o.Failed), codesWords(o))
	}
	return t.print(s, "There are no officers.")
}

func dutyWords(o store.Officer) string {
	if o.Duty == store.Maintainer {
		return "maintainer of " + o.Group
	}
	if o.Duty == store.TeamOfficer {
		return "officer of team " + o.Team
	}
	return string(o.Duty)
}

func (s *step) officerPassphrase(ctx context.Context) error {
	old, err := s.next(wire.Secret, "Your present passphrase:")
	if err != nil {
		return err
	}
	fresh, err := s.newHash("New passphrase")
	if err != nil {
		return err
	}
	o, known := s.a.c.Store.State().Officer(s.officer.Name)
	err = s.pass(ctx, o, func() error {
		if !s.a.passes(o, known, old) {
			return errors.New("that is not your present passphrase")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.commit(ctx, store.OfficerPassphrase{Name: s.officer.Name, Hash: fresh}); err != nil {
		return err
	}
	s.a.sessions.endOf(s.officer.Name, s.session)
	return s.say("The passphrase was changed. Your other sessions were ended.")
}

// newHash asks twice for a passphrase that may become one, and returns its hash. What waits for a second officer waits with the hash.
func (s *step) newHash(what string) (string, error) {
	if s.approved != nil {
		return s.approved.Hash, nil
	}
	first, err := s.next(wire.Secret, fmt.Sprintf("%s, at least %d characters:", what, account.MinPassphrase))
	if err != nil {
		return "", err
	}
	again, err := s.next(wire.Secret, what+" again:")
	if err != nil {
		return "", err
	}
	if first != again {
		return "", errors.New("the two passphrases differ; nothing was changed")
	}
	if err := account.Acceptable([]byte(first)); err != nil {
		return "", err
	}
	hash := account.Hash([]byte(first))
	if s.dry != nil {
		s.dry.hash = hash
	}
	return hash, nil
}

func (s *step) officerAdd(ctx context.Context, c console.OfficerAdd) error {
	add := store.OfficerAdd{Name: string(c.Officer), Hash: "$argon2id$", Duty: store.Duty(c.Duty), Group: string(c.Group), Team: string(c.Team), Given: true}
	if _, err := store.Apply(s.state(), add); err != nil {
		return err // before a passphrase is typed for nothing
	}
	var err error
	if add.Hash, err = s.newHash("New passphrase of " + add.Name); err != nil {
		return err
	}
	s.tell(fmt.Sprintf("Let %s log in, with a passphrase that was typed, as %s?", add.Name, dutyWords(store.Officer{Duty: add.Duty, Group: add.Group, Team: add.Team})))
	before := s.state().Two()
	if err := s.commit(ctx, add); err != nil {
		return err
	}
	switch add.Duty {
	case store.Maintainer:
		s.say("%s maintains the group %s now and nothing else.", add.Name, add.Group)
	case store.Chief:
		s.say("%s is an officer now.", add.Name)
	default:
		s.say("%s is now: %s.", add.Name, add.Duty)
	}
	if !before && s.state().Two() {
		s.say("There are two officers: from now on what weakens or destroys waits for the other one (dual-control show).")
	}
	return s.say("%s should change that passphrase: officer passphrase", add.Name)
}

func (s *step) officerDuty(ctx context.Context, c console.OfficerDuty) error {
	change := store.OfficerDuty{Name: string(c.Officer), Duty: store.Duty(c.Duty), Group: string(c.Group), Team: string(c.Team)}
	next, err := store.Apply(s.state(), change)
	if err != nil {
		return err
	}
	was, _ := s.state().Officer(change.Name)
	is, _ := next.Officer(change.Name)
	if err := s.confirm("Make %s, who is %s, %s?%s", is.Name, dutyWords(was), dutyWords(is), ends(s.state(), next)); err != nil {
		return err
	}
	if err := s.commit(ctx, change); err != nil {
		return err
	}
	return s.say("%s is now: %s.", is.Name, dutyWords(is))
}

// ends warns when a change leaves nobody who could be the second officer.
func ends(now, next *store.State) string {
	if now.Two() && !next.Two() {
		return " One officer is then left, and does everything alone."
	}
	return ""
}

func (s *step) officerRemove(ctx context.Context, c console.OfficerRemove) error {
	remove := store.OfficerRemove{Name: string(c.Officer)}
	next, err := store.Apply(s.state(), remove)
	if err != nil {
		return err
	}
	if err := s.confirm("Remove the officer %s?%s", c.Officer, ends(s.state(), next)); err != nil {
		return err
	}
	if err := s.commit(ctx, remove); err != nil {
		return err
	}
	s.a.sessions.endOf(string(c.Officer), "")
	return s.say("%s is no officer any more.", c.Officer)
}
