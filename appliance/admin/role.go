package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/kra/policy"
)

func (s *step) roleAdd(ctx context.Context, c console.RoleAdd) error {
	if _, ok := s.state().Role(string(c.Role)); ok {
		return fmt.Errorf("role %q exists already; change it with role set", c.Role)
	}
	if err := s.putRole(ctx, c.Role, c.Needs); err != nil {
		return err
	}
	return s.say(`Role %s was made. Use it in a rule: rule add RULE is roles.has("%s")`, c.Role, c.Role)
}

func (s *step) roleSet(ctx context.Context, c console.RoleSet) error {
	if _, ok := s.state().Role(string(c.Role)); !ok {
		return fmt.Errorf("there is no role %q", c.Role)
	}
	if err := s.putRole(ctx, c.Role, c.Needs); err != nil {
		return err
	}
	return s.say("Role %s was changed, wherever it is used.", c.Role)
}

func (s *step) putRole(ctx context.Context, name console.Role, items []console.Item) error {
	role := store.RoleSet{Name: string(name)}
	for _, i := range items {
		role.Needs = append(role.Needs, store.Need{Kind: store.InformationKind(i.Kind), Name: i.Name, Value: i.Value, Authority: i.Authority})
	}
	return s.commit(ctx, role)
}

func needs(r store.Role) (out []string) {
	for _, n := range r.Needs {
		out = append(out, console.Item{Kind: console.InfoKind(n.Kind), Name: n.Name, Value: n.Value, Authority: n.Authority}.String())
	}
	return out
}

func (s *step) roleList() error {
	t := newTable("ROLE", "NEEDS")
	for _, r := range s.state().Roles() {
		t.row(r.Name, strings.Join(needs(r), "  "))
	}
	return t.print(s, "There are no roles. Make one with: role add")
}

func (s *step) roleShow(c console.RoleShow) error {
	r, ok := s.state().Role(string(c.Role))
	if !ok {
		return fmt.Errorf("there is no role %q", c.Role)
	}
	field(s, "role", r.Name)
	for _, n := range needs(r) {
		field(s, "needs", n)
	}
	return nil
}

func (s *step) roleRemove(ctx context.Context, c console.RoleRemove) error {
	remove := store.RoleRemove{Name: string(c.Role)}
	if _, err := store.Apply(s.state(), remove); err != nil {
		return err
	}
	if err := s.confirm("Remove the role %s?", c.Role); err != nil {
		return err
	}
	if err := s.commit(ctx, remove); err != nil {
		return err
	}
	return s.say("Role %s was removed.", c.Role)
}

func (s *step) levels() []string {
	if all := s.state().Levels(); len(all) > 0 {
		return all
	}
	return policy.DefaultLevels()
}

func (s *step) levelsShow() error { return field(s, "levels", strings.Join(s.levels(), " < ")) }

func (s *step) levelsSet(ctx context.Context, c console.LevelsSet) error {
	if err := s.commit(ctx, store.LevelsSet{Names: c.Levels}); err != nil {
		return err
	}
	return s.levelsShow()
}

// information is what a question at the console takes as known. Whatever is said must be somebody's word who may say it.
func (s *step) information(items []console.Item) (policy.Information, error) {
	var all []policy.Item
	for _, i := range items {
		if i.Authority == "" {
			return policy.Information{}, fmt.Errorf("on whose word is %s? Write %s@ALIAS", i, i)
		}
		kind, err := policy.ParseKind(string(i.Kind))
		if err != nil {
			return policy.Information{}, err
		}
		via, err := s.way(i)
		if err != nil {
			return policy.Information{}, err
		}
		all = append(all, policy.Item{Kind: kind, Name: i.Name, Value: i.Value, Authority: i.Authority, Via: via})
	}
	return policy.NewInformation(all, nil)
}

// way is how an item would come to the box, if its authority may say it.
func (s *step) way(i console.Item) (policy.Via, error) {
	if _, ok := s.state().Anchor(i.Authority); ok && i.Kind == console.InfoKind(store.AliasInformation) {
		return policy.Channel, nil
	}
	o, ok := s.state().Source(i.Authority)
	may := false
	for _, k := range o.May {
		may = may || string(k) == string(i.Kind)
	}
	switch {
	case !ok:
		return 0, fmt.Errorf("nobody called %q may say %s (source list)", i.Authority, i)
	case !may:
		return 0, fmt.Errorf("%s may not assert a %s; it may assert: %s", i.Authority, i.Kind, mayOf(o))
	case o.Attribute != nil:
		return policy.Presented, nil
	case o.Directory != nil:
		return policy.Directory, nil
	case o.Issuer != nil:
		return policy.Token, nil
	}
	return 0, errors.New("that source says nothing about decryptors")
}
