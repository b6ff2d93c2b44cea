package boxtest_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/image/desk"
)

// envAlone tells this test's program that it is in a network of its own.
const envAlone = "BOXTEST_ALONE"

// TestNeedsNoNetwork: in a network that has nothing but loopback, a box comes into service, kra verifies it up to the domain's root, and
// encrypts and decrypts. The kernel's counters say that nobody was looked up, asked, or even dialled but the box.
func TestNeedsNoNetwork(t *testing.T) {
	if os.Getenv(envAlone) == "" {
		if os.Getuid() != 0 {
			t.Fatal("network namespaces are made by root: run this test as root")
		}
		c := exec.Command(os.Args[0], "-test.run=^TestNeedsNoNetwork$", "-test.v")
		c.Env = append(os.Environ(), envAlone+"=yes")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
		out, err := c.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestNeedsNoNetwork ")) {
			t.Fatalf("in a network of its own: %v\n%s", err, out)
		}
		return
	}
	alone(t)
	b := boxtest.Start(t)
	legalTeam(b)
	dir := t.TempDir()
	kra, message := filepath.Join(dir, "kra"), filepath.Join(dir, "message")
	if out, err := exec.Command("go", "build", "-o", kra, "github.com/keyrelease/krabox/kra/cmd/kra").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(message, []byte("privileged"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Person("bob")
	bob := filepath.Join(b.Domain, "people", "bob")
	env := []string{"HOME=" + dir, "KRA_URL=https://" + b.Up().Release.String(), "KRA_ROOT=" + filepath.Join(b.Domain, desk.RootFile),
		"KRA_CERT=" + bob + ".pem", "KRA_KEY=" + bob + ".key"}
	before := traffic(t)
	for _, args := range [][]string{{"verify"}, {"encrypt", "-to", "legal-team", message}, {"decrypt", "-o", message + ".again", message + ".age"}} {
		c := exec.Command(kra, args...)
		c.Env = env
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("kra %v: %v\n%s", args, err, out)
		}
	}
	if again, err := os.ReadFile(message + ".again"); err != nil || string(again) != "privileged" {
		t.Errorf("decrypted %q, %v", again, err)
	}
	after := traffic(t)
	for _, name := range []string{"Ip OutNoRoutes", "Ip6OutNoRoutes", "Udp OutDatagrams", "Udp6OutDatagrams"} {
		if n := after[name] - before[name]; n != 0 {
			t.Errorf("%s: %d while kra ran", name, n)
		}
	}
	if n := after["Tcp ActiveOpens"] - before["Tcp ActiveOpens"]; n < 3 || n > 6 {
		t.Errorf("%d connections were begun by three commands that talk to the box", n)
	}
	_, err := net.Dial("udp", "192.0.2.1:53")
	if err == nil {
		t.Error("control: another network is there")
	}
	if n := traffic(t)["Ip OutNoRoutes"] - after["Ip OutNoRoutes"]; n == 0 {
		t.Error("control: the kernel does not count who is not reached")
	}
}

// alone checks that there is nothing but loopback, and brings it up.
func alone(t *testing.T) {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil || len(links) != 1 || links[0].Attrs().Name != "lo" {
		t.Fatalf("not alone: %v, %v", links, err)
	}
	if err := netlink.LinkSetUp(links[0]); err != nil {
		t.Fatal(err)
	}
}

// traffic is what this network's kernel counts of IP, TCP and UDP, see proc_pid_net(5). Counters of IPv4 have the name of their protocol before them.
func traffic(t *testing.T) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	read := func(file string) []string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	lines := read("/proc/self/net/snmp")
	for i := 0; i+1 < len(lines); i += 2 { // a line of names, and one of numbers
		names, numbers := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for j := 1; j < len(names); j++ {
			out[strings.TrimSuffix(names[0], ":")+" "+names[j]] = number(numbers[j])
		}
	}
	for _, line := range read("/proc/self/net/snmp6") {
		f := strings.Fields(line)
		out[f[0]] = number(f[1])
	}
	for _, name := range []string{"Ip OutNoRoutes", "Ip6OutNoRoutes", "Udp OutDatagrams", "Udp6OutDatagrams", "Tcp ActiveOpens"} {
		if _, ok := out[name]; !ok {
			t.Fatalf("the kernel does not count %s", name)
		}
	}
	return out
}
