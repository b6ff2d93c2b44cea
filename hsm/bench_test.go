package hsm_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// selfCPU is the processor time of this process.
func selfCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// rsaKey is a PKCS#8 RSA-2048 key, which can only be imported.
func rsaKey(t testing.TB) []byte {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// A maker is what Custodian and Client have in common for these tests.
type maker struct {
	generate func(wire.Suite) (wire.Key, error)
	load     func([]byte) (wire.Key, error)
}

func (m maker) key(t testing.TB, s wire.Suite) wire.Key {
	t.Helper()
	k, err := wire.Key{}, error(nil)
	if s == wire.RSA2048 {
		k, err = m.load(rsaKey(t))
	} else {
		k, err = m.generate(s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func inProcess(c *hsm.Custodian) maker {
	return maker{
		func(s wire.Suite) (wire.Key, error) {
			k, _, err := c.Generate(s, wire.Replicable, wire.Resident)
			return k, err
		},
		func(b []byte) (wire.Key, error) {
			k, _, err := c.Import(b, wire.Replicable, wire.Resident)
			return k, err
		},
	}
}

func overWire(c *wire.Client) maker {
	ctx := context.Background()
	return maker{
		func(s wire.Suite) (wire.Key, error) {
			k, _, err := c.Generate(ctx, s, wire.Replicable, wire.Resident)
			return k, err
		},
		func(b []byte) (wire.Key, error) {
			k, _, err := c.Import(ctx, b, wire.Replicable, wire.Resident)
			return k, err
		},
	}
}

func wrapsTo(t testing.TB, k wire.Key, n int) []block.Wrap {
	t.Helper()
	pub, err := x509.ParsePKIXPublicKey(k.SPKI)
	if err != nil {
		t.Fatal(err)
	}
	wraps := make([]block.Wrap, n)
	for i := range wraps {
		if wraps[i], err = block.WrapFileKey(pub, make([]byte, block.FileKeySize)); err != nil {
			t.Fatal(err)
		}
	}
	return wraps
}

var benchSuites = []wire.Suite{wire.P256, wire.RSA2048, wire.RSA3072}

func bare(lib *p11.Ctx, sh p11.SessionHandle, h p11.ObjectHandle, s wire.Suite, w block.Wrap) error {
	if s != wire.P256 {
		if err := lib.DecryptInit(sh, []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_X_509, nil)}, h); err != nil {
			return err
		}
		_, err := lib.Decrypt(sh, w.Body())
		return err
	}
	m := []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDH1_DERIVE, p11.NewECDH1DeriveParams(p11.CKD_NULL, nil, w.Enc()))}
	d, err := lib.DeriveKey(sh, m, h, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_GENERIC_SECRET),
		p11.NewAttribute(p11.CKA_TOKEN, false), p11.NewAttribute(p11.CKA_PRIVATE, false), p11.NewAttribute(p11.CKA_SENSITIVE, false),
		p11.NewAttribute(p11.CKA_EXTRACTABLE, true), p11.NewAttribute(p11.CKA_VALUE_LEN, 32)})
	if err != nil {
		return err
	}
	if _, err := lib.GetAttributeValue(sh, d, []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE, nil)}); err != nil {
		return err
	}
	return lib.DestroyObject(sh, d)
}

// A load is one way to ask for keys.
type load struct{ batch, clients int }

func (l load) String() string { return fmt.Sprintf("%d-keys/c%d", l.batch, l.clients) }

var loads = []load{{1, 1}, {1, 64}, {64, 1}, {64, 8}}

const (
	rounds   = 9
	roundFor = 400 * time.Millisecond
)

// A way is one way to have a wrap opened, and what it cost in each round, in µs of processor time for one key.
type way struct {
	cpu    func() time.Duration
	unwrap func([]block.Wrap) error
	burst  int // keys for each wrap
	cost   []float64
}

