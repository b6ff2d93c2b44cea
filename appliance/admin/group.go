package admin

import (
	"context"
	"fmt"
	"strings"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
)

func (s *step) groupAdd(ctx context.Context, c console.GroupAdd) error {
	if err := s.commit(ctx, store.GroupAdd{Group: string(c.Group), Member: c.Member.String()}); err != nil {
		return err
	}
	s.say("%s is in group %s now.", c.Member, c.Group)
	if _, ok := s.state().Anchor(c.Member.Anchor()); !ok {
		return s.say("Note: no certification authority has the alias %q yet (trust add), so nobody can be %s.", c.Member.Anchor(), c.Member)
	}
	return nil
}

func (s *step) groupRemove(ctx context.Context, c console.GroupRemove) error {
	g, ok := s.state().Group(string(c.Group))
	if !ok {
		return fmt.Errorf("there is no group %q", c.Group)
	}
	question := fmt.Sprintf("Remove the group %s with its %s?", c.Group, count(len(g.Members), "member", "members"))
	done := fmt.Sprintf("Group %s was removed.", c.Group)
	if c.Member.Valid() {
		question = fmt.Sprintf("Take %s out of group %s?", c.Member, c.Group)
		done = fmt.Sprintf("%s is no longer in group %s.", c.Member, c.Group)
	}
	if err := s.confirm("%s", question); err != nil {
		return err
	}
	if err := s.commit(ctx, store.GroupRemove{Group: string(c.Group), Member: c.Member.String()}); err != nil {
		return err
	}
	return s.say("%s", done)
}

func (s *step) groupList() error {
	t := newTable("GROUP", "MEMBERS", "GROUPS WITHIN", "MAINTAINERS", "FIRST MEMBERS")
	for _, g := range s.state().Groups() {
		t.row(g.Name, fmt.Sprint(len(g.Members)), strings.Join(g.Groups, " "), fmt.Sprint(len(g.Maintainers)),
			strings.Join(g.Members[:min(3, len(g.Members))], "  "))
	}
	return t.print(s, "There are no groups. Make one with: group add")
}

func (s *step) groupShow(c console.GroupShow) error {
	g, ok := s.state().Group(string(c.Group))
	if !ok {
		return fmt.Errorf("there is no group %q", c.Group)
	}
	field(s, "group", g.Name)
	for _, x := range g.Maintainers {
		field(s, "maintainer", x)
	}
	for _, x := range g.Groups {
		field(s, "group within", x)
	}
	for _, m := range g.Members {
		if err := field(s, "member", m); err != nil {
			return err
		}
	}
	return nil
}

func (s *step) groupNest(ctx context.Context, c console.GroupNest) error {
	if err := s.commit(ctx, store.GroupNest{Group: string(c.Group), In: string(c.In)}); err != nil {
		return err
	}
	return s.say("Who is in group %s is in group %s too now.", c.Group, c.In)
}

func (s *step) groupUnnest(ctx context.Context, c console.GroupUnnest) error {
	change := store.GroupUnnest{Group: string(c.Group), From: string(c.From)}
	if _, err := store.Apply(s.state(), change); err != nil {
		return err
	}
	if err := s.confirm("Take the group %s out of group %s?", c.Group, c.From); err != nil {
		return err
	}
	if err := s.commit(ctx, change); err != nil {
		return err
	}
	return s.say("Group %s is no longer in group %s.", c.Group, c.From)
}

func (s *step) maintainerAdd(ctx context.Context, c console.MaintainerAdd) error {
	if err := s.commit(ctx, store.MaintainerAdd{Group: string(c.Group), Maintainer: c.Member.String()}); err != nil {
		return err
	}
	return s.say("%s may change who is in group %s now, and nothing else (kra group).", c.Member, c.Group)
}

func (s *step) maintainerRemove(ctx context.Context, c console.MaintainerRemove) error {
	change := store.MaintainerRemove{Group: string(c.Group), Maintainer: c.Member.String()}
	if _, err := store.Apply(s.state(), change); err != nil {
		return err
	}
	if err := s.confirm("Let %s change who is in group %s no longer?", c.Member, c.Group); err != nil {
		return err
	}
	if err := s.commit(ctx, change); err != nil {
		return err
	}
	return s.say("%s does not maintain group %s any more.", c.Member, c.Group)
}
