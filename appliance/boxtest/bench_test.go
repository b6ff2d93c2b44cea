package boxtest_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	hsm "github.com/keyrelease/krabox/hsm/wire"
)

var (
	benchOut  = flag.String("out", "", "file for the figures as JSON lines")
	benchKeys = flag.Int("keys", 10_000, "keys of the large box; 0 leaves it out")
	benchFor  = flag.Duration("for", 3*time.Second, "how long each figure is measured")
)

// rounds is how many times a figure is taken, in turns with the bare operation: a noisy machine is then noisy to both.
const rounds = 6

// A figure is one line of bench.json. CPU is the processor time of tpmd, hsmd and krad together, or of the echo server, per
// key. Bare is what the PKCS#11 operation alone took before and after each round, on as many cores as the load can busy;
// Ratio is the median over the rounds of CPU to it, or to the figure named in the code. 0: not comparable.
type figure struct {
	Name  string  `json:"name"`
	CPU   float64 `json:"cpu_us"`
	TPMD  float64 `json:"tpmd_us"` // of CPU
	HSMD  float64 `json:"hsmd_us"`
	KRAD  float64 `json:"krad_us"`
	Bare  float64 `json:"bare_us"`
	Ratio float64 `json:"ratio"`
	P50   float64 `json:"p50_us"`
	More  float64 `json:"p50_ratio"` // of P50, to the same figure as Ratio
	P99   float64 `json:"p99_us"`
	RSS   int64   `json:"rss_kib"`
	Rate  float64 `json:"per_second"`
	Busy  int64   `json:"busy,omitempty"` // answers that asked to try again later
}

// BenchmarkRelease measures a whole box on this host: SoftHSM, swtpm, rules, log on a real disk, receipts, mutual TLS on
// loopback. Ratios are what counts; a machine's microseconds are its own.
func BenchmarkRelease(b *testing.B) {
	r := &report{b: b}
	if *benchScale != "" {
		r.scale(*benchScale)
	}
	box := boxtest.Start(b)
	box.Trust("corp")
	box.Do(`rule add counsel is id == "corp:CN=bob,O=Example"`)
	bob := box.Person("bob")
	for _, s := range []struct {
		suite hsm.Suite
		name  string
	}{{hsm.P256, "p-256"}, {hsm.RSA2048, "rsa-2048"}, {hsm.RSA3072, "rsa-3072"}} {
		access := strings.ReplaceAll(s.name, "-", "")
		makeKey(b, box, s.suite, access, "counsel")
		bare := startBare(b, s.suite)
		for _, shape := range []struct {
			name  string
			batch int
			conns int
			fresh bool
		}{{"single/c1", 1, 1, false}, {"single/c64", 1, 64, false}, {"batch64/c1", 64, 1, false}, {"batch64/c64", 64, 64, false}, {"single/c1/handshake", 1, 1, true}, {"single/c64/handshake", 1, 64, true}} {
			l := newLoad(b, box, &bob, []string{access}, shape.batch, shape.fresh)
			r.compare("release/"+s.name+"/"+shape.name, box, l, shape.conns, bare)
		}
	}
	r.echo(box, &bob)
	r.beside(box, &bob, 64)
	r.refusals(box, &bob)
	r.idle(box, &bob)
	r.start(box, &bob)
	if *benchKeys > 0 {
		r.manyKeys(*benchKeys)
	}
	r.table()
	if *benchOut != "" {
		r.write(*benchOut)
	}
}

type report struct {
	b        testing.TB
	figures  []figure
	times    []distribution
	measures []measure
}

func (r *report) add(f figure) {
	r.figures = append(r.figures, f)
	fmt.Fprintf(os.Stderr, "%-36s cpu %7.1f us (tpmd %4.1f hsmd %7.1f krad %6.1f)  bare %7.1f  ratio %5.2f  p50 %8.0f  p99 %8.0f us  %8.0f/s  rss %d KiB\n",
		f.Name, f.CPU, f.TPMD, f.HSMD, f.KRAD, f.Bare, f.Ratio, f.P50, f.P99, f.Rate, f.RSS)
}

// makeKey gives an access identifier, for whom a rule lets in, a key of the suite; RSA-2048 can only be imported.
func makeKey(b testing.TB, box *boxtest.Box, s hsm.Suite, access, rule string) {
	b.Helper()
	box.Do("access add " + access)
	box.Do("access lists " + access + " is " + rule)
	if s != hsm.RSA2048 {
		box.Do("key generate " + strings.ReplaceAll(s.String(), "-", "") + " for " + access)
		return
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		b.Fatal(err)
	}
	box.Do("key import for "+access, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

// compare takes the figures of a load in turns with the bare operation.
func (r *report) compare(name string, box *boxtest.Box, l *load, conns int, bare *bare) {
	r.b.Helper()
	l.run(r.b, conns, *benchFor/6)
	var all sample
	var bares, ratios []float64
	alone := func() float64 {
		bares = append(bares, bare.run(r.b, min(conns*l.batch, runtime.NumCPU()), *benchFor/rounds))
		return bares[len(bares)-1]
	}
	for before := alone(); len(ratios) < rounds; {
		s := l.take(r.b, box, conns, *benchFor/rounds)
		after := alone()
		ratios = append(ratios, 2*s.perKey(s.cost.sum())/(before+after))
		all.add(s)
		before = after
	}
	f := all.figure(r.b, name, box)
	f.Bare, f.Ratio, f.Busy = median(bares), median(ratios), l.busy.Swap(0)
	r.add(f)
	r.measure(name+" to bare", f.Ratio, "x")
	l.client.CloseIdleConnections() // one source may have so many
}

func median(v []float64) float64 {
	slices.Sort(v)
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}

func us(d time.Duration) float64 { return d.Seconds() * 1e6 }

// echo measures what a mutual-TLS server in Go costs that only sends back what it got.
func (r *report) echo(box *boxtest.Box, cert *tls.Certificate) {
	r.b.Helper()
	l := newLoad(r.b, box, cert, []string{"p256"}, 1, false)
	e := startEcho(r.b)
	l.url = e.url
	l.client.Transport.(*http.Transport).TLSClientConfig.RootCAs = e.roots
	l.run(r.b, 64, *benchFor/6)
	before := cpuOf(r.b, e.pid)
	took := l.run(r.b, 64, *benchFor)
	r.add(figure{Name: "mtls-echo/c64", CPU: (cpuOf(r.b, e.pid) - before).Seconds() * 1e6 / float64(len(took)), P50: us(took[len(took)/2]), P99: us(took[len(took)*99/100])})
}

// start measures from the power to the first key.
func (r *report) start(box *boxtest.Box, cert *tls.Certificate) {
	r.b.Helper()
	box.Stop()
	box.TPM.Restart(r.b)
	began := time.Now()
	box.Power()
	newLoad(r.b, box, cert, []string{"p256"}, 1, false) // sends a request
	r.add(figure{Name: "start-to-first-release", P50: us(time.Since(began))})
	box.Login()
}
