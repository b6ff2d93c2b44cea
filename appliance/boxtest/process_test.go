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
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
var daemons = [...]string{"tpmd", "hsmd", "krad"}

// A cost is processor time by daemon, in their order.
type cost [len(daemons)]time.Duration

func serverCost(t testing.TB, b *boxtest.Box) (c cost) {
	t.Helper()
	for i, name := range daemons {
		c[i] = cpuOf(t, b.Service(name).PID)
	}
	return c
}

func (c cost) plus(d cost, sign time.Duration) cost {
	for i := range c {
		c[i] += sign * d[i]
	}
	return c
}

func (c cost) sum() (sum time.Duration) {
	for _, d := range c {
		sum += d
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

// cpuOf is the processor time of a process, user and system: its clock, see clock_getcpuclockid(3).
func cpuOf(t testing.TB, pid int) time.Duration {
	t.Helper()
	const whole = 2 // CPUCLOCK_SCHED, of all threads
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|whole), &at); err != nil {
		t.Fatal(err)
	}
	return time.Duration(at.Nano())
}

func command(what string, env ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v=false")
	c.Env = append(append(os.Environ(), envChild+"="+what), env...)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// A bare is a process that does the bare PKCS#11 operation when asked to, on all cores or on one.
type bare struct {
	in  io.WriteCloser
	out *bufio.Reader
}

func startBare(t testing.TB, s hsm.Suite) *bare {
	t.Helper()
	c := command("bare", envSuite+"="+s.String())
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
	return &bare{in: in, out: bufio.NewReader(out)}
}

// run does the operation on some sessions at once and returns the processor time of one, in microseconds.
func (b *bare) run(t testing.TB, sessions int, limit time.Duration) (us float64) {
	t.Helper()
	if _, err := fmt.Fprintln(b.in, sessions, limit.Nanoseconds()); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscanln(b.out, &us); err != nil {
		t.Fatal(err)
	}
	return us
}

// TestChild is the body of the child processes. In a run of its own it checks that the bare operation works.
func TestChild(t *testing.T) {
	switch os.Getenv(envChild) {
	case "bare":
		bareChild(t)
	case "echo":
		echoChild(t)
	default:
		if us := startBare(t, hsm.P256).run(t, runtime.NumCPU(), 10*time.Millisecond); us <= 0 {
			t.Errorf("bare operation took %v us", us)
		}
	}
}

// bareChild serves until its standard input ends.
func bareChild(t *testing.T) {
	s, err := hsm.ParseSuite(os.Getenv(envSuite))
	if err != nil {
		t.Fatal(err)
	}
	operations := hsmtest.Bare(t, s, runtime.NumCPU())
	for {
		var sessions int
		var limit time.Duration
		if _, err := fmt.Scanln(&sessions, &limit); err != nil {
			return
		}
		before := cpuOf(t, os.Getpid())
		var n atomic.Int64
		var all sync.WaitGroup
		for _, operation := range operations[:sessions] {
			all.Go(func() {
				for end := time.Now().Add(limit); time.Now().Before(end); n.Add(1) {
					if err := operation(); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		fmt.Printf("%.2f\n", us(cpuOf(t, os.Getpid())-before)/float64(n.Load()))
	}
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
