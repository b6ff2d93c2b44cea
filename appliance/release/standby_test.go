package release

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// TestStandby: the service is there after it was instantiated, for as long as keys are asked for, and not before or after; where no idle
// time is set, always.
func TestStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idle := time.Duration(0)
		s := NewStandby(func() time.Duration { return idle })
		want := func(when string, there bool) {
			t.Helper()
			if err := s.enter(); s.There() != there || (err == nil) != there || err != nil && !errors.Is(err, errStandby) {
				t.Errorf("%s: there %v, %v; want %v", when, s.There(), err, there)
			}
		}
		want("always", true)
		time.Sleep(time.Hour)
		want("always, later", true)
		idle = 10 * time.Minute
		want("the last request was just now", true)
		time.Sleep(10 * time.Minute)
		want("nobody has asked for the idle time", false)
		time.Sleep(time.Hour)
		want("asking does not start it", false)
		s.Instantiate()
		for range 3 {
			time.Sleep(9 * time.Minute)
			want("somebody asks", true)
		}
		time.Sleep(10 * time.Minute)
		want("nobody asks any more", false)

		new := NewStandby(func() time.Duration { return idle })
		if new.There() {
			t.Error("it is there when the agent starts")
		}
		idle = 0
		want("always again", true)
	})
}

// TestStandbyShowsOthers: what the box is besides, it shows.
func TestStandbyShowsOthers(t *testing.T) {
	s := NewStandby(func() time.Duration { return time.Minute })
	of := func(l label.ID) label.Confirmation { return label.Confirmation{Statement: label.Statement{Label: l}} }
	all := func() label.Confirmations {
		return label.Confirmations{Confirmations: []label.Confirmation{of(label.KeyRelease), of("root")}}
	}
	if got := s.shown(all()).Confirmations; len(got) != 1 || got[0].Statement.Label != "root" {
		t.Errorf("shows %+v, want root alone", got)
	}
	s.Instantiate()
	if got := s.shown(all()).Confirmations; len(got) != 2 {
		t.Errorf("instantiated, it shows %+v", got)
	}
}
