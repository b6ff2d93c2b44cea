package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

// The life of keys after they are made. What an officer orders for later, Tend does when a trusted clock says so.
const (
	usualCooling = 7 * 24 * time.Hour
	tendAgain    = time.Hour // after what failed
)

// clock stands for the officer in the log where time brings something about.
const byClock = "(clock)"

var errClock = errors.New("the clock is not trusted, and this is about a time; set it first (time set)")

// trusted returns the time, if it can be trusted.
func (a *Agent) trusted() (time.Time, error) {
	if ok, _ := a.c.Clock(); !ok {
		return time.Time{}, errClock
	}
	return a.now(), nil
}

// keyRotate makes a new current key like the present one, which is deactivated where nobody else has it as the current one.
func (s *step) keyRotate(ctx context.Context, c console.KeyRotate) error {
	if err := s.hasAccess(c.Access); err != nil {
		return err
	}
	a, _ := s.state().Access(c.Access)
	switch {
	case len(a.Keys) == 0:
		return fmt.Errorf("%s has no key yet; make one with: key generate", c.Access)
	case len(a.Keys) >= store.MaxKeys:
		return fmt.Errorf("%s has %d keys, which is the limit; delete some first (key delete)", c.Access, len(a.Keys))
	}
	old, _ := s.state().Key(a.Keys[0])
	more := s.succession(a, old)
	suite := old.Suite
	if suite == hsm.RSA2048 { // which is only imported
		suite = hsm.RSA3072
	}
	if old.Bound != nil {
		return s.enclose(ctx, suite, old.Bound.Label, c.Access, more...)
	}
	return s.newKey(ctx, c.Access, "made", func() (hsm.Key, hsm.Files, error) {
		return s.a.c.HSM.Generate(ctx, suite, old.Custody, s.state().KeyMode())
	}, more...)
}

// succession is what a rotation changes beside the new key.
func (s *step) succession(a store.Access, old store.Key) (more []store.Change) {
	elsewhere := slices.ContainsFunc(s.state().Accesses(), func(x store.Access) bool {
		return x.ID != a.ID && len(x.Keys) > 0 && x.Keys[0] == old.ID
	})
	if !elsewhere {
		more = append(more, store.KeyMark{ID: old.ID, State: store.Deactivated})
	}
	if now, err := s.a.trusted(); err == nil && a.Rotation.Every > 0 {
		next := now.Add(time.Duration(a.Rotation.Every) * time.Second)
		more = append(more, store.AccessRotate{ID: a.ID, Rotation: store.Rotation{Every: a.Rotation.Every, Next: next}})
	}
	return more
}

func (s *step) accessRotate(ctx context.Context, c console.AccessRotate) error {
	if c.Every == 0 {
		if err := s.commit(ctx, store.AccessRotate{ID: c.Access}); err != nil {
			return err
		}
		return s.say("%s is rotated by hand only (key rotate).", c.Access)
	}
	now, err := s.a.trusted()
	if err != nil {
		return err
	}
	r := store.Rotation{Every: int64(c.Every / time.Second), Next: now.Add(c.Every)}
	if err := s.commit(ctx, store.AccessRotate{ID: c.Access, Rotation: r}); err != nil {
		return err
	}
	return s.say("%s gets a new current key at %s, and every %v after that.", c.Access, stamp(r.Next), c.Every)
}

func (s *step) keyExpire(ctx context.Context, c console.KeyExpire) error {
	k, err := s.key(c.Key)
	if err != nil {
		return err
	}
	expire := store.KeyExpire{ID: k.ID, At: c.At}
	if _, err := store.Apply(s.state(), expire); err != nil {
		return err
	}
	if !c.At.IsZero() {
		now, err := s.a.trusted()
		if err != nil {
			return err
		}
		if !c.At.After(now) {
			return fmt.Errorf("%s has passed; deactivate the key at once with: key mark %s deactivated", stamp(c.At), short(k.ID))
		}
	}
	if err := s.commit(ctx, expire); err != nil {
		return err
	}
	if c.At.IsZero() {
		return s.say("Key %s does not expire.", short(k.ID))
	}
	return s.say("Key %s is deactivated at %s. Where it is the current key then, it is rotated.", short(k.ID), stamp(c.At))
}

func (s *step) keyDelete(ctx context.Context, c console.KeyDelete) error {
	k, err := s.key(c.Key)
	if err != nil {
		return err
	}
	now, err := s.a.trusted()
	if err != nil {
		return err
	}
	after := c.After
	if after == 0 {
		after = usualCooling
	}
	if after < store.MinCooling || after > store.MaxCooling {
		return errors.New("a key is destroyed after 1d at least and 366d at most")
	}
	doom := store.KeyDoom{ID: k.ID, At: now.Add(after)}
	if _, err := store.Apply(s.state(), doom); err != nil {
		return err
	}
	if err := s.confirm("Destroy key %s in %v? From now on it opens nothing. %s Until then, take it back with: key keep %s", short(k.ID),
		after, s.loss(k), short(k.ID)); err != nil {
		return err
	}
	if err := s.commit(ctx, doom); err != nil {
		return err
	}
	return s.say("Key %s is destroyed at %s, and opens nothing from now on. %s Take it back with: key keep %s", k.ID, stamp(doom.At), s.loss(k), short(k.ID))
}

