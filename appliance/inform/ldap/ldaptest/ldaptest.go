// Package ldaptest runs a fresh OpenLDAP server, on loopback and over TLS, for a test.
package ldaptest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/keyrelease/krabox/appliance/peertest"
)

// Slapd is the server's program.
const Slapd = "/usr/sbin/slapd"

// What every server has.
const (
	Suffix = "dc=example,dc=com"
	People = "ou=people," + Suffix
	Groups = "ou=groups," + Suffix
	Admin  = "cn=admin," + Suffix
	Secret = "a password for tests only"
)

const patience = time.Minute

const config = `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
pidfile DIR/pid
TLSCertificateFile DIR/server.pem
TLSCertificateKeyFile DIR/key.pem
database mdb
suffix "` + Suffix + `"
rootdn "` + Admin + `"
rootpw "` + Secret + `"
directory DIR/data
maxsize 268435456
dbnosync
overlay memberof
memberof-refint true
`

// A Server is a running slapd. It ends with the test.
type Server struct {
	URL  string
	Root *x509.Certificate // its authority

	t    testing.TB
	dir  string
	cmd  *exec.Cmd
	said *peertest.Words
}

// New starts a server with the entries People and Groups.
func New(t testing.TB) *Server {
	t.Helper()
	if _, err := os.Stat(Slapd); err != nil {
		t.Fatalf("find OpenLDAP: %v (apt-get install slapd)", err)
	}
	s := &Server{t: t, dir: t.TempDir()}
	authority := peertest.NewAuthority(t)
	s.Root = authority.Root
	peertest.Write(t, s.dir, authority.Server(t, "127.0.0.1"))
	s.write("slapd.conf", []byte(strings.ReplaceAll(config, "DIR", s.dir)))
	if err := os.Mkdir(filepath.Join(s.dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.URL = fmt.Sprintf("ldaps://127.0.0.1:%d", peertest.Port(t, "tcp"))
	s.Start()
	t.Cleanup(s.Stop)
	s.Add(Suffix, "dcObject", "organization", "o=Example")
	s.Add(People, "organizationalUnit")
	s.Add(Groups, "organizationalUnit")
	return s
}

func (s *Server) write(name string, b []byte) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), b, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// Start starts a stopped server and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	s.said = new(peertest.Words)
	s.cmd = exec.Command(Slapd, "-d", "0", "-f", filepath.Join(s.dir, "slapd.conf"), "-h", s.URL)
	s.cmd.Stderr = s.said
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		c, err := s.dial()
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("slapd does not answer: %v\n%s", err, s.said)
		}
	}
}

// Stop ends the server.
func (s *Server) Stop() {
	s.t.Helper()
	if s.cmd == nil {
		return
	}
	s.Signal(syscall.SIGKILL)
	_ = s.cmd.Wait() // killed
	s.cmd = nil
}

// Signal sends the server a signal: SIGSTOP makes it slow without end, SIGCONT quick again.
func (s *Server) Signal(what syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(s.cmd.Process.Pid, what); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) dial() (*goldap.Conn, error) {
	pool := x509.NewCertPool()
	pool.AddCert(s.Root)
	return goldap.DialURL(s.URL, goldap.DialWithTLSConfig(&tls.Config{RootCAs: pool}))
}

// As runs f on a connection of the administrator.
func (s *Server) As(f func(*goldap.Conn) error) {
	s.t.Helper()
	c, err := s.dial()
	if err == nil {
		defer c.Close()
		err = c.Bind(Admin, Secret)
	}
	if err == nil {
		err = f(c)
	}
	if err != nil {
		s.t.Fatalf("slapd: %v\n%s", err, s.said)
	}
}

// Add makes an entry. Words without = are its object classes.
func (s *Server) Add(dn string, words ...string) {
	s.t.Helper()
	s.As(func(c *goldap.Conn) error { return c.Add(entry(dn, words)) })
}

func entry(dn string, words []string) *goldap.AddRequest {
	values := map[string][]string{}
	for _, w := range words {
		field, value, ok := strings.Cut(w, "=")
		if !ok {
			field, value = "objectClass", w
		}
		values[field] = append(values[field], value)
	}
	r := goldap.NewAddRequest(dn, nil)
	for field, v := range values {
		r.Attribute(field, v)
	}
	return r
}

// Person makes uid=UID under People, with cn and sn as its uid.
func (s *Server) Person(uid string, words ...string) (dn string) {
	s.t.Helper()
	dn = "uid=" + uid + "," + People
	s.Add(dn, append([]string{"inetOrgPerson", "cn=" + uid, "sn=" + uid}, words...)...)
	return dn
}

// Crowd makes many persons at once.
func (s *Server) Crowd(n int, uid func(int) string) {
	s.t.Helper()
	s.As(func(c *goldap.Conn) error {
		for i := range n {
			if err := c.Add(entry("uid="+uid(i)+","+People, []string{"inetOrgPerson", "cn=" + uid(i), "sn=" + uid(i)})); err != nil {
				return err
			}
		}
		return nil
	})
}

// Group makes cn=NAME under Groups.
func (s *Server) Group(name string, members ...string) (dn string) {
	s.t.Helper()
	dn = "cn=" + name + "," + Groups
	words := []string{"groupOfNames"}
	for _, m := range members {
		words = append(words, "member="+m)
	}
	s.Add(dn, words...)
	return dn
}

// Leave takes a member out of a group.
func (s *Server) Leave(group, who string) {
	s.t.Helper()
	r := goldap.NewModifyRequest(group, nil)
	r.Delete("member", []string{who})
	s.As(func(c *goldap.Conn) error { return c.Modify(r) })
}
