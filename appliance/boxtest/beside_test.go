package boxtest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	tpm "github.com/keyrelease/krabox/tpm/wire"
)

// A disturbance goes on until stop is closed, and says how much of it there was.
type disturbance struct {
	name string
	run  func(b testing.TB, box *boxtest.Box, stop <-chan struct{}) int64
}

// disturbances are what the TPM has to do while keys are released. challenges come on more connections than one source may have places
// for: most are turned away, and two wait all the time. renewals are leaves of the label key, one after the other.
var disturbances = []disturbance{{"challenges", challenges}, {"renewals", renewals}}

func challenges(b testing.TB, box *boxtest.Box, stop <-chan struct{}) int64 {
	b.Helper()
	var all sync.WaitGroup
	var answered, turnedAway atomic.Int64
	for range 6 {
		c := newChallenger(b, box)
		all.Go(func() { c.storm(stop, &answered, &turnedAway) })
	}
	all.Wait()
	return answered.Load()
}

func renewals(b testing.TB, box *boxtest.Box, stop <-chan struct{}) (n int64) {
	b.Helper()
	c, err := tpm.Dial(box.Socket("tpm"))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for {
		select {
		case <-stop:
			return n
		default:
		}
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			b.Error(err)
			return n
		}
		spki, err := x509.MarshalPKIXPublicKey(k.Public())
		if err == nil {
			_, err = c.LeafTLS(b.Context(), spki)
		}
		if err != nil {
			b.Error(err)
			return n
		}
		n++
	}
}

// beside measures releases while the TPM is disturbed, in turns with quiet ones: ratios of p99, and of the processor time of hsmd and krad
// for a key. tpmd's is the disturbance's own.
func (r *report) beside(box *boxtest.Box, cert *tls.Certificate, conns int) {
	r.b.Helper()
	l := newLoad(r.b, box, cert, []string{"p256"}, 1, false)
	l.run(r.b, conns, *benchFor/6)
	const name = "release/p-256/single/c64"
	for _, d := range disturbances {
		var quiet, loud sample
		var p99, cpu []float64
		var n int64
		for range rounds {
			q := l.take(r.b, box, conns, *benchFor/rounds)
			stop, ended := make(chan struct{}), make(chan int64, 1)
			go func() { ended <- d.run(r.b, box, stop) }()
			s := l.take(r.b, box, conns, *benchFor/rounds)
			close(stop)
			n += <-ended
			p99 = append(p99, float64(s.took[len(s.took)*99/100])/float64(q.took[len(q.took)*99/100]))
			cpu = append(cpu, s.perKey(s.cost[1]+s.cost[2])/q.perKey(q.cost[1]+q.cost[2]))
			quiet.add(q)
			loud.add(s)
		}
		if n == 0 {
			r.b.Errorf("no %s", d.name)
		}
		r.add(quiet.figure(r.b, name+"/quiet", box))
		f := loud.figure(r.b, name+"/beside-"+d.name, box)
		f.Ratio, f.Busy = median(cpu), l.busy.Swap(0)
		r.add(f)
		r.measure(d.name+" a second", float64(n)/loud.wall.Seconds(), "")
		r.measure(name+" beside "+d.name+", p99", median(p99), "x")
		r.measure(name+" beside "+d.name+", cpu", f.Ratio, "x")
	}
	l.client.CloseIdleConnections()
}

// BenchmarkBeside is that part of BenchmarkRelease alone.
func BenchmarkBeside(b *testing.B) {
	r := &report{b: b}
	box := boxtest.Start(b)
	box.Trust("corp")
	box.Do(`rule add counsel is id == "corp:CN=bob,O=Example"`)
	bob := box.Person("bob")
	makeKey(b, box, hsm.P256, "p256", "counsel")
	r.beside(box, &bob, 64)
	r.table()
	if *benchOut != "" {
		r.write(*benchOut)
	}
}

// TestBeside: both disturbances disturb, and releases go on.
func TestBeside(t *testing.T) {
	box := boxtest.Start(t)
	legalTeam(box)
	bob := box.Person("bob")
	l := newLoad(t, box, &bob, []string{"legal-team"}, 1, false)
	for _, d := range disturbances {
		stop, ended := make(chan struct{}), make(chan int64, 1)
		go func() { ended <- d.run(t, box, stop) }()
		l.run(t, 2, time.Second)
		close(stop)
		if <-ended == 0 {
			t.Errorf("no %s", d.name)
		}
	}
}
