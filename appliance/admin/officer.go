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
	t := newTable("OFFICER", "MAY", "FAILED LOG-INS", "LAST FAILURE")
	for _, o := range s.a.c.Store.State().Officers() {
		t.row(o.Name, duty(o), fmt.Sprint(o.Failures), stamp(o.Failed))
	}
	return t.print(s, "There are no officers.")
}

func duty(o store.Officer) string {
	if o.Group != "" {
		return "maintain " + o.Group
	}
	return "everything"
}

func (s *step) officerPassphrase(ctx context.Context) error {
	old, err := s.next(wire.Secret, "Your present passphrase:")
	if err != nil {
		return err
	}
	fresh, err := s.newPassphrase("New passphrase")
	if err != nil {
		return err
	}
	o, known := s.a.c.Store.State().Officer(s.officer.Name)
	err = s.a.door.pass(ctx, func() error {
		if !s.a.passes(o, known, old) {
			return errors.New("that is not your present passphrase")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.commit(ctx, store.OfficerPassphrase{Name: s.officer.Name, Hash: account.Hash([]byte(fresh))}); err != nil {
		return err
	}
	s.a.sessions.endOf(s.officer.Name, s.session)
	return s.say("The passphrase was changed. Your other sessions were ended.")
}

// newPassphrase asks twice for a passphrase that may become one.
func (s *step) newPassphrase(what string) (string, error) {
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
	return first, account.Acceptable([]byte(first))
}

func (s *step) officerAdd(ctx context.Context, c console.OfficerAdd) error {
	if _, ok := s.state().Officer(string(c.Officer)); ok {
		return fmt.Errorf("officer %q exists already", c.Officer)
	}
	if c.Group != "" {
		if _, ok := s.state().Group(string(c.Group)); !ok {
			return fmt.Errorf("there is no group %q; make it with: group add %s DECRYPTOR", c.Group, c.Group)
		}
	}
	pass, err := s.newPassphrase("New passphrase of " + string(c.Officer))
	if err != nil {
		return err
	}
	if err := s.commit(ctx, store.OfficerAdd{Name: string(c.Officer), Hash: account.Hash([]byte(pass)), Group: string(c.Group)}); err != nil {
		return err
	}
	if c.Group != "" {
		return s.say("%s maintains the group %s now and nothing else, and should change that passphrase: officer passphrase", c.Officer, c.Group)
	}
	return s.say("%s is an officer now, and should change that passphrase: officer passphrase", c.Officer)
}

func (s *step) officerRemove(ctx context.Context, c console.OfficerRemove) error {
	remove := store.OfficerRemove{Name: string(c.Officer)}
	if _, err := store.Apply(s.state(), remove); err != nil {
		return err
	}
	if err := s.confirm("Remove the officer %s?", c.Officer); err != nil {
		return err
	}
	if err := s.commit(ctx, remove); err != nil {
		return err
	}
	s.a.sessions.endOf(string(c.Officer), "")
	return s.say("%s is no officer any more.", c.Officer)
}
