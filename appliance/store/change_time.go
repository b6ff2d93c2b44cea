package store

import (
	"bytes"
	"crypto/x509"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// MaxTimeSources is how many sources of time there may be.
const MaxTimeSources = 8

// A TimeSource is a server that is asked for the time over NTS.
type TimeSource struct {
	Address string `json:"address"` // HOST:PORT of its key establishment
	CA      []byte `json:"ca"`      // DER; who may certify it
}

// Same reports whether two are one and the same.
func (s TimeSource) Same(o TimeSource) bool { return s.Address == o.Address && bytes.Equal(s.CA, o.CA) }

// TimeSourceAdd has a server be asked for the time.
type TimeSourceAdd struct {
	Source TimeSource `json:"source"`
}

func (TimeSourceAdd) kind() string { return "time-source-add" }

func (c TimeSourceAdd) apply(d *State) error {
	s := c.Source
	if !isServer(s.Address) {
		return invalid("source of time %.80q: want HOST:PORT", s.Address)
	}
	if _, err := x509.ParseCertificate(s.CA); err != nil || len(s.CA) > maxCertificate {
		return invalid("source of time %s: the certificate of its authority is malformed or too long", s.Address)
	}
	switch {
	case d.times.has(s.Address):
		return invalid("%s is a source of time already; remove it first (time source remove)", s.Address)
	case d.times.size() >= MaxTimeSources:
		return invalid("there are %d sources of time already, which is the limit", MaxTimeSources)
	}
	d.times.put(s.Address, s)
	return nil
}

// isServer accepts one form of HOST:PORT.
func isServer(s string) bool {
	host, port, err := net.SplitHostPort(s)
	n, bad := strconv.ParseUint(port, 10, 16)
	if err != nil || bad != nil || n == 0 || net.JoinHostPort(host, strconv.FormatUint(n, 10)) != s || len(host) > 253 {
		return false
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Zone() == "" && a.String() == host
	}
	return host != "" && strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}

// TimeSourceRemove has it be asked no longer.
type TimeSourceRemove struct {
	Address string `json:"address"`
}

func (TimeSourceRemove) kind() string { return "time-source-remove" }

func (c TimeSourceRemove) apply(d *State) error {
	if !d.times.has(c.Address) {
		return invalid("there is no source of time %.80q (time show)", c.Address)
	}
	d.times.remove(c.Address)
	return nil
}
