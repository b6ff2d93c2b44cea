package store

import (
	"slices"
	"strings"
	"time"

	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// Limits of the life of keys.
const (
	MinRotation = time.Hour
	MaxRotation = 10 * 366 * 24 * time.Hour
	MinCooling  = 24 * time.Hour // between the order to destroy a key and its end
	MaxCooling  = 366 * 24 * time.Hour
)

// The life of a key, SP 800-57 part 1 revision 5, section 7. A key that is made is certified and active in one step; nobody sees it
// before, in pre-activation.
//
//	active ◄──► suspended
//	  │            │
//	  ├──────◄─────┘
//	  ├──► deactivated ──► compromised        any but active: destroyed, after its cooling-off time
//	  └──────────────────────►
var transitions = map[KeyState][]KeyState{
	Active:      {Suspended, Deactivated, Compromised},
	Suspended:   {Active, Deactivated, Compromised},
	Deactivated: {Compromised},
	Compromised: {},
}

// Opens says whether anything is released with the key: not while it is suspended, nor once it is to be destroyed.
func (k Key) Opens() bool { return k.State != Suspended && k.Destroy.IsZero() }

// A Rotation is when an access identifier gets a new current key.
type Rotation struct {
	Every int64     `json:"every,omitempty"` // seconds; 0: never
	Next  time.Time `json:"next,omitzero"`   // by a trusted clock
}

// AccessRotate sets when an access identifier gets its next current key, and how often after that.
type AccessRotate struct {
	ID       kra.AccessID `json:"id"`
	Rotation Rotation     `json:"rotation"`
}

func (AccessRotate) kind() string { return "access-rotate" }

func (c AccessRotate) apply(d *State) error {
	r := c.Rotation
	every := time.Duration(r.Every) * time.Second
	if r.Every < 0 || r.Every > int64(MaxRotation/time.Second) || r.Every > 0 && every < MinRotation || (r.Every == 0) != r.Next.IsZero() {
		return invalid("a rotation is every hour at most and every ten years at least, and has a time")
	}
	r.Next = r.Next.UTC().Truncate(time.Second)
	return d.changeAccess(c.ID, func(a *Access) error { a.Rotation = r; return nil })
}

// KeyExpire sets when a key's cryptoperiod ends; the zero time is never. It is deactivated then, by a trusted clock. What is suspended
// keeps the end that it has.
type KeyExpire struct {
	ID block.KeyID `json:"id"`
	At time.Time   `json:"at,omitzero"`
}

func (KeyExpire) kind() string { return "key-expire" }

func (c KeyExpire) apply(d *State) error {
	k, ok := d.keys.get(c.ID.String())
	if !ok {
		return invalid("there is no key %s", c.ID)
	}
	switch k.State {
	case Active:
	case Suspended:
		return invalid("key %s is suspended and keeps the end that it has; first: key mark %[1]s active", c.ID)
	default:
		return invalid("key %s is %s: nothing is encrypted to it any more", c.ID, k.State)
	}
	k.Until = c.At.UTC().Truncate(time.Second)
	d.keys.put(c.ID.String(), k)
	return nil
}

// KeyDoom orders the destruction of a key at a time, or with the zero time takes the order back. Nothing is released with the key in
// between, and it is active no more. One that was suspended stays so, with its end: it is not by taking the order back that it opens.
type KeyDoom struct {
	ID block.KeyID `json:"id"`
	At time.Time   `json:"at,omitzero"`
}

func (KeyDoom) kind() string { return "key-doom" }

func (c KeyDoom) apply(d *State) error {
	k, ok := d.keys.get(c.ID.String())
	if !ok {
		return invalid("there is no key %s", c.ID)
	}
	if users := d.usersOfKey(c.ID, 1); len(users) > 0 {
		return invalid("key %s is the current key of %s: give it another one first (key rotate)", c.ID, strings.Join(users, ", "))
	}
	switch {
	case c.At.IsZero() == k.Destroy.IsZero() && c.At.IsZero():
		return invalid("key %s is not to be destroyed", c.ID)
	case !c.At.IsZero() && !k.Destroy.IsZero():
		return invalid("key %s is to be destroyed already", c.ID)
	}
	if k.State != Suspended {
		k.Until = time.Time{}
	}
	if k.State == Active {
		k.State = Deactivated
	}
	k.Destroy = c.At.UTC().Truncate(time.Second)
	if c.At.IsZero() {
		k.Destroy = time.Time{}
	}
	d.keys.put(c.ID.String(), k)
	return nil
}

// KeyRemove forgets a key that the token has destroyed and that is current nowhere. What it was stays to be told.
type KeyRemove struct {
	ID    block.KeyID       `json:"id"`
	Files map[string][]byte `json:"files"` // nil value: removed
	At    time.Time         `json:"at,omitzero"`
}

func (KeyRemove) kind() string { return "key-remove" }

func (c KeyRemove) apply(d *State) error {
	k, ok := d.keys.get(c.ID.String())
	if !ok {
		return invalid("there is no key %s", c.ID)
	}
	if users := d.usersOfKey(c.ID, 1); len(users) > 0 {
		return invalid("key %s is the current key of %s", c.ID, strings.Join(users, ", "))
	}
	gone := Gone{Suite: k.Suite, Custody: k.Custody, Made: k.Made, At: c.At.UTC().Truncate(time.Second), Access: []kra.AccessID{}}
	for _, a := range d.access.sorted() {
		if !slices.Contains(a.Keys, c.ID) {
			continue
		}
		gone.Access = append(gone.Access, a.ID)
		left := slices.DeleteFunc(slices.Clone(a.Keys), func(id block.KeyID) bool { return id == c.ID })
		if err := d.changeAccess(a.ID, func(a *Access) error { return d.setKeys(a, left) }); err != nil {
			return err
		}
	}
	d.gone.put(c.ID.String(), gone)
	d.keys.remove(c.ID.String())
	if d.tags.has(c.ID.String()) {
		d.tags.remove(c.ID.String())
	}
	return TokenSet{c.Files}.apply(d)
}

// A Gone key was destroyed here; a copy of it is not taken. They stay for ever, some bytes for each.
type Gone struct {
	Suite   hsm.Suite      `json:"suite"`
	Custody hsm.Custody    `json:"custody"`
	Made    time.Time      `json:"made"`
	At      time.Time      `json:"at,omitzero"` // when it was destroyed
	Access  []kra.AccessID `json:"access"`      // whose blocks it opened
}

// WasDestroyed says whether a key was destroyed here.
func (s *State) WasDestroyed(id block.KeyID) bool { return s.gone.has(id.String()) }

// Destroyed returns the keys that were destroyed here, by id.
func (s *State) Destroyed() map[string]Gone {
	out := map[string]Gone{}
	for id, g := range s.gone.all() {
		out[id] = *g
	}
	return out
}

// A Task is one thing that time brings about: a new key, the end of a cryptoperiod, a destruction.
type Task struct {
	Rotate  kra.AccessID // this access identifier gets a new current key, or
	Expire  block.KeyID  // this key is deactivated, or
	Destroy block.KeyID  // this key is destroyed
}

// Due returns what is to be done by the trusted time now: first destructions, then rotations, then what has expired. A key that
// expires while it is current is rotated away. One that is suspended expires when it is active again: deactivated, it would open.
func (s *State) Due(now time.Time) (due []Task) {
	current := map[block.KeyID]bool{}
	var rotate, expire []Task
	for _, a := range s.access.sorted() {
		if len(a.Keys) == 0 {
			continue
		}
		current[a.Keys[0]] = true
		k, _ := s.keys.get(a.Keys[0].String())
		if past(a.Rotation.Next, now) || past(k.Until, now) {
			rotate = append(rotate, Task{Rotate: a.ID})
		}
	}
	for _, k := range s.keys.sorted() {
		switch {
		case past(k.Destroy, now):
			due = append(due, Task{Destroy: k.ID})
		case past(k.Until, now) && !current[k.ID] && k.State == Active:
			expire = append(expire, Task{Expire: k.ID})
		}
	}
	return slices.Concat(due, rotate, expire)
}

// past says whether a time that is set has come.
func past(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }
