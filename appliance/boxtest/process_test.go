package boxtest_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	hsm "github.com/keyrelease/krabox/hsm/wire"
)

// This test binary is also the two processes that a release is compared with.
const (
	envChild = "BOXTEST_CHILD"
	envSuite = "BOXTEST_SUITE"
)

// daemons are those whose cost is the cost of a release.
var daemons = []string{"tpmd", "hsmd", "krad"}

func serverCPU(t testing.TB, b *boxtest.Box) (sum time.Duration) {
	t.Helper()
	for _, name := range daemons {
		sum += cpuOf(t, b.Service(name).PID)
	}
	return sum
}

func serverRSS(t testing.TB, b *boxtest.Box) (sum int64) {
	t.Helper()
	for _, name := range daemons {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.Service(name).PID))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(status), "VmRSS:")
		kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += kib
	}
	return sum
}

// cpuOf is the processor time of a process, user and system, in the kernel's ticks of 10 ms.
func cpuOf(t testing.TB, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks int64
	for _, i := range []int{11, 12} {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func command(what string, env ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v=false")
	c.Env = append(append(os.Environ(), envChild+"="+what), env...)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// child runs the bare operation and returns the processor time of one, in microseconds.
func child(t testing.TB, what, suite string) float64 {
	t.Helper()
	out, err := command(what, envSuite+"="+suite).Output()
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	us, err := strconv.ParseFloat(first, 64)
	if err != nil {
		t.Fatalf("%s: %q", what, out)
	}
	return us
}

// TestChild is the body of the child processes. In a run of its own it checks that each kind of child works.
func TestChild(t *testing.T) {
	switch os.Getenv(envChild) {
	case "bare":
		bareChild(t)
	case "echo":
		echoChild(t)
	default:
		if us := child(t, "bare", hsm.P256.String()); us <= 0 {
			t.Errorf("bare operation took %v us", us)
		}
	}
}

func bareChild(t *testing.T) {
	s, err := hsm.ParseSuite(os.Getenv(envSuite))
	if err != nil {
		t.Fatal(err)
	}
	op := hsmtest.Bare(t, s)
	var n int
	run := func(d time.Duration) {
		for n = 0; d > 0; n++ {
			began := time.Now()
			if err := op(); err != nil {
				t.Fatal(err)
			}
			d -= time.Since(began)
		}
	}
	run(300 * time.Millisecond)
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	run(*benchFor)
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	spent := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	fmt.Printf("%.2f\n", float64(spent)/1e3/float64(n))
}

type echoServer struct {
	url   string
	pid   int
	roots *x509.CertPool
}

func startEcho(t testing.TB) echoServer {
	t.Helper()
	c := command("echo")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); c.Wait() })
	e := echoServer{pid: c.Process.Pid, roots: x509.NewCertPool()}
	lines := bufio.NewReader(out)
	if e.url, err = lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	e.url = strings.TrimSpace(e.url)
	var text strings.Builder
	for !strings.Contains(text.String(), "-----END") {
		l, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(l)
	}
	e.roots.AppendCertsFromPEM([]byte(text.String()))
	return e
}

// echoChild serves until its standard input ends.
func echoChild(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "echo"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err == nil {
			w.Write(b)
		}
	}), TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}
	go s.ServeTLS(l, "", "")
	fmt.Printf("https://%s\n%s", l.Addr(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	io.Copy(io.Discard, os.Stdin)
	s.Close()
}
