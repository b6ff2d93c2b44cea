package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
)

func (s *step) accessAdd(ctx context.Context, c console.AccessAdd) error {
	if err := s.commit(ctx, store.AccessAdd{ID: c.Access, Title: c.Title}); err != nil {
		return err
	}
	return s.say("Access identifier %s was made. It has no key yet (key generate) and is nobody's (access lists).", c.Access)
}

func (s *step) accessList() error {
	t := newTable("ACCESS", "TITLE", "KEYS", "CURRENT KEY", "LISTS")
	for _, a := range s.state().Accesses() {
		current := "none"
		if len(a.Keys) > 0 {
			current = short(a.Keys[0])
		}
		t.row(string(a.ID), a.Title, fmt.Sprint(len(a.Keys)), current, fmt.Sprint(len(a.Lists)))
	}
	return t.print(s, "There are no access identifiers. Make one with: access add")
}

func (s *step) accessShow(c console.AccessShow) error {
	a, ok := s.state().Access(c.Access)
	if !ok {
		return fmt.Errorf("there is no access identifier %q", c.Access)
	}
	field(s, "access", string(a.ID))
	field(s, "title", a.Title)
	for i, id := range a.Keys {
		k, _ := s.state().Key(id)
		field(s, "key", fmt.Sprintf("%s %s, %s, %s", short(id), k.Suite, boundTo(k), keyState(k, i)))
	}
	if r := a.Rotation; r.Every > 0 {
		field(s, "rotation", fmt.Sprintf("every %v, next %s", time.Duration(r.Every)*time.Second, stamp(r.Next)))
	}
	field(s, "delivery", deliveryWords(a.Delivery))
	field(s, "headers", portionWords(a.Portion))
	if a.Logic == store.Cedar {
		return field(s, "policies", "Cedar: "+strings.Join(a.Lists, " "))
	}
	for i, l := range a.Lists {
		field(s, fmt.Sprintf("list %d", i+1), l)
	}
	if len(a.Lists) == 0 {
		return field(s, "lists", "none: nobody belongs to it")
	}
	return nil
}

func (s *step) accessTitle(ctx context.Context, c console.AccessTitle) error {
	if err := s.commit(ctx, store.AccessTitle{ID: c.Access, Title: c.Title}); err != nil {
		return err
	}
	return s.say("The title of %s is now %q.", c.Access, c.Title)
}

func (s *step) accessLists(ctx context.Context, c console.AccessLists) error {
	if err := s.commit(ctx, store.AccessLists{ID: c.Access, Lists: c.Lists}); err != nil {
		return err
	}
	return s.say("%s has %s now.", c.Access, count(len(c.Lists), "rule list", "rule lists"))
}

// accessKeys sets the keys, and has those certified that are not yet certified for this access identifier.
func (s *step) accessKeys(ctx context.Context, c console.AccessKeys) error {
	if err := s.hasAccess(c.Access); err != nil {
		return err
	}
	var ids []block.KeyID
	var fresh []store.Key
	for _, ref := range c.Keys {
		k, err := s.key(ref)
		if err != nil {
			return err
		}
		ids = append(ids, k.ID)
		if s.state().Certificate(c.Access, k.ID) == nil {
			fresh = append(fresh, k)
		}
	}
	changes := []store.Change{store.AccessKeys{ID: c.Access, Keys: ids}}
	if s.dry != nil { // certificates are made when it is done, and say nothing that the keys do not
		s.tellKeys(c.Access, ids)
		return s.commit(ctx, changes...)
	}
	for _, k := range fresh {
		if err := s.act(ctx); err != nil {
			return err
		}
		chain, err := s.a.c.TPM.LeafKeyRelease(ctx, k.SPKI, string(c.Access), usage(k.Suite))
		if err != nil {
			return err
		}
		changes = append(changes, store.CertificateSet{Access: c.Access, Key: k.ID, Chain: chain})
	}
	if err := s.commit(ctx, changes...); err != nil {
		return err
	}
	return s.say("%s has %s now; the current one is %s.", c.Access, count(len(ids), "key", "keys"), short(ids[0]))
}

