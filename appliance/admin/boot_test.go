package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/backup"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/console"
)

// renewals has the state of the world renewed as krad does, by keys of the test.
type renewals struct {
	how    []machine.Opening
	secret [32]byte
	fault  error
}

func (w *world) renewals() *renewals {
	r := &renewals{}
	w.c.Lock, w.c.Owed = w.store.Lock, w.store.Owed
	w.c.Renew = func(_ context.Context, how machine.Opening, secret [32]byte, lock *store.Lock) error {
		if r.fault != nil {
			return r.fault
		}
		r.how, r.secret = append(r.how, how), secret
		var next [32]byte
		rand.Read(next[:])
		return w.store.Rekey(next, lock, func() error { w.key = next; return nil })
	}
	return r
}

// TestBootAttendedTakesTwo: one officer alone makes a box neither attended nor unattended; shares that are not typed back change nothing, and what
// nobody comes back for is forgotten.
func TestBootAttendedTakesTwo(t *testing.T) {
	w := paired(t)
	r := w.renewals()
	w.do("boot attended 2 of 3", "yes")
	w.fail("boot next", nil, "No unlock secret is being made")
	w.as(paul, paulPass, func() { w.do("approve 1", "yes") })
	if out := w.do("boot next"); !strings.Contains(out, "Share 1 of 3, of which it takes 2") {
		t.Errorf("shows:\n%s", out)
	}
	all := w.minting.shares
	other, err := backup.SplitSecret([32]byte{1}, w.minting.name, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	w.fail("boot share", []string{other[0].Text()}, "hare 1 is wrong")
	for i, x := range all {
		if len(r.how) > 0 || w.store.Lock() != nil {
			t.Fatalf("after %d shares the state is renewed", i)
		}
		w.has("system secrets", "3: share of an unlock secret")
		w.do("boot share", x.Text())
	}
	if len(r.how) != 1 || r.how[0] != machine.WithSecret || r.secret == [32]byte{} || w.store.Lock() == nil {
		t.Fatalf("renewed %v, lock %v", r.how, w.store.Lock())
	}
	if w.minting != nil {
		t.Error("the secret is still there")
	}
	w.has("system secrets", "1: unlock secret")
	if strings.Contains(w.private(), all[0].Line(2)) {
		t.Error("a share is in the log")
	}
	for _, line := range []string{"reboot", "poweroff"} {
		if _, o := w.try(line); o.Ask == nil || !strings.Contains(o.Ask.Prompt, "and 2 of 3 shares of unlock secret "+w.store.Lock().Name) {
			t.Errorf("%s: %+v", line, o)
		}
	}
	w.do("boot unattended", "yes")
	if len(r.how) != 1 {
		t.Fatal("unattended on one officer's word")
	}
	w.as(paul, paulPass, func() { w.do("approve 2", "yes") })
	if len(r.how) != 2 || r.how[1] != machine.Unattended || w.store.Lock() != nil {
		t.Fatalf("renewed %v, lock %v", r.how, w.store.Lock())
	}
	w.do("boot attended 1 of 1", "yes")
	w.as(paul, paulPass, func() { w.do("approve 3", "yes") })
	kept := w.minting
	w.c.Now = func() time.Time { return time.Now().Add(shareLimit) }
	w.fail("boot next", nil, "No unlock secret is being made")
	if kept.secret != [32]byte{} {
		t.Error("what was forgotten is still there")
	}
}

// TestDestructionRenews: once a key was destroyed the state's key is renewed, as often as it takes, and no more.
func TestDestructionRenews(t *testing.T) {
	w := enrolled(t)
	r := w.renewals()
	now, trusted := time.Now(), true
	w.at(&now, &trusted)
	w.do("access add legal-team")
	for range 3 {
		w.do("key generate p256 for legal-team")
	}
	w.tend()
	for _, k := range w.keysOf("legal-team")[1:] {
		w.do("key delete "+k.String()+" after 1d", "yes")
	}
	now = now.Add(25 * time.Hour)
	r.fault = errors.New("the TPM is away")
	if err := w.Tend(t.Context()); err == nil || !strings.Contains(err.Error(), "the TPM is away") || len(w.store.State().Keys()) != 1 {
		t.Fatalf("Tend = %v; %d keys", err, len(w.store.State().Keys()))
	}
	w.has("boot show", "a key was destroyed and copies of the disk from before")
	now = now.Add(-300 * 24 * time.Hour) // whatever is made of the clock
	if err := w.Tend(t.Context()); err != nil {
		t.Errorf("it is tried again at once: %v", err)
	}
	w.start() // another agent, which was not there
	w.at(&now, &trusted)
	w.login()
	r = w.renewals()
	w.tend()
	if len(r.how) != 1 || r.how[0] != machine.AsBefore {
		t.Errorf("renewed %v", r.how)
	}
	w.tend()
	if len(r.how) != 1 || strings.Contains(w.do("boot show"), "owed") {
		t.Errorf("renewed again: %v", r.how)
	}
	if !strings.Contains(w.private(), `"officer":"(clock)","line":"boot renew","stage":"done"`) {
		t.Error("the log does not say so")
	}
}

// TestBootOnAHost: where nothing measures what starts the agent, nobody is told that a share would help.
func TestBootOnAHost(t *testing.T) {
	w := enrolled(t)
	for _, line := range []string{"boot attended 2 of 3", "boot unattended", "boot renew"} {
		w.fail(line, []string{"yes"}, "not the agent's to say")
	}
	w.has("boot show", "its host's supervisor")
	w.fail("unlock", nil, "This box is open")
}

// TestUnlockForgets: the agent of a box that waits does what its mode allows and nothing else, and forgets the shares that nobody completes.
func TestUnlockForgets(t *testing.T) {
	w := factory(t)
	name := unlockName([32]byte{9})
	all, err := backup.SplitSecret([32]byte{9}, name, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	var got *Typed
	now := time.Now()
	config := Config{Mode: console.Attended, Domain: w.desk.Domain(), TPM: w.tpmd.Client, Health: func() []string { return nil }, Now: func() time.Time { return now },
		Waits: []store.Lock{{Name: "00000000", Threshold: 1, Shares: commitments(all[:1])}, {Name: name.String(), Threshold: 2, Shares: commitments(all)}},
		Unlock: func(_ context.Context, secret [32]byte, by Typed) error {
			if secret != [32]byte{9} {
				t.Error("another secret")
			}
			got = &by
			return nil
		}}
	w.become(New(config))
	fails := func(want, line string, answers ...string) {
		t.Helper()
		if _, o := w.try(line, answers...); !strings.Contains(o.Error, want) {
			t.Errorf("%s: %q; want %q", line, o.Error, want)
		}
	}
	for _, line := range []string{"officer list", "boot unattended", "enrol install", "enrol request", "zeroize", "system test"} {
		fails("This box waits", line, "yes")
	}
	w.do("unlock", all[2].Text())
	w.has("system secrets", "1: share of an unlock secret")
	fails("was typed before", "unlock", all[2].Text())
	kept := w.gathering.shares[0]
	now = now.Add(shareLimit)
	w.do("unlock", all[0].Text())
	if got != nil || kept.Text() == all[2].Text() {
		t.Fatal("a share of an hour ago still counts")
	}
	fails("A share has 5 lines", "unlock", "nonsense")
	w.do("unlock", all[1].Text())
	if got == nil || got.String() != "unlocked with shares 1, 2, after 0 wrong ones" {
		t.Errorf("unlocked: %v", got)
	}
	for name, c := range map[string]Config{"no lock": {Mode: console.Attended, TPM: config.TPM, Health: config.Health, Unlock: config.Unlock},
		"no way": {Mode: console.Attended, TPM: config.TPM, Health: config.Health, Waits: config.Waits}} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: an agent that waits in vain", name)
		}
	}
}
