package store

import (
	"net"
	"strings"
)

// A Syslog is the server that the release log is forwarded to.
type Syslog struct {
	Host string   `json:"host"` // a name, or an IP address
	Port int      `json:"port"`
	CA   [][]byte `json:"ca"`             // DER, of the server
	From int64    `json:"from,omitempty"` // the first record that it gets
}

// SyslogSet names the server.
type SyslogSet struct {
	Syslog Syslog `json:"syslog"`
}

func (SyslogSet) kind() string { return "syslog-set" }

func (c SyslogSet) apply(d *State) error {
	s := c.Syslog
	switch {
	case d.syslog.size() > 0:
		return invalid("the log is forwarded to %s already; first: syslog remove", d.Syslog().Host)
	case !isHost(s.Host) || s.Port < 1 || s.Port > 65535:
		return invalid("want a server such as log.example.com or 192.0.2.5:6514")
	case len(s.CA) == 0:
		return invalid("a syslog server has a certification authority")
	case s.From < 0:
		return invalid("the first record is number 0")
	}
	if err := (Source{Alias: "syslog"}).checkPins(s.CA); err != nil {
		return err
	}
	d.syslog.put(only, s)
	return nil
}

// isHost reports whether s is an IP address or looks like a name.
func isHost(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-."
	return net.ParseIP(s) != nil || s != "" && len(s) <= 253 && s[0] != '-' && s[0] != '.' && strings.Trim(s, letters) == ""
}

// SyslogRemove forwards the log no longer.
type SyslogRemove struct{}

func (SyslogRemove) kind() string { return "syslog-remove" }

func (SyslogRemove) apply(d *State) error {
	if d.syslog.size() == 0 {
		return invalid("there is no syslog server")
	}
	d.syslog.remove(only)
	return nil
}

// Syslog returns the server that the log is forwarded to; the zero Host means that none is set.
func (s *State) Syslog() Syslog { return s.syslog.single() }
