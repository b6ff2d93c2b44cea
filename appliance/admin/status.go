package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
)

// Banner says what can be said to anybody at the console.
func (a *Agent) Banner(ctx context.Context) wire.Banner {
	b := wire.Banner{Box: "new", Domain: a.c.Domain.Name, Version: a.c.Version, Mode: string(a.c.Mode), Reason: a.c.Reason, Health: a.health()}
	if a.c.Mode == console.Enrolled {
		b.Box, b.Clock, b.Codes = a.c.Store.State().Box().Name, a.clock(), a.c.Store.State().AsksCodes()
		return b
	}
	if name := a.named.Load(); name != nil {
		b.Box = *name
	} else if st, err := a.c.TPM.Status(ctx); err == nil { // once: open consoles ask again and again
		if st.Box != nil {
			b.Box = st.Box.Name
		}
		a.named.Store(&b.Box)
	}
	return b
}

func (a *Agent) health() string {
	if a.c.Mode == console.Maintenance {
		return "in maintenance; nothing is open, nothing is served. If the firmware is new and meant to be: give what enrol request prints to the desk of " + a.c.Domain.Name +
			" (domain firmware approve, domain approve -like), paste its answer into enrol install, and reboot"
	}
	switch a.c.Mode {
	case console.Locked:
		return "locked; nothing is served"
	case console.Attended:
		return "waits; nothing is served until the shares are typed (unlock)"
	}
	if bad := a.c.Health(); len(bad) > 0 {
		return strings.Join(bad, "; ")
	}
	return "good"
}

func (a *Agent) clock() string {
	trusted, word := a.c.Clock()
	if !trusted {
		return "not trusted; " + strings.TrimPrefix(word+"; ", "; ") + "rules that ask for the time refuse (time set)"
	}
	return "trusted, " + word
}

var errHost = errors.New("this agent runs on an ordinary host, whose own administration does that")

func (s *step) status(ctx context.Context) error {
	b := s.a.Banner(ctx)
	field(s, "box", b.Box)
	field(s, "domain", b.Domain)
	field(s, "version", b.Version)
	field(s, "cryptography", cryptography())
	field(s, "mode", b.Mode)
	if b.Reason != "" {
		field(s, "reason", b.Reason)
	}
	field(s, "health", b.Health)
	field(s, "time", stamp(time.Now()))
	if s.a.c.Mode == console.Enrolled {
		field(s, "clock", b.Clock)
		field(s, "service", s.a.service())
		s.contents()
		if lines := s.a.forwarded(); len(lines) > 0 {
			field(s, "syslog", printable(lines[0]))
		}
		s.module(ctx)
	}
	field(s, "agent up", time.Since(s.a.c.Started).Round(time.Second).String())
	s.platform(ctx)
	return s.machine(ctx)
}

func (s *step) contents() {
	st := s.a.c.Store.State()
	head := s.a.c.Log.Head()
	field(s, "state", fmt.Sprintf("generation %d: %s, %s, %s, %s, %s", st.Generation(),
		count(len(st.Accesses()), "access identifier", "access identifiers"), count(len(st.Keys()), "key", "keys"),
		count(len(st.Rules()), "rule", "rules"), count(len(st.Groups()), "group", "groups"),
		count(len(st.Anchors()), "client authority", "client authorities")))
	field(s, "log", count(int(head.Size), "record", "records"))
}

func (s *step) platform(ctx context.Context) {
	st, err := s.a.c.TPM.Status(ctx)
	if err != nil {
		field(s, "TPM", "does not answer: "+err.Error())
		return
	}
	text := fmt.Sprintf("%s; %s; stage %s; epoch %d", st.Firmware, st.State, st.Stage, st.Epoch)
	if st.Reason != "" {
		text += "; " + st.Reason
	}
	field(s, "TPM", text)
	for _, v := range st.Versions {
		match := "not what runs"
		if v.Matches {
			match = "what runs"
		}
		field(s, "approval", fmt.Sprintf("%s, version %d by %s, %s: %s", v.Kind, v.Version, v.By, match, v.Description))
	}
	for _, i := range slices.Sorted(maps.Keys(st.PCRs)) {
		digest := st.PCRs[i]
		field(s, fmt.Sprintf("PCR %d", i), fmt.Sprintf("%x", digest[:]))
	}
}

func (s *step) sensors(all []machine.Sensor) {
	if len(all) == 0 {
		field(s, "sensors", "this machine tells of none")
	}
	for _, x := range all {
		name := "sensor"
		if x.State != "" {
			name = "SENSOR"
		}
		field(s, name, printable(x.String()))
	}
}

func (s *step) machine(ctx context.Context) error {
	if s.a.c.Machine == nil {
		return field(s, "machine", "ordinary host")
	}
	m, err := s.a.c.Machine.Status(ctx)
	if err != nil {
		return field(s, "machine", "does not answer: "+err.Error())
	}
	field(s, "stage", m.Stage)
	for _, v := range m.Services {
		text := fmt.Sprintf("%s, %s", v.State, count(v.Restarts, "restart", "restarts"))
		if v.Said != "" {
			text += "; " + v.Said
		}
		if v.Ended != "" {
			text += "; last ended: " + v.Ended
		}
		field(s, v.Name, text)
	}
	if len(m.Programs) > 0 {
		field(s, "programs", strings.Join(m.Programs, ", ")+": as the image lists them")
	}
	for _, x := range m.Strangers {
		field(s, "NOT LISTED", x)
	}
	s.sensors(m.Sensors)
	return field(s, "network", m.Network)
}