// loss says what cannot be decrypted any more without a key, and whether it is elsewhere.
func (s *step) loss(k store.Key) string {
	copies := "There is no copy of it."
	switch {
	case k.From != nil:
		copies = fmt.Sprintf("It came from %s, which may still have it.", k.From.Box)
	case k.Origin == hsm.Imported || k.Origin == hsm.Wrapped:
		copies = "It was imported: whoever made it may still have it."
	case k.Custody == hsm.Replicable && len(s.state().Peers()) > 0:
		copies = "Other boxes may have copies."
	}
	users := s.users(k.ID)
	if len(users) == 0 {
		return "No access identifier has it. " + copies
	}
	return fmt.Sprintf("What was encrypted to it for %s since %s can then not be decrypted here. %s", strings.Join(users, ", "), stamp(k.Made), copies)
}

// users are the access identifiers that have a key.
func (s *step) users(id block.KeyID) (out []string) {
	for _, a := range s.state().Accesses() {
		if slices.Contains(a.Keys, id) {
			out = append(out, string(a.ID))
		}
	}
	return out
}

func (s *step) keyKeep(ctx context.Context, c console.KeyKeep) error {
	k, err := s.key(c.Key)
	if err != nil {
		return err
	}
	if err := s.commit(ctx, store.KeyDoom{ID: k.ID}); err != nil {
		return err
	}
	kept, _ := s.state().Key(k.ID)
	return s.say("Key %s stays. It is %s. %s", short(k.ID), kept.State, meaning(kept.State))
}

// keyRequest prints what certifies a key. A request of PKCS #10 is signed by the key itself, and none of ours may sign.
func (s *step) keyRequest(c console.KeyRequest) error {
	k, err := s.key(c.Key)
	if err != nil {
		return err
	}
	users := s.users(k.ID)
	if len(users) == 0 {
		return errors.New("this key may not sign, so that there is no PKCS #10 request of it (RFC 2986); and no access identifier has it, so that the box does not certify it: access keys")
	}
	s.say("Key %s may not sign: in the HSM it is made for opening what is encrypted to it, and nothing else. A request of PKCS #10 would be signed by the key itself (RFC 2986). "+
		"In its place the box vouches for it, by certificates under its label key:", short(k.ID))
	for _, a := range users {
		field(s, "access", a)
		if err := s.certificate(s.state().Certificate(kra.AccessID(a), k.ID)); err != nil {
			return err
		}
	}
	return nil
}

// leaving says whether a key ever could leave the HSM, or was outside.
func leaving(k store.Key) string {
	switch {
	case k.From != nil:
		return "came wrapped from another box; may leave, wrapped for a box that was admitted"
	case k.Origin == hsm.Imported && k.Custody == hsm.Bound:
		return "was outside before it was imported, in the clear, over the console; cannot leave since"
	case k.Origin == hsm.Imported:
		return "was outside before it was imported, in the clear, over the console; may leave, wrapped for a box that was admitted"
	case k.Origin == hsm.Wrapped && k.Custody == hsm.Bound:
		return "was outside before it was imported; came wrapped, and was opened in the HSM; cannot leave since"
	case k.Origin == hsm.Wrapped:
		return "was outside before it was imported; came wrapped, and was opened in the HSM; may leave, wrapped for a box that was admitted"
	case k.Custody == hsm.Replicable:
		return "never was outside in the clear; may leave, wrapped for a box that was admitted"
	case k.Custody == hsm.Bound && k.Mode == hsm.Vault:
		return "never was outside but wrapped by the HSM, which unwraps it as a key that cannot leave"
	case k.Custody == hsm.Labelled:
		return "never was outside in the clear; lies sealed to this box's TPM while its label is away"
	}
	return "never could leave the HSM"
}

// Tend does what time has brought about: requests end that waited too long, and by a trusted clock there are destructions, rotations,
// the ends of cryptoperiods, new certificates. What was done is done with the state that says so, and is not due again.
func (a *Agent) Tend(ctx context.Context) (failed error) {
	if a.full() != nil {
		return nil // health says so, and it is made up for
	}
	a.change.Lock()
	a.expire(ctx)
	a.change.Unlock()
	failed = a.certify(ctx)
	now, err := a.trusted()
	if err != nil {
		return failed
	}
	for _, d := range a.c.Store.State().Due(now) {
		failed = errors.Join(failed, a.tend(ctx, d))
	}
	return errors.Join(failed, a.forgetCopies(ctx))
}

