package policy

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // the box has no zone files
)

// A window is hours of some days of the week in one zone: "Mon-Fri 08:00-18:00 Europe/Berlin". Hours that end before
// they begin end on the next day: "Fri 22:00-06:00 UTC" is open on Saturday at 05:59.
type window struct {
	days     [7]bool // days on which the hours begin, by time.Weekday
	from, to int     // minutes of the day; to is exclusive and at most 24 * 60
	zone     *time.Location
}

const windowForm = `want "DAYS HH:MM-HH:MM ZONE", such as "Mon-Fri 08:00-18:00 Europe/Berlin"`

func parseWindow(s string) (*window, error) {
	f := strings.Split(s, " ")
	if len(f) != 3 {
		return nil, fmt.Errorf("%s", windowForm)
	}
	var w window
	if err := w.parseDays(f[0]); err != nil {
		return nil, err
	}
	if err := w.parseHours(f[1]); err != nil {
		return nil, err
	}
	var err error
	w.zone, err = parseZone(f[2])
	return &w, err
}

func parseZone(s string) (*time.Location, error) {
	zone, err := time.LoadLocation(s)
	if err != nil || s == "" || s == "Local" {
		return nil, fmt.Errorf("unknown zone %q, want one such as Europe/Berlin or UTC", s)
	}
	return zone, nil
}

func (w *window) parseDays(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		a, okA := weekday(first)
		b, okB := weekday(last)
		if !okA || !okB {
			return fmt.Errorf("bad days %q, want Mon-Fri or Mon,Wed,Sat-Sun", s)
		}
		for d := a; ; d = (d + 1) % 7 {
			if w.days[d] {
				return fmt.Errorf("bad days %q: a day is named twice", s)
			}
			w.days[d] = true
			if d == b {
				break
			}
		}
	}
	return nil
}

func weekday(s string) (int, bool) {
	for d := range 7 {
		if time.Weekday(d).String()[:3] == s {
			return d, true
		}
	}
	return 0, false
}

func (w *window) parseHours(s string) error {
	from, to, ok := strings.Cut(s, "-")
	a, errA := minutes(from)
	b, errB := minutes(to)
	if !ok || errA != nil || errB != nil || a == b || a == 24*60 {
		return fmt.Errorf("bad hours %q, want HH:MM-HH:MM of 00:00 to 24:00", s)
	}
	w.from, w.to = a, b
	return nil
}

func minutes(s string) (int, error) {
	if s == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		return 0, fmt.Errorf("bad time of day %q", s)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// contains reports whether t lies in the window by the clocks of the zone.
func (w *window) contains(t time.Time) bool {
	t = t.In(w.zone)
	m, day := t.Hour()*60+t.Minute(), int(t.Weekday())
	if w.from < w.to {
		return w.days[day] && m >= w.from && m < w.to
	}
	return w.days[day] && m >= w.from || w.days[(day+6)%7] && m < w.to
}
