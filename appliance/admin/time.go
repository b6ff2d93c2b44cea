package admin

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
)

// A TimeSource is what came of asking a source of time last.
type TimeSource struct {
	Address             string
	State               string    // agrees, not agreed with, too uncertain, or why it said nothing
	At                  time.Time // zero: not asked yet
	Offset, Uncertainty time.Duration
}

func (s *step) timeShow() error {
	field(s, "time", stamp(time.Now()))
	field(s, "clock", s.a.clock())
	last := "never"
	if c := s.state().Clock(); !c.Time.IsZero() {
		last = fmt.Sprintf("%s, %s", stamp(c.Time), c.Source)
	}
	field(s, "last trusted", last)
	if s.a.c.Times == nil {
		return nil
	}
	sources, fault := s.a.c.Times()
	if fault != nil {
		field(s, "sources", fault.Error())
	}
	t := newTable("SOURCE", "AHEAD OF THE CLOCK", "WITHIN", "STATE", "ASKED")
	for _, x := range sources {
		ahead, within, asked := "-", "-", "-"
		if !x.At.IsZero() {
			asked = fmt.Sprintf("%s ago", time.Since(x.At).Round(time.Second))
		}
		if x.Uncertainty > 0 {
			ahead, within = x.Offset.Round(time.Microsecond).String(), x.Uncertainty.Round(time.Microsecond).String()
		}
		t.row(x.Address, ahead, within, x.State, asked)
	}
	return t.print(s, "There are no sources of time (time source add).")
}

// timeSourceAdd names a server that is asked for the time over NTS, and who certifies it.
func (s *step) timeSourceAdd(ctx context.Context, c console.TimeSourceAdd) error {
	der, err := s.certificateOf("Paste the certificate of the server's authority (CERTIFICATE).")
	if err != nil {
		return err
	}
	add := store.TimeSourceAdd{Source: store.TimeSource{Address: c.Address, CA: der}}
	if _, err := store.Apply(s.state(), add); err != nil {
		return err
	}
	s.tell(fmt.Sprintf("Believe %s about the time, if most sources of time agree with it? Its authority's SHA-256 is %x.", c.Address, sha256.Sum256(der)))
	if err := s.commit(ctx, add); err != nil {
		return err
	}
	field(s, "source", c.Address)
	field(s, "SHA-256", fmt.Sprintf("%x", sha256.Sum256(der)))
	n := len(s.state().TimeSources())
	few := ""
	if n < 3 {
		few = " Name three: until then nobody outvotes one that is wrong."
	}
	return s.say("Compare the SHA-256 with the authority's own word. The clock is trusted while %d of %d agree (time show).%s", n/2+1, n, few)
}

func (s *step) timeSourceRemove(ctx context.Context, c console.TimeSourceRemove) error {
	remove := store.TimeSourceRemove{Address: c.Address}
	if _, err := store.Apply(s.state(), remove); err != nil {
		return err
	}
	if err := s.confirm("Ask %s for the time no longer? The others decide alone.", c.Address); err != nil {
		return err
	}
	if err := s.commit(ctx, remove); err != nil {
		return err
	}
	return s.say("%s is no source of time any more.", c.Address)
}
