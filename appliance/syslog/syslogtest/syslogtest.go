// Package syslogtest runs a fresh rsyslog server, on loopback and over TLS, for a test.
package syslogtest

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/peertest"
)

// Rsyslogd is the server's program.
const Rsyslogd = "/usr/sbin/rsyslogd"

const patience = time.Minute

// config has each message parsed by mmpstrucdata and written as one line of JSON, and as it came.
const config = `
global(workDirectory="DIR" maxMessageSize="16k" net.enableDNS="off" parser.escapeControlCharactersOnReceive="on"
  defaultNetstreamDriverCAFile="DIR/ca.pem" defaultNetstreamDriverCertFile="DIR/server.pem" defaultNetstreamDriverKeyFile="DIR/key.pem")
module(load="imtcp" streamDriver.name="DRIVER" streamDriver.mode="1" streamDriver.authMode="anon")
module(load="mmpstrucdata")
input(type="imtcp" address="127.0.0.1" port="PORT")
template(name="line" type="list") {
  constant(value="{\"message\":") property(name="jsonmesg") constant(value="}\n")
}
action(type="mmpstrucdata")
action(type="omfile" file="DIR/out" template="line")
`

// A Server is a running rsyslogd. It ends with the test.
type Server struct {
	Port      int
	Authority peertest.Authority // of its certificate

	t    testing.TB
	dir  string
	cmd  *exec.Cmd
	said *peertest.Words
}

// New starts a server on 127.0.0.1 that speaks TLS by way of a driver of rsyslog: gtls (GnuTLS) or ossl (OpenSSL).
func New(t testing.TB, driver string) *Server { t.Helper(); return NewAs(t, driver, "127.0.0.1") }

// NewAs starts one whose certificate is of another address, by which it is reached.
func NewAs(t testing.TB, driver, address string) *Server {
	t.Helper()
	if _, err := os.Stat(Rsyslogd); err != nil {
		t.Fatalf("find rsyslog: %v (apt-get install rsyslog rsyslog-gnutls rsyslog-openssl)", err)
	}
	s := &Server{t: t, dir: t.TempDir(), Authority: peertest.NewAuthority(t)}
	s.write("ca.pem", []byte(s.CA()))
	peertest.Write(t, s.dir, s.Authority.Server(t, address))
	s.Port = peertest.Port(t, "tcp")
	s.write("rsyslog.conf", []byte(strings.NewReplacer("DIR", s.dir, "PORT", strconv.Itoa(s.Port), "DRIVER", driver).Replace(config)))
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// CA returns the certificate of the server's authority.
func (s *Server) CA() string { return s.Authority.PEM() }

// Roots returns a pool of it.
func (s *Server) Roots() *x509.CertPool { return s.Authority.Pool() }

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
	s.cmd = exec.Command(Rsyslogd, "-n", "-f", filepath.Join(s.dir, "rsyslog.conf"), "-i", filepath.Join(s.dir, "pid"))
	s.cmd.Stdout, s.cmd.Stderr = s.said, s.said
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)))
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("rsyslogd does not answer: %v\n%s", err, s.said)
		}
	}
}

// Stop kills the server. What it has written in part is as good as not written.
func (s *Server) Stop() {
	s.t.Helper()
	if s.cmd == nil {
		return
	}
	s.Signal(syscall.SIGKILL)
	_ = s.cmd.Wait() // killed
	_ = os.Remove(filepath.Join(s.dir, "pid"))
	s.cmd = nil
	out := filepath.Join(s.dir, "out")
	if text, err := os.ReadFile(out); err == nil {
		if err := os.Truncate(out, int64(bytes.LastIndexByte(text, '\n')+1)); err != nil {
			s.t.Error(err)
		}
	}
}

// Signal sends the server a signal: SIGSTOP makes it slow without end, SIGCONT quick again.
func (s *Server) Signal(what syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(s.cmd.Process.Pid, what); err != nil {
		s.t.Fatal(err)
	}
}

// Said is what the server said of itself.
func (s *Server) Said() string { return s.said.String() }

// A Message is one that the server has received, in its own reading.
type Message struct {
	Raw        string `json:"rawmsg"`
	Priority   string `json:"pri"`
	Host       string `json:"hostname"`
	App        string `json:"programname"`
	ID         string `json:"msgid"`
	Text       string `json:"msg"`
	Time       string `json:"timereported"`
	Structured string `json:"structured-data"`
	Variables  struct {
		Data map[string]map[string]string `json:"rfc5424-sd"`
	} `json:"$!"`
}

// Of returns a parameter of the structured data.
func (m Message) Of(element, name string) string { return m.Variables.Data[element][name] }

// Received returns all that the server has written, in its order.
func (s *Server) Received() (all []Message) {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "out"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var m struct{ Message Message }
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			s.t.Fatal(fmt.Errorf("read what rsyslog wrote: %w\n%s", err, line))
		}
		all = append(all, m.Message)
	}
	return all
}
