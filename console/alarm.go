package console

import (
	"context"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A pace says how often the box is looked after, and how often what came of it is told.
type pace struct {
	every    time.Duration // the agent is asked how the box is
	patience time.Duration // that it does not answer is told after
	span     time.Duration // has at most maxAlarms alarms
}

var usualPace = pace{every: 5 * time.Second, patience: 30 * time.Second, span: time.Minute}

// Limits of what is told unasked. What could not be told is told later, if it is still so.
const (
	maxAlarms = 4
	maxAlarm  = 600 // bytes of what is wrong
)

// A report is how the box is: what its banner says, and so nothing that is not for anybody.
type report struct {
	health string
	away   bool // the agent has not answered for a while
}

// watch asks the agent how the box is until ctx ends. News holds the last answer until somebody looks.
func (t *Terminal) watch(ctx context.Context) {
	answered := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(t.pace.every):
		}
		ask, done := context.WithTimeout(ctx, askLimit)
		b, err := t.agent.Banner(ask)
		done()
		switch {
		case err == nil:
			answered = time.Now()
			t.post(report{health: b.Health})
		case time.Since(answered) >= t.pace.patience:
			t.post(report{away: true})
		}
	}
}

// post puts a report in the place of the last one.
func (t *Terminal) post(r report) {
	select {
	case <-t.news:
	default:
	}
	select {
	case t.news <- r:
	default: // the watch of the next run was faster
	}
}

// hear tells a report above the line that is being typed, if it is other than what was told last.
func (t *Terminal) hear(r report) {
	if r.away == t.told.away && unnumbered(r.health) == unnumbered(t.told.health) {
		return
	}
	now := time.Now()
	if len(t.alarms) == maxAlarms {
		if now.Sub(t.alarms[0]) < t.pace.span {
			return
		}
		t.alarms = t.alarms[1:]
	}
	t.alarms = append(t.alarms, now)
	text := "health: " + r.health
	switch {
	case r.away:
		text = "the agent does not answer"
	case t.told.away:
		text = "the agent answers again; " + text
	}
	t.told = r
	if r.away || r.health != "good" {
		io.WriteString(t.out, "\a")
	}
	t.show(wrap("*** ", now.UTC().Format("2006-01-02 15:04:05")+" UTC "+shortened(text)) + "\n")
}

// unnumbered is text without its numbers: a count or a reading that goes on is no other state of the box. What ends in a colon or has two dots
// is a name: a processor's number, an address.
func unnumbered(text string) string {
	words := strings.Fields(text)
	for i, w := range words {
		if r, _ := utf8.DecodeRuneInString(strings.TrimLeft(w, "(+-")); unicode.IsDigit(r) && !strings.HasSuffix(w, ":") && strings.Count(w, ".") < 2 {
			words[i] = "0"
		}
	}
	return strings.Join(words, " ")
}

func shortened(text string) string {
	if len(text) <= maxAlarm {
		return text
	}
	return strings.ToValidUTF8(text[:maxAlarm], "") + " …; status says all"
}
