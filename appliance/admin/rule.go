package admin

import (
	"context"
	"fmt"
	"strings"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/kra/policy"
)

func (s *step) ruleAdd(ctx context.Context, c console.RuleAdd) error {
	if _, err := policy.ParseRuleName(string(c.Rule)); err != nil {
		return err
	}
	expr, err := policy.Expand(c.Expr)
	if err != nil {
		return err
	}
	if err := s.commit(ctx, store.RuleAdd{Name: string(c.Rule), Expr: expr}); err != nil {
		return err
	}
	return s.say("Rule %s was made. Use it with: access lists ACCESS is %s", c.Rule, c.Rule)
}

func (s *step) ruleSet(ctx context.Context, c console.RuleSet) error {
	expr, err := policy.Expand(c.Expr)
	if err != nil {
		return err
	}
	s.tell(fmt.Sprintf("Change the rule %s, which is used by: %s?", c.Rule, s.usersOf(string(c.Rule))))
	if err := s.commit(ctx, store.RuleSet{Name: string(c.Rule), Expr: expr}); err != nil {
		return err
	}
	return s.say("Rule %s was changed. It is used by: %s.", c.Rule, s.usersOf(string(c.Rule)))
}

// usersOf are the access identifiers that use a rule: the names of those that the officer sees, and that there are others.
func (s *step) usersOf(rule string) string {
	all := s.a.c.Book().UsedBy(policy.RuleName(rule))
	var out []string
	for _, id := range all {
		if _, ok := s.state().Access(id); ok {
			out = append(out, string(id))
		}
	}
	switch {
	case len(all) == 0:
		return "nobody"
	case len(out) < len(all):
		out = append(out, "others, which you do not see")
	}
	return strings.Join(out, ", ")
}

func (s *step) ruleList() error {
	t := newTable("RULE", "CONDITION", "USED BY")
	for _, r := range s.state().Rules() {
		t.row(r.Name, r.Expr, s.usersOf(r.Name))
	}
	return t.print(s, "There are no rules. Make one with: rule add")
}

func (s *step) ruleShow(c console.RuleShow) error {
	r, ok := s.state().Rule(string(c.Rule))
	if !ok {
		return fmt.Errorf("there is no rule %q", c.Rule)
	}
	field(s, "rule", r.Name)
	field(s, "condition", r.Expr)
	return field(s, "used by", s.usersOf(r.Name))
}

func (s *step) ruleRemove(ctx context.Context, c console.RuleRemove) error {
	if _, ok := s.state().Rule(string(c.Rule)); !ok {
		return fmt.Errorf("there is no rule %q", c.Rule)
	}
	if err := s.confirm("Remove the rule %s?", c.Rule); err != nil {
		return err
	}
	if err := s.commit(ctx, store.RuleRemove{Name: string(c.Rule)}); err != nil {
		return err
	}
	return s.say("Rule %s was removed.", c.Rule)
}