// round asks for as long as a round lasts.
func (y *way) round(b *testing.B, l load, wraps []block.Wrap) {
	end, before := time.Now().Add(roundFor), y.cpu()
	var all sync.WaitGroup
	var n atomic.Int64
	for range l.clients {
		all.Go(func() {
			for time.Now().Before(end) {
				if err := y.unwrap(wraps); err != nil {
					b.Error(err)
					return
				}
				n.Add(int64(len(wraps) * y.burst))
			}
		})
	}
	all.Wait()
	y.cost = append(y.cost, (y.cpu()-before).Seconds()*1e6/float64(n.Load()))
}

// over is the median, over the rounds, of y's cost in proportion to z's.
func (y *way) over(z *way) float64 {
	ratios := make([]float64, len(y.cost))
	for i := range ratios {
		ratios[i] = y.cost[i] / z.cost[i]
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

// BenchmarkOverhead compares three ways to have the same wraps opened, in turns so that a noisy machine is noisy to
// all: the bare PKCS#11 operation on as many sessions as could be busy, Unwrap in this process, and Unwrap over the
// wire, where both processes count. It reports processor time per key, and ratios to the bare operation.
func BenchmarkOverhead(b *testing.B) {
	c, _ := hsmtest.New(b)
	d := hsmtest.Start(b)
	client := d.Client()
	if _, err := client.Open(context.Background(), hsmtest.Token()); err != nil {
		b.Fatal(err)
	}
	for _, s := range benchSuites {
		here, there := inProcess(c).key(b, s), overWire(client).key(b, s)
		for _, l := range loads {
			b.Run(s.String()+"/"+l.String(), func(b *testing.B) {
				compare(b, l, wrapsTo(b, here, l.batch), wrapsTo(b, there, l.batch),
					&way{burst: bareBurst, cpu: selfCPU, unwrap: func(w []block.Wrap) error { return bareAll(c, here, w) }},
					&way{burst: 1, cpu: selfCPU, unwrap: func(w []block.Wrap) error { return unwrapIn(c, w) }},
					&way{burst: 1, cpu: func() time.Duration { return selfCPU() + d.CPU() }, unwrap: func(w []block.Wrap) error { return unwrapOver(client, w) }})
			})
		}
	}
}

func compare(b *testing.B, l load, here, there []block.Wrap, bare, in, over *way) {
	for b.Loop() {
		for range rounds {
			bareLoad := load{1, min(l.clients*l.batch, 2*runtime.NumCPU())}
			bare.round(b, bareLoad, here[:1])
			in.round(b, l, here)
			over.round(b, l, there)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(slices.Min(bare.cost), "bare-µs")
	b.ReportMetric(in.over(bare), "in-process-ratio")
	b.ReportMetric(over.over(bare), "wire-ratio")
}

// bareBurst is how often the bare operation is done between two hand-overs to a session, so that these cost nothing.
const bareBurst = 16

func bareAll(c *hsm.Custodian, k wire.Key, w []block.Wrap) (err error) {
	c.Bare(k.ID, func(lib *p11.Ctx, sh p11.SessionHandle, h p11.ObjectHandle) {
		for range bareBurst {
			err = errors.Join(err, bare(lib, sh, h, k.Suite, w[0]))
		}
	})
	return err
}

func unwrapIn(c *hsm.Custodian, w []block.Wrap) error {
	done := make(chan error, 1)
	err := c.Unwrap(w, func(r []wire.Result, _ receipt.ChainHead) { done <- firstError(r) })
	if err != nil {
		return err
	}
	return <-done
}

func unwrapOver(c *wire.Client, w []block.Wrap) error {
	r, _, err := c.Unwrap(context.Background(), w)
	if err != nil {
		return err
	}
	return firstError(r)
}

func firstError(results []wire.Result) error {
	for _, r := range results {
		if r.Err != nil {
			return r.Err
		}
	}
	return nil
}

// BenchmarkGenerate is the whole life of a new key, tests included, among few and among many.
func BenchmarkGenerate(b *testing.B) {
	c, _ := hsmtest.New(b)
	for _, n := range []int{10, 10_000} {
		if err := c.GenerateFast(n); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := c.Generate(wire.P256, wire.Bound, wire.Resident); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
