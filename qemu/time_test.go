package qemu_test

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/nts/ntstest"
	"github.com/keyrelease/krabox/appliance/syslog/syslogtest"
)

// The host, as the guest sees it over IPv6, and an address for the guest.
const (
	hostSix  = "fec0::2"
	guestSix = "fec0::15"
)

// setBy is a step of two minutes: a clock chip counts whole seconds.
var setBy = regexp.MustCompile(`\(sources of time\) the clock is set by (1m5|2m)[0-9.]+s`)

// TestBoxClock: a real box that starts late is set by a time server, over NTS and through outboundd, and its log is with a syslog
// server, to which it speaks IPv6. Started with a dead battery it finds the time again by itself; started years ahead it believes
// no server's certificate, stays untrusted and releases nothing, until an officer says what time it is.
func TestBoxClock(t *testing.T) {
	g, s := copyOf(t)
	authority := ntstest.NewAuthority(t)
	_, port, err := net.SplitHostPort(ntstest.Chronyd(t, authority, net.ParseIP(hostAddress)).Address)
	must(t, err)
	source := net.JoinHostPort(hostAddress, port)
	collector := syslogtest.NewAs(t, "ossl", hostSix)

	must(t, g.upAt(time.Now().Add(-2*time.Minute)))
	for _, c := range [][]string{
		{"soon was made", "rule add soon until " + time.Now().AddDate(0, 2, 0).UTC().Format(time.RFC3339)},
		{"legal-team", "access lists legal-team is counsel && soon"},
		{"not trusted", "time show"},
		{"SHA-256", "time source add " + source, authority.PEM()},
	} {
		must(t, g.operator.Must(c[0], c[1], c[2:]...))
	}
	g.says(t, "time show", "trusted, NTS", "agrees")
	g.isOnTime(t)
	if shown, err := g.operator.Do("log show 200"); err != nil || !setBy.MatchString(strings.Join(strings.Fields(shown), " ")) {
		t.Errorf("no step of two minutes: %v\n%s", err, shown)
	}
	must(t, g.operator.Must("is no source of time", "time source remove "+source, "yes"))
	must(t, g.operator.Must("SHA-256", "time source add "+source, authority.PEM()))
	g.says(t, "time show", "trusted, NTS", "agrees") // asked anew: what is off now is adjusted by the kernel, or this says why not
	if shown, err := g.operator.Do("time show"); err != nil || strings.Contains(shown, "machine adjust") {
		t.Errorf("%v\n%s", err, shown)
	}

	must(t, g.operator.Must("The box uses", "network ipv6 static "+guestSix+"/64 gateway "+hostSix, "yes"))
	must(t, g.operator.Must("from now on", "network confirm"))
	g.says(t, "network show", guestAddress+"/24 on eth0 by DHCP and "+guestSix+"/64", guestSix+"/64")
	must(t, g.operator.Must("The log is forwarded to", "syslog add "+net.JoinHostPort(hostSix, strconv.Itoa(six(t, collector.Port))), collector.CA()))
	must(t, g.decrypt(s))
	g.tells(t, collector)
	// How far sources alone may set the clock is counted from this word on: not from a time that is longer ago on a slower machine.
	must(t, g.operator.Must("manual, on the word of "+officer, "time set "+time.Now().UTC().Format(time.RFC3339), "yes"))

	g.machine.Cut()
	must(t, g.upAt(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)))
	g.says(t, "time show", "trusted, NTS", "agrees")
	g.isOnTime(t)
	must(t, g.decrypt(s))

	g.machine.Cut()
	must(t, g.upAt(time.Now().AddDate(3, 0, 0)))
	g.says(t, "time show", "not trusted", "0 of 1 sources answer", source+": establish keys: ", "certificate has expired") // by that clock
	g.says(t, "status", "clock: not trusted: 0 of 1 sources answer")
	if err := g.decrypt(s); err == nil {
		t.Error("released, three years ahead")
	}
	must(t, g.operator.Must("manual, on the word of "+officer, "time set "+time.Now().UTC().Format(time.RFC3339), "yes"))
	g.isOnTime(t)
	for end := time.Now().Add(g.lab.host.Scale(2 * time.Minute)); ; time.Sleep(time.Second) { // until the box has a certificate of now
		err := g.decrypt(s)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("an officer has set the clock, and: %v", err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// isOnTime wants the box's clock to show the time of this host.
func (g *guest) isOnTime(t *testing.T) {
	t.Helper()
	before := time.Now().Add(-3 * time.Second)
	shown, err := g.operator.Do("time show")
	must(t, err)
	after := time.Now().Add(3 * time.Second)
	for line := range strings.Lines(shown) {
		if text, ok := strings.CutPrefix(line, "time "); ok {
			at, err := time.Parse("2006-01-02 15:04:05 UTC", strings.TrimSpace(text))
			if err != nil || at.Before(before) || at.After(after) {
				t.Errorf("the box's clock is %s, %v; want %s to %s", at, err, before.UTC(), after.UTC())
			}
			return
		}
	}
	t.Errorf("no time in\n%s", shown)
}

// six passes connections to this host's loopback in IPv6 on to a port of that in IPv4.
func six(t *testing.T, port int) int {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				far, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
				if err != nil {
					return
				}
				defer far.Close()
				go func() {
					_, _ = io.Copy(far, near)
					_ = far.(*net.TCPConn).CloseWrite()
				}()
				_, _ = io.Copy(near, far)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// tells waits until the syslog server has a release of alice's, and wants it to have all records before that, one after the other. The
// console is not asked meanwhile: each command is a record.
func (g *guest) tells(t *testing.T, collector *syslogtest.Server) {
	t.Helper()
	for end := time.Now().Add(g.lab.host.Scale(2 * time.Minute)); ; time.Sleep(time.Second) {
		next := 0
		for _, m := range collector.Received() {
			n, err := strconv.Atoi(m.Of("kra@32473", "index"))
			if err != nil || n > next || m.Host != boxName {
				t.Fatalf("after record %d there is %+v", next-1, m)
			}
			next = max(next, n+1)
			if m.ID == "release" && m.Of("kra@32473", "decryptor") == "corp:CN=alice,O=Example" && m.Of("kra@32473", "granted") == "legal-team" {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("no release of alice's among the %d records that were sent", next)
		}
	}
}
