package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/backup"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/receipt"
)

// unlockContext is that of an unlock secret's name.
const unlockContext = "kra/unlock-name/v1"

// unlockName is the beginning of a hash of the unlock secret, as its shares carry it.
func unlockName(secret [32]byte) backup.KeyName {
	b := append([]byte(unlockContext+"\x00"), secret[:]...)
	defer clear(b)
	h := sha256.Sum256(b)
	return backup.KeyName(h[:4])
}

// A minting is an unlock secret that is being made.
//
//	shares --> (next --> share typed back) for each --> the state's key wants it; it is forgotten
type minting struct {
	secret [32]byte
	name   backup.KeyName
	shares []backup.Share
	typed  []bool
	until  time.Time
}

func (m *minting) forget() {
	clear(m.secret[:])
	for _, x := range m.shares {
		x.Clear()
	}
}

// left is how many shares were not typed yet.
func (m *minting) left() (n int) {
	for _, ok := range m.typed {
		if !ok {
			n++
		}
	}
	return n
}

func (m *minting) lock() *store.Lock {
	return &store.Lock{Name: m.name.String(), Threshold: m.shares[0].Threshold, Shares: commitments(m.shares)}
}

func (a *Agent) unmint() {
	if a.minting != nil {
		a.minting.forget()
		a.minting = nil
	}
}

var errNoBody = errors.New("how this agent's state opens is not the agent's to say: nothing measures what starts it on an ordinary host")

func (s *step) bootAttended(ctx context.Context, c console.BootAttended) error {
	if s.a.c.Renew == nil {
		return errNoBody
	}
	if alone := c.Threshold == 1 && c.Shares == 1; !alone && (c.Threshold < 2 || c.Threshold > c.Shares || c.Shares > label.MaxShares) {
		return fmt.Errorf("%d of %d shares: it is 1 of 1, or it takes two at least, and there are %d at most", c.Threshold, c.Shares, label.MaxShares)
	}
	instead := ""
	if l := s.a.lock(); l != nil {
		instead = fmt.Sprintf(" They take the place of the shares of unlock secret %s, which open nothing then.", l.Name)
	}
	if err := s.confirm("Have %s wait after each restart, open to nobody, until %d of %d shares are typed at its console?%s Whoever cannot bring so many "+
		"has nothing left of this box but its backups.", s.state().Box().Name, c.Threshold, c.Shares, instead); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	m := &minting{typed: make([]bool, c.Shares), until: s.a.now().Add(shareLimit)}
	rand.Read(m.secret[:])
	m.name = unlockName(m.secret)
	var err error
	if m.shares, err = backup.SplitSecret(m.secret, m.name, c.Threshold, c.Shares); err != nil {
		return err
	}
	s.a.unmint()
	s.a.minting = m
	s.a.lapsing()
	return s.say("%s. One after another, each alone with who is to have it: boot next shows a share, to be written down; boot share takes it back, typed "+
		"from the paper. The box is attended when the last was typed, within an hour. Until then it is as it was.", count(c.Shares, "share was made", "shares were made"))
}

func (s *step) bootNext(ctx context.Context) error {
	m := s.a.minting
	if m == nil {
		return errors.New("no unlock secret is being made; begin with: boot attended 2 of 3")
	}
	i := slices.Index(m.typed, false)
	x := m.shares[i]
	if err := s.begin(ctx); err != nil {
		return err
	}
	if err := s.record(ctx, receipt.Command, "shows", fmt.Sprintf("share %d of unlock secret %s", x.Index, m.name)); err != nil {
		return fmt.Errorf("nothing is shown: the log takes no record: %w", err)
	}
	s.say("Share %d of %d, of which it takes %d; unlock secret %s, box %s. Write it down with this line.", x.Index, x.Shares, x.Threshold, m.name, s.state().Box().Name)
	fmt.Fprintln(s)
	s.Write([]byte(x.Text()))
	fmt.Fprintln(s)
	return s.say("Clear the terminal. Then type it from the paper: boot share")
}

// paper asks for a share.
func (s *step) paper() (backup.Share, error) {
	text, err := s.next(wire.Paste, "Type the five lines of the share.")
	if err != nil {
		return backup.Share{}, err
	}
	return backup.ParseShare(text)
}

// of holds a share to what was noted of it when it was made.
func of(l store.Lock, x backup.Share) error {
	if x.Key.String() != l.Name {
		return fmt.Errorf("that is share %d of %s; this box has unlock secret %s", x.Index, x.Key, l.Name)
	}
	if x.Threshold != l.Threshold || x.Shares != len(l.Shares) || !x.Is(backup.Commitment(l.Shares[x.Index-1])) {
		return fmt.Errorf("share %d is wrong: it is not share %[1]d of unlock secret %s", x.Index, l.Name)
	}
	return nil
}

func (s *step) bootShare(ctx context.Context) error {
	x, err := s.paper()
	if err != nil {
		return err
	}
	defer x.Clear()
	m := s.a.minting
	if m == nil || m.name != x.Key {
		l := s.a.lock()
		if l == nil {
			return errors.New("this box opens by itself: there is no unlock secret")
		}
		if err := of(*l, x); err != nil {
			return err
		}
		return s.say("Right: share %d of %d, of which it takes %d.", x.Index, x.Shares, x.Threshold)
	}
	if err := of(*m.lock(), x); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	m.typed[x.Index-1] = true
	if n := m.left(); n > 0 {
		return s.say("Right: share %d of %d. %s to be written down: boot next", x.Index, x.Shares, count(n, "more has", "more have"))
	}
	defer s.a.unmint()
	if err := s.a.c.Renew(ctx, machine.WithSecret, m.secret, m.lock()); err != nil {
		return err
	}
	return s.say("This box is attended: after a restart it waits for %d of %d shares of unlock secret %s (unlock). No copy of its disk from before opens any more.",
		x.Threshold, x.Shares, m.name)
}

