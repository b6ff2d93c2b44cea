package admin

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyrelease/krabox/appliance/account"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console/wire"
)

var errWrong = errors.New("wrong")

// TestDoor: one at a time, each failure costs twice the last, at most half a minute, also for who hangs up in between.
func TestDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor()
		begin := time.Now()
		want := time.Duration(0)
		for i, cost := range []int{1, 2, 4, 8, 16, 30, 30} {
			want += time.Duration(cost) * time.Second
			if err := d.pass(t.Context(), func() error { return errWrong }); !errors.Is(err, errWrong) {
				t.Fatalf("pass = %v", err)
			}
			if took := time.Since(begin); took != want {
				t.Fatalf("after %d failures %s have passed, want %s", i+1, took, want)
			}
		}
		hung, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(time.Second); cancel() }()
		if err := d.pass(hung, func() error { return errWrong }); !errors.Is(err, context.Canceled) {
			t.Errorf("pass of who hung up = %v", err)
		}
		begin = time.Now()
		if err := d.pass(t.Context(), func() error { return nil }); err != nil || time.Since(begin) != 29*time.Second {
			t.Errorf("who comes again: %v after %s, want 29s", err, time.Since(begin))
		}
		begin = time.Now()
		if err := d.pass(t.Context(), func() error { return errWrong }); err == nil || time.Since(begin) != time.Second {
			t.Errorf("the first failure after a success: %v after %s", err, time.Since(begin))
		}
	})
}

func TestDoorIsNarrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor()
		inside, most := 0, 0
		results := make(chan error)
		for range maxWaiting + 3 {
			go func() {
				results <- d.pass(t.Context(), func() error {
					inside++
					most = max(most, inside)
					time.Sleep(time.Second)
					inside--
					return nil
				})
			}()
		}
		crowd := 0
		for range maxWaiting + 3 {
			if errors.Is(<-results, errCrowd) {
				crowd++
			}
		}
		if most != 1 || crowd != 3 {
			t.Errorf("%d were inside at once, want 1; %d were sent away, want 3", most, crowd)
		}
	})
}

func TestSessionsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSessions()
		a := s.open("a")
		time.Sleep(9 * time.Minute)
		if who, ok := s.officer(a); !ok || who != "a" {
			t.Fatalf("officer = %q, %v", who, ok)
		}
		time.Sleep(9 * time.Minute)
		if _, ok := s.officer(a); !ok {
			t.Error("a session that was used has ended")
		}
		time.Sleep(10 * time.Minute)
		if _, ok := s.officer(a); ok {
			t.Error("a session that was silent for ten minutes lives")
		}
		b := s.open("b")
		for range maxSessions {
			time.Sleep(time.Second)
			s.open("c")
		}
		if _, ok := s.officer(b); ok || len(s.all) != maxSessions {
			t.Errorf("%d sessions, the oldest among them: %v", len(s.all), ok)
		}
	})
}

// TestNobodyElseWaitsAtTheDoor: while an officer who is logged in waits at the door, by whatever command, others change what they like. What
// becomes of the account meanwhile is not overlooked.
func TestNobodyElseWaitsAtTheDoor(t *testing.T) {
	w := enrolled(t)
	w.do("access add sales")
	c := codesOf(w)
	w.login()
	w.do("officer add paul", paulPass, paulPass)
	paul, other := w.loginAs("paul", paulPass), w.session
	// atDoor runs a line of paul's, and meanwhile when it waits at the door.
	atDoor := func(line string, answers []string, meanwhile func()) wire.Outcome {
		t.Helper()
		w.door.turn <- struct{}{}
		ended, done := make(chan wire.Outcome, 1), make(chan struct{})
		go func() {
			ended <- w.Do(t.Context(), wire.Request{Session: paul, Line: line, Answers: answers}, io.Discard)
		}()
		for deadline := time.Now().Add(time.Minute); len(w.door.queue) == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not come to the door", line)
			}
		}
		go func() { meanwhile(); close(done) }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Errorf("%s: others wait", line)
		}
		<-w.door.turn
		o := <-ended
		<-done
		c.forgive()
		return o
	}
	change := func() {
		if _, o := w.try("access title sales x"); o.Error != "" {
			t.Errorf("access title: %s", o.Error)
		}
	}
	w.session = other
	fresh := paulPass + "2"
	if o := atDoor("officer passphrase", []string{"wrong", fresh, fresh}, change); !strings.Contains(o.Error, "not your present passphrase") {
		t.Errorf("a wrong passphrase: %+v", o)
	}
	if o := atDoor("officer totp", []string{"wrong"}, change); !strings.Contains(o.Error, "not your passphrase") {
		t.Errorf("a wrong passphrase: %+v", o)
	}
	put := func(ch store.Change) func() {
		return func() {
			if _, err := w.store.Commit(t.Context(), ch); err != nil {
				t.Error(err)
			}
		}
	}
	secret := account.NewSecret()
	_, hashes := account.NewRecovery(secret)
	taken := store.Codes{Secret: store.NewSecret(secret), Recovery: hashes}
	if o := atDoor("officer passphrase", []string{paulPass, fresh, fresh}, put(store.OfficerCodes{Name: "paul", Codes: taken})); !strings.Contains(o.Error, "changed meanwhile") {
		t.Errorf("a second factor was taken meanwhile: %+v", o)
	}
	if o := atDoor("officer totp off", []string{"000000"}, change); !strings.Contains(o.Error, "no code of yours") {
		t.Errorf("a wrong code: %+v", o)
	}
	hash := account.Hash([]byte(fresh))
	if o := atDoor("officer passphrase", []string{paulPass, paulPass + "3", paulPass + "3"}, put(store.OfficerPassphrase{Name: "paul", Hash: hash})); !strings.Contains(o.Error, "changed meanwhile") {
		t.Errorf("the passphrase was changed meanwhile: %+v", o)
	}
	if is, _ := w.store.State().Officer("paul"); is.Hash != hash {
		t.Error("a passphrase that was changed meanwhile was changed again")
	}
	if o := atDoor("officer passphrase", []string{fresh, paulPass, paulPass}, func() { w.sessions.end(paul) }); !o.End || !strings.Contains(o.Error, "not logged in") {
		t.Errorf("the session was ended meanwhile: %+v", o)
	}
	if is, _ := w.store.State().Officer("paul"); is.Hash != hash {
		t.Error("who is not logged in changed a passphrase")
	}
}
