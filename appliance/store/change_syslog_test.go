package store

import "testing"

// A server is one that can be asked for: a host, a port, an authority, and there is one at a time.
func TestSyslogRefused(t *testing.T) {
	ca, _, _, _ := authority(t)
	good := Syslog{Host: "log.example.org", Port: 6514, CA: [][]byte{ca}}
	for _, host := range []string{good.Host, "192.0.2.5", "2001:db8::5"} {
		s := good
		s.Host = host
		b, err := EncodeChange(SyslogSet{s})
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseChange(b)
		if err != nil {
			t.Fatal(err)
		}
		st, err := Apply(newState(), c)
		if err != nil || st.Syslog().Host != host {
			t.Fatalf("%s: %+v, %v", host, st, err)
		}
		if _, err := Apply(st, SyslogSet{good}); err == nil {
			t.Error("another in its place without removing it")
		}
		if st, err = Apply(st, SyslogRemove{}); err != nil || st.Syslog().Host != "" {
			t.Errorf("removed: %+v, %v", st.Syslog(), err)
		}
		if _, err := Apply(st, SyslogRemove{}); err == nil {
			t.Error("removed twice")
		}
	}
	for name, change := range map[string]func(*Syslog){
		"no host":        func(s *Syslog) { s.Host = "" },
		"an option":      func(s *Syslog) { s.Host = "-x" },
		"two words":      func(s *Syslog) { s.Host = "a b" },
		"a line":         func(s *Syslog) { s.Host = "a\nb" },
		"no port":        func(s *Syslog) { s.Port = 0 },
		"no such port":   func(s *Syslog) { s.Port = 65536 },
		"no authority":   func(s *Syslog) { s.CA = nil },
		"no certificate": func(s *Syslog) { s.CA = [][]byte{{1}} },
		"before all":     func(s *Syslog) { s.From = -1 },
	} {
		s := good
		change(&s)
		if _, err := Apply(newState(), SyslogSet{s}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
