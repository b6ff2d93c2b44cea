package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/keyrelease/krabox/console"
)

// A support text is for whoever makes or looks after the box, and leaves it. It is lines between two marks; behind the last one is the SHA-256 of
// what lies between them, each line ended by one line feed, and their number: a text that a serial line has cut or altered is seen to be.
//
//	-----BEGIN KRA SUPPORT-----
//	…
//	-----END KRA SUPPORT----- N lines, SHA-256
//	HEX
//
// It has no secret, no key, no record of the log and nobody's name: neither decryptors nor officers are in what it is made of.
const (
	supportBegin = "-----BEGIN KRA SUPPORT-----\n"
	supportEnd   = "-----END KRA SUPPORT----- %d lines, SHA-256\n%x\n"
)

// support prints what somebody who is to help needs to know of the box, under a digest.
func (s *step) support(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	var text bytes.Buffer
	part := &step{a: s.a, ctx: ctx, command: s.command, does: s.does, officer: s.officer, session: s.session, out: &text, begun: true}
	for _, p := range part.supported() {
		fmt.Fprintf(&text, "[%s]\n", p.name)
		if err := p.show(ctx); err != nil { // what does not answer keeps nothing else back
			field(part, "NOT SHOWN", printable(err.Error()))
		}
	}
	_, err := fmt.Fprintf(s, "%s%s"+supportEnd, supportBegin, text.Bytes(), bytes.Count(text.Bytes(), []byte("\n")), sha256.Sum256(text.Bytes()))
	return err
}

// A supportPart is one part of the text.
type supportPart struct {
	name string
	show func(context.Context) error
}

func (s *step) supported() []supportPart {
	just := func(f func() error) func(context.Context) error { return func(context.Context) error { return f() } }
	parts := []supportPart{{"software", just(s.software)}, {"status", s.status}}
	if s.a.c.Mode != console.Enrolled {
		return parts
	}
	parts = append(parts, supportPart{"log", func(context.Context) error { s.logSize(); return s.logHealth() }}, supportPart{"time", just(s.timeShow)},
		supportPart{"sources", just(s.supportedSources)}, supportPart{"service", just(s.serviceShow)}, supportPart{"boot", just(s.bootShow)},
		supportPart{"board", just(s.boardShow)}, supportPart{"syslog", just(s.syslogShow)}, supportPart{"limits", just(s.supportedLimits)})
	if s.a.c.Machine != nil {
		parts = append(parts, supportPart{"network", s.networkShow})
	}
	return parts
}

// software says what was built, from what, by what, and how it fares.
func (s *step) software() error {
	field(s, "made", stamp(time.Now()))
	field(s, "version", s.a.c.Version)
	if b, ok := debug.ReadBuildInfo(); ok {
		field(s, "Go", b.GoVersion)
		for _, set := range b.Settings {
			switch set.Key {
			case "vcs.revision", "vcs.modified", "GOFIPS140", "CGO_ENABLED":
				field(s, set.Key, set.Value)
			}
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return field(s, "agent", fmt.Sprintf("%d KiB in use, %s, %s of memory freed", m.HeapInuse>>10, count(runtime.NumGoroutine(), "goroutine", "goroutines"), count(int(m.NumGC), "time", "times")))
}

// withoutWhy cuts off what a server said: it may name whom it is about, and who asks.
func withoutWhy(said string) string {
	how, _, _ := strings.Cut(said, ": ")
	return how
}

// supportedSources says of each source how it fares, without where it is and what it maps.
func (s *step) supportedSources() error {
	t := newTable("SOURCE", "KIND", "AT PRESENT")
	for _, o := range s.state().Sources() {
		t.row(string(o.Alias), string(o.Kind()), orElse(withoutWhy(s.feed(o.Alias)), "-"))
	}
	return t.print(s, "There are no sources.")
}

// supportedLimits says how much there is of what is limited, and what is switched on.
func (s *step) supportedLimits() error {
	st := s.state()
	field(s, "officers", fmt.Sprint(len(st.Officers())))
	field(s, "requests", count(len(st.Requests()), "waits for a second officer", "wait for a second officer"))
	c := st.Control()
	field(s, "dual control", fmt.Sprintf("off by order: %t; rules too: %t", c.Off, c.Rules))
	if err := s.a.full(); err != nil {
		return field(s, "disk", err.Error())
	}
	return field(s, "disk", "has room")
}
