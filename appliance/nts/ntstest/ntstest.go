// Package ntstest gives a test time servers that speak NTS: Debian's chronyd, and one that can lie.
package ntstest

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/peertest"
)

// An Authority certifies time servers.
type Authority struct {
	peertest.Authority
	DER []byte // its certificate
}

// NewAuthority makes one.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := peertest.NewAuthority(t)
	return &Authority{a, a.Root.Raw}
}

// Certify returns a certificate for 127.0.0.1, and for other addresses of it.
func (a *Authority) Certify(t testing.TB, from, to time.Time, others ...net.IP) tls.Certificate {
	t.Helper()
	hosts := []string{"127.0.0.1"}
	for _, ip := range others {
		hosts = append(hosts, ip.String())
	}
	return a.Authority.Certify(t, from, to, hosts...)
}

func (a *Authority) valid(t testing.TB, others ...net.IP) tls.Certificate {
	return a.Certify(t, time.Now().AddDate(0, 0, -1), time.Now().AddDate(0, 0, 1), others...)
}

// A Chrony is Debian's chronyd with a folder and ports of its own. It never touches the machine's clock (-x).
type Chrony struct {
	Address string // of its key establishment
	NTP     string
	Stop    func()
}

// Chronyd starts one on 127.0.0.1, which others may call by other addresses, and stops it when the test ends.
func Chronyd(t testing.TB, a *Authority, others ...net.IP) Chrony {
	t.Helper()
	dir := t.TempDir()
	peertest.Write(t, dir, a.valid(t, others...))
	ke, udp := peertest.Port(t, "tcp"), peertest.Port(t, "udp")
	conf := strings.NewReplacer("DIR", dir, "KE", fmt.Sprint(ke), "UDP", fmt.Sprint(udp)).Replace(`local stratum 1
allow 127.0.0.1
bindaddress 127.0.0.1
port UDP
ntsport KE
ntsserverkey DIR/key.pem
ntsservercert DIR/server.pem
ntsdumpdir DIR
pidfile DIR/pid
bindcmdaddress /
cmdport 0
user root
`)
	must(t, os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o600))
	c := exec.Command("/usr/sbin/chronyd", "-x", "-d", "-f", filepath.Join(dir, "conf"))
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said peertest.Words
	c.Stdout, c.Stderr = &said, &said
	must(t, c.Start())
	ended := false
	stop := func() {
		if !ended {
			ended = true
			_ = c.Process.Signal(syscall.SIGTERM) // Wait says if it was not there
			_ = c.Wait()
		}
	}
	t.Cleanup(stop)
	out := Chrony{fmt.Sprintf("127.0.0.1:%d", ke), fmt.Sprintf("127.0.0.1:%d", udp), stop}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", out.Address)
		if err == nil {
			conn.Close()
			return out
		}
		if time.Now().After(end) {
			stop()
			t.Fatalf("chronyd (Debian package chrony) does not listen: %v\n%s", err, said.String())
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
