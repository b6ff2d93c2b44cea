package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
)

func (s *step) syslogAdd(ctx context.Context, c console.SyslogAdd) error {
	if now := s.state().Syslog(); now.Host != "" {
		return fmt.Errorf("the log is forwarded to %s already; first: syslog remove", syslogServer(now))
	}
	if below, at := s.a.c.Log.Removed(); c.From < below {
		return fmt.Errorf("records below %d were exported and removed on %s; what is here: syslog add %s from %[1]d", below, stamp(at), net.JoinHostPort(c.Host, strconv.Itoa(c.Port)))
	}
	ca, err := s.certificateOf(pasteServerCA)
	if err != nil {
		return err
	}
	to := store.Syslog{Host: c.Host, Port: c.Port, CA: [][]byte{ca}, From: c.From}
	if err := s.commit(ctx, store.SyslogSet{Syslog: to}); err != nil {
		return err
	}
	return s.say("The log is forwarded to %s from record %d on: who asked for what, and what officers do. No key waits for that. How far it is: syslog show",
		syslogServer(to), to.From)
}

func syslogServer(s store.Syslog) string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

func (s *step) syslogShow() error {
	to := s.state().Syslog()
	if to.Host == "" {
		return field(s, "syslog", "none (syslog add)")
	}
	field(s, "syslog", fmt.Sprintf("%s over TLS, from record %d on", syslogServer(to), to.From))
	s.showCerts("server", to.CA)
	for _, line := range s.a.forwarded() {
		field(s, "at present", printable(line))
	}
	return nil
}

// forwarded says how far the syslog server is, first in one line; nothing if there is none.
func (a *Agent) forwarded() []string {
	if a.c.Forwarded == nil {
		return nil
	}
	return a.c.Forwarded()
}

var errNoSyslog = errors.New("the log is forwarded nowhere")

func (s *step) syslogRemove(ctx context.Context) error {
	to := s.state().Syslog()
	if to.Host == "" {
		return errNoSyslog
	}
	if err := s.confirm("Forward the log to %s no longer? What it does not have yet it will not get.", syslogServer(to)); err != nil {
		return err
	}
	if err := s.commit(ctx, store.SyslogRemove{}); err != nil {
		return err
	}
	return s.say("The log is forwarded no longer.")
}
