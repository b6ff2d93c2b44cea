package console

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// syslogPort is that of syslog over TLS (RFC 5425).
const syslogPort = 6514

// The commands about the server that the log is forwarded to.
type (
	// SyslogAdd names the server; its authority is pasted.
	SyslogAdd struct {
		pasted
		Host string
		Port int
		From int64 // the first record that it gets
	}
	SyslogShow   struct{ quiet }
	SyslogRemove struct{ confirmed }
)

var errCollector = errors.New("want HOST or HOST:PORT, such as log.example.com, 192.0.2.5:6514 or [2001:db8::5]:6514")

func checkCollector(s string) error {
	_, _, err := parseCollector(s)
	return err
}

// parseCollector reads HOST or HOST:PORT; an IPv6 address before a port is in brackets.
func parseCollector(s string) (host string, port int, err error) {
	host, port = s, syslogPort
	if _, err := netip.ParseAddr(s); err != nil && strings.Contains(s, ":") {
		var digits string
		if host, digits, err = net.SplitHostPort(s); err != nil {
			return "", 0, errCollector
		}
		if port, err = strconv.Atoi(digits); err != nil || port < 1 || port > 65535 {
			return "", 0, errors.New("a port is a number from 1 to 65535")
		}
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Zone() == "" {
		return host, port, nil
	}
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-."
	if host == "" || len(host) > 253 || host[0] == '-' || host[0] == '.' || strings.Trim(host, letters) != "" {
		return "", 0, errCollector
	}
	return host, port, nil
}

func (a args) syslog() SyslogAdd {
	host, port, _ := parseCollector(a.get("COLLECTOR")) // checked
	return SyslogAdd{Host: host, Port: port, From: a.number("INDEX", 0)}
}
