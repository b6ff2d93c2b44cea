package boxtest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
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
}

// BenchmarkRelease measures a whole box on this host: SoftHSM, swtpm, rules, log on a real disk, receipts, mutual TLS on
// loopback. Ratios are what counts; a machine's microseconds are its own.
func BenchmarkRelease(b *testing.B) {
	r := &report{b: b}
	box := boxtest.Start(b)
	box.Trust("corp")
	box.Do(`rule add counsel is id == "corp:CN=bob,O=Example"`)
	bob := box.Person("bob")
	for _, s := range []struct {
		suite hsm.Suite
		name  string
	}{{hsm.P256, "p-256"}, {hsm.RSA2048, "rsa-2048"}, {hsm.RSA3072, "rsa-3072"}} {
		access := strings.ReplaceAll(s.name, "-", "")
		makeKey(b, box, s.suite, access)
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
	r.start(box, &bob)
	if *benchKeys > 0 {
		r.manyKeys(*benchKeys)
	}
	r.print()
}

type report struct {
	b       *testing.B
	figures []figure
}

func (r *report) add(f figure) {
	r.figures = append(r.figures, f)
	fmt.Fprintf(os.Stderr, "%-36s cpu %7.1f us (tpmd %4.1f hsmd %7.1f krad %6.1f)  bare %7.1f  ratio %5.2f  p50 %8.0f  p99 %8.0f us  %8.0f/s  rss %d KiB\n",
		f.Name, f.CPU, f.TPMD, f.HSMD, f.KRAD, f.Bare, f.Ratio, f.P50, f.P99, f.Rate, f.RSS)
}

func (r *report) print() {
	if *benchOut == "" {
		return
	}
	var out bytes.Buffer
	for _, f := range r.figures {
		j, err := json.Marshal(f)
		if err != nil {
			r.b.Fatal(err)
		}
		out.Write(append(j, '\n'))
	}
	if err := os.WriteFile(*benchOut, out.Bytes(), 0o644); err != nil {
		r.b.Fatal(err)
	}
}

// makeKey gives an access identifier a key of the suite; RSA-2048 can only be imported.
func makeKey(b testing.TB, box *boxtest.Box, s hsm.Suite, access string) {
	b.Helper()
	box.Do("access add " + access)
	box.Do("access lists " + access + " is counsel")
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

// A load is a request, or many, to be sent again and again.
type load struct {
	url    string
	client *http.Client
	bodies [][]byte
	batch  int
}

func newLoad(b testing.TB, box *boxtest.Box, cert *tls.Certificate, access []string, batch int, fresh bool) *load {
	b.Helper()
	agent := box.Agent(cert)
	d, err := agent.Directory(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	l := &load{url: "https://" + box.Up().Release.String() + kra.PathRelease, batch: batch}
	for _, a := range access {
		k, ok := d.Lookup(kra.AccessID(a))
		if !ok {
			b.Fatalf("no key for %s", a)
		}
		to, err := k.Recipient()
		if err != nil {
			b.Fatal(err)
		}
		headers := make([][]byte, batch)
		for i := range headers {
			var file bytes.Buffer
			w, err := client.Encrypt(&file, to)
			if err != nil {
				b.Fatal(err)
			}
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
			h, _, err := block.ParseHeader(&file, block.MaxHeader)
			if err != nil {
				b.Fatal(err)
			}
			headers[i] = h.Bytes()
		}
		q, err := kra.NewRequest(headers, "")
		if err != nil {
			b.Fatal(err)
		}
		l.bodies = append(l.bodies, q.Encode())
	}
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust(b, box).Roots(), Certificates: []tls.Certificate{*cert}}, MaxIdleConnsPerHost: 256, DisableKeepAlives: fresh}
	b.Cleanup(t.CloseIdleConnections)
	l.client = &http.Client{Transport: t}
	return l
}

func (l *load) send(n int) error {
	resp, err := l.client.Post(l.url, kra.ContentType, bytes.NewReader(l.bodies[n]))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// run sends bodies at random on conns connections until the time is over and returns how long each request took.
func (l *load) run(b testing.TB, conns int, limit time.Duration) []time.Duration {
	b.Helper()
	var mu sync.Mutex
	var took []time.Duration
	end := time.Now().Add(limit)
	var all sync.WaitGroup
	for range conns {
		all.Go(func() {
			var own []time.Duration
			for time.Now().Before(end) {
				began := time.Now()
				if err := l.send(mathrand.IntN(len(l.bodies))); err != nil {
					b.Errorf("%d connections, after %v: %v", conns, time.Since(began), err)
					return
				}
				own = append(own, time.Since(began))
			}
			mu.Lock()
			took = append(took, own...)
			mu.Unlock()
		})
	}
	all.Wait()
	slices.Sort(took)
	if len(took) == 0 {
		b.Fatal("nothing was measured")
	}
	return took
}

// A sample is what a load cost.
type sample struct {
	cost cost
	took []time.Duration
	wall time.Duration
	keys int
}

// take puts the load on the box.
func (l *load) take(b testing.TB, box *boxtest.Box, conns int, limit time.Duration) sample {
	b.Helper()
	before, began := serverCost(b, box), time.Now()
	took := l.run(b, conns, limit)
	return sample{serverCost(b, box).plus(before, -1), took, time.Since(began), len(took) * l.batch}
}

func (s *sample) add(more sample) {
	s.cost, s.took, s.wall, s.keys = s.cost.plus(more.cost, 1), append(s.took, more.took...), s.wall+more.wall, s.keys+more.keys
}

// perKey is d for one key, in microseconds.
func (s *sample) perKey(d time.Duration) float64 { return us(d) / float64(s.keys) }

func (s *sample) figure(b testing.TB, name string, box *boxtest.Box) figure {
	b.Helper()
	slices.Sort(s.took)
	return figure{Name: name, CPU: s.perKey(s.cost.sum()), TPMD: s.perKey(s.cost[0]), HSMD: s.perKey(s.cost[1]), KRAD: s.perKey(s.cost[2]),
		P50: us(s.took[len(s.took)/2]), P99: us(s.took[len(s.took)*99/100]), RSS: serverRSS(b, box), Rate: float64(s.keys) / s.wall.Seconds()}
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
	f.Bare, f.Ratio = median(bares), median(ratios)
	r.add(f)
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
	l := newLoad(r.b, box, cert, []string{"p256"}, 1, false)
	if err := l.send(0); err != nil {
		r.b.Fatal(err)
	}
	r.add(figure{Name: "start-to-first-release", P50: us(time.Since(began))})
	box.Login()
}