// tellKeys says what other keys for an access identifier mean: which it gets, and whose they are, and which it loses.
func (s *step) tellKeys(id kra.AccessID, ids []block.KeyID) {
	a, _ := s.state().Access(id)
	s.tell(fmt.Sprintf("Give %s %s, of which %s is the current one?", id, count(len(ids), "key", "keys"), short(ids[0])))
	for _, k := range ids {
		if slices.Contains(a.Keys, k) {
			continue
		}
		users := s.users(k)
		s.depends(k, users)
		if len(users) == 0 {
			s.tell(fmt.Sprintf("Key %s is nobody's now.", short(k)))
			continue
		}
		s.tell(fmt.Sprintf("Key %s is also of %s: what was encrypted to it there then opens by the rules of %s too.", short(k), some(users), id))
	}
	for _, k := range a.Keys {
		if !slices.Contains(ids, k) {
			s.tell(fmt.Sprintf("Key %s is no more one of %s: what was encrypted to it opens by the rules of %[2]s no longer.", short(k), id))
		}
	}
}

func (s *step) accessRemove(ctx context.Context, c console.AccessRemove) error {
	a, ok := s.state().Access(c.Access)
	if !ok {
		return fmt.Errorf("there is no access identifier %q", c.Access)
	}
	if err := s.confirm("Remove %s? Nothing that is encrypted to it is released any more; its %s in the box.",
		c.Access, count(len(a.Keys), "key stays", "keys stay")); err != nil {
		return err
	}
	if err := s.commit(ctx, store.AccessRemove{ID: c.Access}); err != nil {
		return err
	}
	return s.say("Access identifier %s was removed.", c.Access)
}

func deliveryWords(d store.Delivery) string {
	if d == store.ToAnyone {
		return "anyone: also to who proved nothing, encrypted to the certificate that the rules let pass"
	}
	return "channel: only to who proved to be the decryptor"
}

func (s *step) accessDeliver(ctx context.Context, c console.AccessDeliver) error {
	to := store.ToChannel
	if c.Delivery == console.Delivery(store.ToAnyone) {
		to = store.ToAnyone
	}
	if err := s.commit(ctx, store.AccessDelivery{ID: c.Access, Delivery: to}); err != nil {
		return err
	}
	return s.say("Keys of %s are delivered to %s.", c.Access, deliveryWords(to))
}

func portionWords(p store.Portion) string {
	if p == store.AnyPortion {
		return "part: also without their MAC, as age shows them to plugins"
	}
	return "whole: of age only with their MAC"
}

func (s *step) accessPortion(ctx context.Context, c console.AccessPortion) error {
	p := store.WholeHeader
	if c.Portion == console.Portion(store.AnyPortion) {
		p = store.AnyPortion
	}
	if err := s.commit(ctx, store.AccessPortion{ID: c.Access, Portion: p}); err != nil {
		return err
	}
	return s.say("Headers to %s: %s.", c.Access, portionWords(p))
}

func (s *step) accessRules(ctx context.Context, c console.AccessRules) error {
	a, ok := s.state().Access(c.Access)
	switch {
	case !ok:
		return fmt.Errorf("there is no access identifier %q", c.Access)
	case a.Logic == store.Rules:
		return fmt.Errorf("rule lists decide about %s already", c.Access)
	}
	if err := s.confirm("Remove the Cedar policies of %s? It is nobody's until it has rule lists.", c.Access); err != nil {
		return err
	}
	if err := s.commit(ctx, store.AccessLogic{ID: c.Access, Logic: store.Rules, Lists: []string{}}); err != nil {
		return err
	}
	return s.say("Rule lists decide about %s now; it has none yet (access lists).", c.Access)
}

func (s *step) accessCedar(ctx context.Context, c console.AccessCedar) error {
	if _, ok := s.state().Access(c.Access); !ok {
		return fmt.Errorf("there is no access identifier %q", c.Access)
	}
	text, err := s.next(wire.Paste, "Paste the Cedar policies of "+string(c.Access)+".")
	if err != nil {
		return err
	}
	if text, err = policy.CedarLine(text); err != nil {
		return fmt.Errorf("%w; nothing was changed", err)
	}
	if err := s.commit(ctx, store.AccessLogic{ID: c.Access, Logic: store.Cedar, Lists: []string{text}}); err != nil {
		return err
	}
	return s.say("Cedar policies decide about %s now.", c.Access)
}
