package outbound

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// A process of this test knows by it where it is: in the box's network, or in what is outside.
const place = "OUTBOUND_TEST_PLACE"

func TestMain(m *testing.M) {
	if os.Getenv(place) == "outside" {
		outside()
	}
	os.Exit(m.Run())
}

// elsewhere starts this test's program in a network of its own. The program ends with this thread, which the caller locks.
func elsewhere(t *testing.T, where string, out io.Writer) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("network namespaces are made by root: run this test as root")
	}
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), place+"="+where)
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	c.Stdout, c.Stderr = out, out
	must(t, c.Start())
	return c
}

// The addresses of the test's network.
const (
	boxAddr  = "10.9.0.7"
	farAddr  = "10.9.0.1"
	deafAddr = "10.9.0.2" // outside too, and no name server
)

// TestOutside runs the broker as it is in production in a network of its own, with another behind a cable: a server there is reached
// by address and by name, and nothing is reached at home.
func TestOutside(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if os.Getenv(place) == "" {
		var said bytes.Buffer
		if err := elsewhere(t, "box", &said).Wait(); err != nil || !strings.Contains(said.String(), "--- PASS: TestOutside ") {
			t.Errorf("in a network of its own: %v\n%s", err, &said)
		}
		return
	}
	cable(t, elsewhere(t, "outside", os.Stderr).Process.Pid)
	names := t.TempDir()
	must(t, WriteServers(names, []netip.Addr{netip.MustParseAddr(deafAddr), netip.MustParseAddr(farAddr)}))
	d, _ := broker(t, newServer(names))
	home, err := net.Listen("tcp", ":7000")
	must(t, err)
	defer home.Close()
	for _, host := range []string{farAddr, "ca.example", "CA.example."} {
		reach(t, d, host)
	}
	must(t, WriteServers(names, []netip.Addr{netip.MustParseAddr(farAddr)}))
	for host, want := range map[string]string{
		"127.0.0.1":        "127.0.0.1 is loopback",
		boxAddr:            boxAddr + " is the box's own address",
		"loopback.example": "127.0.0.1 is loopback",
		"box.example":      boxAddr + " is the box's own address",
		"metadata.example": "169.254.169.254 is link-local",
		"unknown.example":  "the name is not known",
	} {
		c, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(host, "7000"))
		if err == nil || !strings.HasSuffix(err.Error(), ": "+want) {
			t.Errorf("%s: %v, %v; want %s", host, c, err, want)
		}
	}
	must(t, WriteServers(names, []netip.Addr{netip.MustParseAddr("127.0.0.1")}))
	if _, err := d.DialContext(t.Context(), "tcp", "ca.example:7000"); err == nil || !strings.Contains(err.Error(), "127.0.0.1 is loopback") {
		t.Errorf("a name server inside: %v", err)
	}
}

// reach waits until the server outside answers; it starts a moment after the cable is laid.
func reach(t *testing.T, d Dialer, host string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(host, "7000"))
		if err == nil {
			defer c.Close()
			if got, err := io.ReadAll(c); string(got) != "outside" {
				t.Errorf("%s: %q, %v", host, got, err)
			}
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// cable lays a cable from here into the network of a process.
func cable(t *testing.T, pid int) {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "zfar"}))
	far, err := netlink.LinkByName("zfar")
	must(t, err)
	must(t, netlink.LinkSetNsPid(far, pid))
	must(t, plug("lo", ""))
	must(t, plug("eth0", boxAddr))
}

// plug sets an interface up, with an address.
func plug(name, address string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if address != "" {
		a := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(address).To4(), Mask: net.CIDRMask(24, 32)}}
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(l)
}

// outside is the other end of the cable: a server that says where it is, and a name server. It does not return.
func outside() {
	for plug("zfar", farAddr) != nil { // until the cable is laid
		time.Sleep(5 * time.Millisecond)
	}
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, "outside:", err)
		os.Exit(1)
	}
	if err := plug("zfar", deafAddr); err != nil {
		fail(err)
	}
	l, err := net.Listen("tcp", farAddr+":7000")
	if err != nil {
		fail(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				fail(err)
			}
			_, _ = io.WriteString(c, "outside")
			c.Close()
		}
	}()
	u, err := net.ListenPacket("udp", farAddr+":53")
	if err != nil {
		fail(err)
	}
	fail(serveNames(u))
}

// known are the names of the test's network.
var known = map[string][4]byte{
	"ca.example.": {10, 9, 0, 1}, "loopback.example.": {127, 0, 0, 1}, "box.example.": {10, 9, 0, 7}, "metadata.example.": {169, 254, 169, 254},
}

func serveNames(u net.PacketConn) error {
	for b := make([]byte, 1500); ; {
		n, from, err := u.ReadFrom(b)
		if err != nil {
			return err
		}
		var m dnsmessage.Message
		if err := m.Unpack(b[:n]); err != nil || len(m.Questions) != 1 {
			return fmt.Errorf("question %x: %v", b[:n], err)
		}
		q := m.Questions[0]
		a := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true}, Questions: m.Questions}
		ip, ok := known[q.Name.String()]
		switch {
		case !ok:
			a.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			a.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}, Body: &dnsmessage.AResource{A: ip}}}
		}
		out, err := a.Pack()
		if err == nil {
			_, err = u.WriteTo(out, from)
		}
		if err != nil {
			return err
		}
	}
}
