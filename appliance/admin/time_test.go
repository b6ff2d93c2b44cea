package admin

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
)

// TestTwoTakeTheClockBack: a slip of the fingers is not for good, and one officer alone brings nothing back that has ended.
func TestTwoTakeTheClockBack(t *testing.T) {
	w := enrolled(t)
	w.c.Possible = func(at time.Time) error {
		if at.Year() > 2030 {
			return errors.New("the label certificate ends before that")
		}
		return nil
	}
	w.fail("time set 2031-01-01T00:00:00Z", []string{"yes"}, "label certificate ends before")
	w.do("time set 2030-01-01T00:00:00Z", "yes")
	today := time.Now().UTC().Truncate(time.Second)
	line := "time set " + today.Format(time.RFC3339)
	w.fail(line, []string{"yes"}, "does not go back behind\nthat on the word of one")
	w.do("officer add paul", paulPass, paulPass)
	w.as(paul, paulPass, func() { w.do("officer passphrase", paulPass, paulPass+"2", paulPass+"2") })
	if _, o := w.try(line); o.Ask == nil || !strings.Contains(o.Ask.Prompt, "BACK behind 2030-01-01 00:00:00 UTC") || !strings.Contains(o.Ask.Prompt, "have ended since count again") {
		t.Errorf("asked without a warning: %+v", o.Ask)
	}
	w.do(line, "yes")
	if c := w.store.State().Clock(); c.Time.Year() != 2030 || len(w.vouched) != 1 {
		t.Errorf("one officer took the clock to %s: %+v", c.Time, w.vouched)
	}
	w.as(paul, paulPass+"2", func() { w.do("approve 1", "yes") })
	if c := w.store.State().Clock(); c.Time.Before(today) || c.Time.After(time.Now()) || c.Source != store.Manual || len(w.vouched) != 2 || w.vouched[1] != c {
		t.Errorf("approved, and the clock was trusted at %s: %+v", c.Time, w.vouched)
	}
}

// TestSourcesOfTime: officers name who is believed about the time, two where there are two, and the console shows what became of it.
func TestSourcesOfTime(t *testing.T) {
	w := enrolled(t)
	w.c.Times = func() ([]TimeSource, error) { return nil, nil }
	w.has("time show", "There are no sources of time")
	w.fail("time source add time.example.com", []string{"no certificate"}, "not one CERTIFICATE in PEM")
	w.do("time source add Time.example.com", people(t, "Time CA"))
	w.do("time source add 192.0.2.1:123", people(t, "Time CA"))
	w.fail("time source add time.example.com:4460", []string{people(t, "Another CA")}, "is a source of time already")
	w.fail("time source remove time.example.org", nil, "no source of time")
	w.fail("time source remove time.example.com", []string{"no"}, "Not confirmed")
	w.c.Times = func() ([]TimeSource, error) {
		return []TimeSource{{Address: "192.0.2.1:123", State: "agrees", At: time.Now(), Offset: 1500 * time.Microsecond, Uncertainty: 20 * time.Millisecond},
			{Address: "time.example.com:4460", State: "not authentic", At: time.Now()}}, errors.New("1 of 2 sources answer")
	}
	w.has("time show", "1 of 2 sources answer", "1.5ms", "20ms", "agrees", "not authentic")
	w.do("time source remove time.example.com", "yes")
	w.fail("time source remove time.example.com", nil, "no source of time")
	if s := w.store.State().TimeSources(); len(s) != 1 || s[0].Address != "192.0.2.1:123" {
		t.Errorf("sources = %+v", s)
	}
	w.do("officer add paul", paulPass, paulPass)
	w.as(paul, paulPass, func() { w.do("officer passphrase", paulPass, paulPass+"2", paulPass+"2") })
	w.do("time source add time.example.net", people(t, "Time CA"), "yes")
	if s := w.store.State().TimeSources(); len(s) != 1 || s[0].Address != "192.0.2.1:123" {
		t.Errorf("one officer alone has made the sources %+v", s)
	}
	w.as(paul, paulPass+"2", func() { w.do("approve 1", "yes") })
	if s := w.store.State().TimeSources(); len(s) != 2 || !strings.HasPrefix(s[1].Address, "time.example.net:") {
		t.Errorf("approved, and the sources are %+v", s)
	}
}