func (s *step) bootUnattended(ctx context.Context) error {
	switch {
	case s.a.c.Renew == nil:
		return errNoBody
	case s.a.lock() == nil:
		return errors.New("this box opens by itself already")
	}
	if err := s.confirm("Have %s open by itself after a restart, also for who has carried it away? The shares of unlock secret %s open nothing then.",
		s.state().Box().Name, s.a.lock().Name); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	s.a.unmint()
	if err := s.a.c.Renew(ctx, machine.Unattended, [32]byte{}, nil); err != nil {
		return err
	}
	return s.say("This box opens by itself. Its shares open nothing any more: destroy them.")
}

func (s *step) bootRenew(ctx context.Context) error {
	if s.a.c.Renew == nil {
		return errNoBody
	}
	if err := s.confirm("Renew the key of this box's state? Copies of its disk from before open here no more; a backup does."); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	if err := s.a.renew(ctx); err != nil {
		return err
	}
	return s.say("Renewed.")
}

// renew renews the state's key and leaves how it opens.
func (a *Agent) renew(ctx context.Context) error {
	return a.c.Renew(ctx, machine.AsBefore, [32]byte{}, a.lock())
}

// owes says whether copies of the disk that still open have a key that was destroyed.
func (a *Agent) owes() bool { return a.c.Owed != nil && a.c.Owed() }

// lock is what it takes beside the TPM to open the state.
func (a *Agent) lock() *store.Lock {
	if a.c.Lock == nil {
		return nil
	}
	return a.c.Lock()
}

func (s *step) bootShow() error {
	l := s.a.lock()
	switch {
	case s.a.c.Renew == nil:
		field(s, "opens", "with the key that its host's supervisor gives it")
	case l == nil:
		field(s, "opens", "unattended, with its TPM alone (boot attended 2 of 3)")
	default:
		field(s, "opens", fmt.Sprintf("attended, with its TPM and %d of %s of unlock secret %s", l.Threshold, count(len(l.Shares), "share", "shares"), l.Name))
	}
	if m := s.a.minting; m != nil {
		field(s, "being made", fmt.Sprintf("unlock secret %s, %s to be typed, until %s", m.name, count(m.left(), "share", "shares"), stamp(m.until)))
	}
	if s.a.owes() {
		field(s, "owed", "a key was destroyed and copies of the disk from before still open: boot renew")
	}
	return nil
}

// A gathering is what was typed at the console of a box that waits.
type gathering struct {
	shares []backup.Share
	wrong  int
	until  time.Time
}

func (g *gathering) forget() {
	for _, x := range g.shares {
		x.Clear()
	}
	g.shares = nil
}

// Typed is what opened a box that waited: by which shares, and how many wrong ones were typed.
type Typed struct {
	Shares []int
	Wrong  int
}

// String is empty if nothing was typed.
func (t Typed) String() string {
	if len(t.Shares) == 0 {
		return ""
	}
	return fmt.Sprintf("unlocked with %s, after %s", t.shares(), count(t.Wrong, "wrong one", "wrong ones"))
}

func (t Typed) shares() string {
	words := strings.Fields(strings.Trim(fmt.Sprint(t.Shares), "[]"))
	if len(words) == 1 {
		return "share " + words[0]
	}
	return "shares " + strings.Join(words, ", ")
}

func (s *step) unlock(ctx context.Context) error {
	if s.a.c.Mode != console.Attended {
		return errors.New("this box is open; how it opens after a restart says: boot show")
	}
	x, err := s.paper()
	if err != nil {
		return err
	}
	g := &s.a.gathering
	lock, err := s.waitsFor(x)
	if err != nil {
		x.Clear()
		g.wrong++
		return err
	}
	if slices.ContainsFunc(g.shares, func(y backup.Share) bool { return y.Key == x.Key && y.Index == x.Index }) {
		x.Clear()
		return fmt.Errorf("share %d was typed before; it takes another one", x.Index)
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	g.shares = append(g.shares, x)
	g.until = s.a.now().Add(shareLimit)
	s.a.lapsing()
	var mine []backup.Share
	by := Typed{Wrong: g.wrong}
	for _, y := range g.shares {
		if y.Key == x.Key {
			mine, by.Shares = append(mine, y), append(by.Shares, y.Index)
		}
	}
	if n := lock.Threshold - len(mine); n > 0 {
		return s.say("Right: share %d of %d. %s: unlock", x.Index, x.Shares, count(n, "more is needed", "more are needed"))
	}
	secret, err := backup.CombineSecret(mine)
	g.forget()
	if err != nil {
		return err
	}
	defer clear(secret[:])
	if err := s.a.c.Unlock(ctx, secret, by); err != nil {
		return err
	}
	s.end = true
	return s.say("Unlocked with %s. The box opens.", by.shares())
}

// waitsFor is the lock that a share is of.
func (s *step) waitsFor(x backup.Share) (lock store.Lock, err error) {
	for _, l := range s.a.c.Waits {
		if err = of(l, x); err == nil {
			return l, nil
		}
	}
	return lock, err
}
