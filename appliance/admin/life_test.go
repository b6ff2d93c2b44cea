package admin

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// at sets the clock of a world: what it says, and whether it is trusted.
func (w *world) at(now *time.Time, trusted *bool) {
	w.Agent.c.Now = func() time.Time { return *now }
	w.Agent.c.Clock = func() (bool, string) { return *trusted, "manual" }
}

func (w *world) tend() {
	w.t.Helper()
	if err := w.Tend(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) keysOf(id string) []block.KeyID {
	w.t.Helper()
	for _, a := range w.store.State().Accesses() {
		if string(a.ID) == id {
			return a.Keys
		}
	}
	w.t.Fatalf("no access identifier %s", id)
	return nil
}

func (w *world) stateOf(id block.KeyID) store.KeyState {
	k, _ := w.store.State().Key(id)
	return k.State
}

// TestRotation: a rotation makes a key of the same kind current and deactivates the one before; the schedule does the same, once each time, by a
// trusted clock only, and goes on after a restart.
func TestRotation(t *testing.T) {
	w := enrolled(t)
	now, trusted := time.Now(), false
	w.at(&now, &trusted)
	w.do("access add legal-team")
	w.fail("key rotate legal-team", nil, "no key yet")
	w.fail("key rotate nobody", nil, "There is no access identifier")
	w.do("key generate p384 bound for legal-team")
	w.has("key rotate legal-team", "p384, bound", "It is the current key of legal-team")
	two := w.keysOf("legal-team")
	if len(two) != 2 || w.stateOf(two[0]) != store.Active || w.stateOf(two[1]) != store.Deactivated {
		t.Fatalf("after a rotation: %v", two)
	}
	if !slices.Equal(opening(w, "legal-team"), two) {
		t.Error("the old generation does not open any more")
	}
	w.fail("access rotate legal-team every 90d", nil, "clock is not trusted")
	trusted = true
	w.do("access rotate legal-team every 90d")
	w.has("access show legal-team", "rotation", "every 2160h")
	w.fail("access rotate legal-team every 10m", nil, "every hour at most")
	w.tend()
	if n := len(w.keysOf("legal-team")); n != 2 {
		t.Fatalf("%d keys before the time has come", n)
	}
	now, trusted = now.Add(91*24*time.Hour), false
	w.tend()
	if n := len(w.keysOf("legal-team")); n != 2 {
		t.Fatalf("%d keys: rotated by a clock that nobody trusts", n)
	}
	trusted = true
	w.start() // as after a restart: the schedule is in the state
	w.at(&now, &trusted)
	w.login()
	for range 3 {
		w.tend()
	}
	three := w.keysOf("legal-team")
	if len(three) != 3 || w.stateOf(three[0]) != store.Active || w.stateOf(three[1]) != store.Deactivated {
		t.Fatalf("after the schedule's time: %v", three)
	}
	if w.store.State().Certificate("legal-team", three[0]) == nil {
		t.Error("the new key is not certified")
	}
	if !strings.Contains(w.private(), `"officer":"(clock)","line":"key rotate legal-team","stage":"done"`) {
		t.Error("the log does not say that the schedule rotated")
	}
	now = now.Add(-200 * 24 * time.Hour)
	w.tend()
	now = now.Add(10 * 366 * 24 * time.Hour) // years at once are one rotation
	w.tend()
	w.tend()
	if n := len(w.keysOf("legal-team")); n != 4 {
		t.Errorf("%d keys after years, want 4", n)
	}
	w.do("access rotate legal-team never")
	now = now.Add(400 * 24 * time.Hour)
	w.tend()
	if n := len(w.keysOf("legal-team")); n != 4 {
		t.Errorf("%d keys though the schedule has ended", n)
	}
}

// opening are the keys that the book has of an access identifier.
func opening(w *world, id string) (out []block.KeyID) {
	for _, k := range w.keysOf(id) {
		if slices.ContainsFunc(w.book.Load().AccessOf(k), func(a policy.AccessID) bool { return string(a) == id }) {
			out = append(out, k)
		}
	}
	return out
}

// private is all of the log's private parts.
func (w *world) private() string {
	w.t.Helper()
	var all strings.Builder
	if err := w.log.Records(0, 0, func(_ int64, r receipt.Record) error { all.Write(r.Private); return nil }); err != nil {
		w.t.Fatal(err)
	}
	return all.String()
}

// TestKeyEnds: a key expires; it is ordered to be destroyed, opens nothing from then on, can be kept, and is gone from the HSM after its
// time and not before; what it was can still be read.
func TestKeyEnds(t *testing.T) {
	w := enrolled(t)
	now, trusted := time.Now(), true
	w.at(&now, &trusted)
	w.do("access add legal-team")
	w.do("key generate p256 bound for legal-team")
	first := w.keysOf("legal-team")[0]
	w.fail("key delete "+short(first), []string{"yes"}, "current key of legal-team")
	w.has("key show "+short(first), "never could leave the HSM")
	w.do("key expire " + short(first) + " at " + now.Add(48*time.Hour).UTC().Format(time.RFC3339))
	w.has("key show "+short(first), "active, until")
	w.fail("key expire "+short(first)+" at 2020-01-01T00:00:00Z", nil, "has passed")
	now = now.Add(49 * time.Hour)
	w.tend()
	w.tend()
	if keys := w.keysOf("legal-team"); len(keys) != 2 || keys[1] != first || w.stateOf(first) != store.Deactivated {
		t.Fatalf("after its end: %v, %s", keys, w.stateOf(first))
	}
	w.fail("key mark "+short(first)+" active", nil, "stays so")

	line := "key delete " + short(first)
	if _, o := w.try(line); o.Ask == nil || !strings.Contains(o.Ask.Prompt, "for legal-team since") || !strings.Contains(o.Ask.Prompt, "There is no copy") {
		t.Errorf("what will be lost is not said: %+v", o.Ask)
	}
	w.fail(line+" after 1h", []string{"yes"}, "after 1d at least")
	trusted = false
	w.fail(line, []string{"yes"}, "clock is not trusted")
	trusted = true
	w.do(line, "yes")
	if got := opening(w, "legal-team"); slices.Contains(got, first) {
		t.Error("a key that is to be destroyed opens")
	}
	w.fail(line, []string{"yes"}, "destroyed already")
	w.fail("key mark "+short(first)+" compromised", nil, "keep it first")
	now = now.Add(6 * 24 * time.Hour)
	w.tend()
	w.do("key keep " + short(first))
	now = now.Add(30 * 24 * time.Hour)
	w.tend()
	if got := opening(w, "legal-team"); !slices.Contains(got, first) || w.fault.destroyed != 0 {
		t.Fatalf("a key that was kept opens no more, or was destroyed %d times", w.fault.destroyed)
	}
	w.fail("key keep "+short(first), nil, "is not to")
	w.do(line+" after 30d", "yes")
	now = now.Add(31 * 24 * time.Hour)
	trusted = false
	w.tend()
	if w.fault.destroyed != 0 {
		t.Fatal("destroyed by a clock that nobody trusts")
	}
	trusted = true
	w.tend()
	w.tend()
	if _, there := w.store.State().Key(first); there || w.fault.destroyed != 1 || len(w.keysOf("legal-team")) != 1 {
		t.Errorf("after its time: there %v, destroyed %d times", there, w.fault.destroyed)
	}
	if keys, err := w.fault.List(t.Context()); err != nil || len(keys) != 1 || keys[0].ID == first {
		t.Errorf("the HSM has %v, %v", keys, err)
	}
	w.has("key show "+short(first), "destroyed 20", "legal-team")
	if !strings.Contains(w.private(), `"officer":"(clock)","line":"key destroy `+first.String()+`","stage":"done"`) {
		t.Error("the log does not name the key that was destroyed")
	}
}

// TestKeyStates: of SP 800-57's transitions those that it has, and no others; a suspended key opens nothing, and one that may not sign has no
// request.
func TestKeyStates(t *testing.T) {
	all := []store.KeyState{store.Active, store.Suspended, store.Deactivated, store.Compromised}
	may := map[[2]store.KeyState]bool{
		{store.Active, store.Suspended}: true, {store.Active, store.Deactivated}: true, {store.Active, store.Compromised}: true,
		{store.Suspended, store.Active}: true, {store.Suspended, store.Deactivated}: true, {store.Suspended, store.Compromised}: true,
		{store.Deactivated, store.Compromised}: true}
	w := enrolled(t)
	w.do("access add legal-team")
	w.do("key generate p256 for legal-team")
	w.do("key generate p256 for legal-team")
	keys := w.keysOf("legal-team")
	w.fail("key mark "+short(keys[0])+" suspended", nil, "current key of legal-team")
	for _, from := range all {
		base := w.store.State()
		if from != store.Active {
			var err error
			if base, err = store.Apply(base, store.KeyMark{ID: keys[1], State: from}); err != nil {
				t.Fatal(err)
			}
		}
		for _, to := range all {
			_, err := store.Apply(base, store.KeyMark{ID: keys[1], State: to})
			if (err == nil) != may[[2]store.KeyState{from, to}] {
				t.Errorf("%s to %s: %v", from, to, err)
			}
		}
	}
	w.do("key mark "+short(keys[1])+" suspended", "yes")
	if got := opening(w, "legal-team"); !slices.Equal(got, keys[:1]) {
		t.Errorf("with one suspended %v open", got)
	}
	a, _ := w.store.State().Access("legal-team")
	if leave, stay := (&step{a: w.Agent}).replicable(a); !slices.Equal(leave, keys[:1]) || len(stay) != 0 {
		t.Errorf("with one suspended %v leave and %v stay", leave, stay)
	}
	w.do("key mark "+short(keys[1])+" active", "yes")
	if got := opening(w, "legal-team"); !slices.Equal(got, keys) {
		t.Errorf("with none suspended %v open", got)
	}
	w.has("key request "+short(keys[0]), "may not sign", "RFC 2986", "-----BEGIN CERTIFICATE-----")
	suspendedPastItsEnd(t, w, keys[1])
}

// suspendedPastItsEnd: neither the clock nor whoever sets a time or keeps the key has a suspended key open; made active past its end, it is deactivated.
func suspendedPastItsEnd(t *testing.T, w *world, id block.KeyID) {
	t.Helper()
	now, trusted := time.Now(), true
	w.at(&now, &trusted)
	end := now.Add(24 * time.Hour)
	w.do("key expire " + short(id) + " at " + end.UTC().Format(time.RFC3339))
	w.do("key mark "+short(id)+" suspended", "yes")
	stays := func(when string) {
		t.Helper()
		if got := opening(w, "legal-team"); slices.Contains(got, id) || w.stateOf(id) != store.Suspended {
			t.Errorf("%s: it is %s, and %v open", when, w.stateOf(id), got)
		}
	}
	for _, word := range []string{"never", "at " + now.Add(time.Hour).UTC().Format(time.RFC3339), "at 2020-01-01T00:00:00Z"} {
		e := strings.Join(strings.Fields(w.fail("key expire "+short(id)+" "+word, nil)), " ")
		if !strings.Contains(e, "is suspended and keeps the end that it has; first: key mark "+id.String()+" active") {
			t.Errorf("key expire %s: %q", word, e)
		}
	}
	w.has("key show "+short(id), "suspended; its end stays "+stamp(end.Truncate(time.Second)))
	now = now.Add(48 * time.Hour)
	w.tend()
	w.tend()
	stays("past its end")
	w.do("key delete "+short(id), "yes")
	stays("to be destroyed")
	w.tend()
	w.fail("key mark "+short(id)+" active", nil, "keep it first")
	if out := strings.Join(strings.Fields(w.do("key keep "+short(id))), " "); !strings.Contains(out, "is suspended. It opens nothing until it is active again") {
		t.Errorf("kept: %q", out)
	}
	w.tend()
	stays("kept")
	if _, o := w.try("key mark " + short(id) + " active"); o.Ask == nil || !strings.Contains(o.Ask.Prompt, "Its end was") {
		t.Errorf("that its end has come is not said: %+v", o.Ask)
	}
	w.do("key mark "+short(id)+" active", "yes")
	w.tend()
	if got := opening(w, "legal-team"); !slices.Contains(got, id) || w.stateOf(id) != store.Deactivated {
		t.Errorf("active again past its end: %s, and %v open", w.stateOf(id), got)
	}
}
