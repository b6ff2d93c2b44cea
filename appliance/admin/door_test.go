package admin

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
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