// forgetCopies renews the state's key once keys were destroyed: no copy of the disk from before, where they still are, opens any more.
func (a *Agent) forgetCopies(ctx context.Context) error {
	a.change.Lock()
	defer a.change.Unlock()
	if a.c.Renew == nil || !a.owes() || time.Since(a.renewed) < tendAgain {
		return nil
	}
	a.renewed = time.Now() // by no clock that anybody sets
	s := &step{a: a, ctx: ctx, officer: store.Officer{Name: byClock}, out: io.Discard, line: "boot renew"}
	err := s.act(ctx)
	if err == nil {
		err = a.renew(ctx)
	}
	s.finish(ctx, err)
	if err != nil {
		return fmt.Errorf("%s: %w", s.line, err)
	}
	return nil
}

// tend does one thing, if it is still due.
func (a *Agent) tend(ctx context.Context, d store.Task) error {
	a.change.Lock()
	defer a.change.Unlock()
	now, err := a.trusted()
	if err != nil || !slices.Contains(a.c.Store.State().Due(now), d) {
		return nil
	}
	if last, tried := a.failed[d]; tried && now.Sub(last).Abs() < tendAgain {
		return nil
	}
	s := &step{a: a, ctx: ctx, officer: store.Officer{Name: byClock}, out: io.Discard}
	switch {
	case d.Rotate != "":
		s.line = "key rotate " + string(d.Rotate)
		err = s.keyRotate(ctx, console.KeyRotate{Access: d.Rotate})
	case d.Expire != block.KeyID{}:
		s.line = "key mark " + d.Expire.String() + " deactivated"
		err = s.commit(ctx, store.KeyMark{ID: d.Expire, State: store.Deactivated})
	default:
		s.line = "key destroy " + d.Destroy.String()
		err = s.destroy(ctx, d.Destroy, now)
	}
	s.finish(ctx, err)
	delete(a.failed, d)
	if err != nil {
		a.failed[d] = now
		return fmt.Errorf("%s: %w", s.line, err)
	}
	return nil
}

// destroy destroys a key in the HSM and then in the store. Where the store does not take it, the HSM is given the key again that the store
// has, so that both go together the next time.
func (s *step) destroy(ctx context.Context, id block.KeyID, now time.Time) error {
	if err := s.act(ctx); err != nil {
		return err
	}
	files, err := s.a.c.HSM.Destroy(ctx, id)
	if errors.Is(err, hsm.ErrNoKey) { // lost to the token, not to the store
		if err := s.a.c.HSM.Refresh(ctx); err != nil {
			return err
		}
		if files, err = s.a.c.HSM.Destroy(ctx, id); errors.Is(err, hsm.ErrNoKey) {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	if err := s.commit(ctx, store.KeyRemove{ID: id, Files: files, At: now}); err != nil {
		return errors.Join(err, s.a.c.HSM.Refresh(ctx))
	}
	s.follow(ctx)
	return nil
}

// destroyed describes a key that is no more.
func (s *step) destroyed(ref console.KeyRef) (ok bool, err error) {
	var found []string
	all := s.state().Destroyed()
	for id := range all {
		if strings.HasPrefix(id, string(ref)) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return false, nil
	case 1:
	default:
		return true, fmt.Errorf("%d destroyed keys begin with %s; give more digits", len(found), ref)
	}
	g := all[found[0]]
	field(s, "key", found[0])
	field(s, "type", fmt.Sprintf("%s, %s, made %s", g.Suite, g.Custody, stamp(g.Made)))
	var of []string
	for _, a := range g.Access {
		of = append(of, string(a))
	}
	return true, field(s, "state", fmt.Sprintf("destroyed %s; was a key of %s", stamp(g.At), orElse(strings.Join(of, ", "), "nobody")))
}

// enclose makes a key that is bound to a label the current key of an access identifier.
func (s *step) enclose(ctx context.Context, suite hsm.Suite, l label.ID, id kra.AccessID, more ...store.Change) error {
	if s.a.c.Labels == nil {
		return errNoLabels
	}
	if err := s.hasAccess(id); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	k, b, err := s.a.c.Labels.Enclose(ctx, suite, l)
	if err != nil {
		return err
	}
	chain, err := s.a.c.TPM.LeafKeyRelease(ctx, k.SPKI, string(id), usage(k.Suite))
	if err != nil {
		return err // there is no key: nothing has what opens it
	}
	add := store.KeyAdd{Key: k, Made: time.Now(), Access: id, Chain: chain, Bound: &b}
	if err := s.commit(ctx, append([]store.Change{add}, more...)...); err != nil {
		return err
	}
	s.a.c.Labels.Follow(ctx)
	return s.say("Key %s was made: %s, bound to label %s, %s. It is the current key of %s. It dies with the box, and is on no other.",
		k.ID, k.Suite, l, s.usableNow(k.ID), id)
}
