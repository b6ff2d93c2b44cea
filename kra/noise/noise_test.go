package noise

import (
	"crypto/rand"
	"errors"
	"math"
	"testing"
)

func fill(f func(int) byte) func([]byte) error {
	return func(b []byte) error {
		for i := range b {
			b[i] = f(i)
		}
		return nil
	}
}

// TestCheck: a stuck generator and a bent one fail, each exactly at its cutoff; a good one passes, and one that gives nothing does not.
func TestCheck(t *testing.T) {
	for range 1000 {
		if err := Check(func(b []byte) error { _, err := rand.Read(b); return err }); err != nil {
			t.Fatal(err)
		}
	}
	run := func(at, n int) func([]byte) error {
		return fill(func(i int) byte {
			if i >= at && i < at+n {
				return 0xff
			}
			return byte(i % 251)
		})
	}
	bent := func(n int) func([]byte) error { // window for window n bytes like the first
		return fill(func(i int) byte {
			if i%window < 2*n && i%2 == 0 {
				return 7
			}
			return byte(8 + i%241)
		})
	}
	for name, c := range map[string]struct {
		read func([]byte) error
		want error
	}{
		"zeros":            {fill(func(int) byte { return 0 }), errStuck},
		"a run":            {run(300, repeats), errStuck},
		"a run at the end": {run(Size-repeats, repeats), errStuck},
		"a shorter run":    {run(300, repeats-1), nil},
		"bent":             {bent(proportion), errBent},
		"a little bent":    {bent(proportion - 1), nil},
	} {
		if err := Check(c.read); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v; want %v", name, err, c.want)
		}
	}
	away := errors.New("away")
	if err := Check(func([]byte) error { return away }); !errors.Is(err, away) {
		t.Errorf("nothing: %v", err)
	}
}

// TestCutoffs: by the binomial distribution a good generator fails less often than is said, and with one less it would not.
func TestCutoffs(t *testing.T) {
	alpha := math.Pow(2, -40)
	if p := math.Pow(2, -8*(repeats-1)); p > alpha {
		t.Errorf("repetition: 2^%.1f", math.Log2(p))
	}
	tail := func(k int) (p float64) { // at least k of the others are like the first
		n := window - 1
		for i := k; i <= n; i++ {
			all, _ := math.Lgamma(float64(n + 1))
			these, _ := math.Lgamma(float64(i + 1))
			others, _ := math.Lgamma(float64(n - i + 1))
			p += math.Exp(all - these - others + float64(i)*math.Log(1./256) + float64(n-i)*math.Log(255./256))
		}
		return p
	}
	if p := tail(proportion - 1); p > alpha {
		t.Errorf("proportion: 2^%.1f", math.Log2(p))
	}
	if p := tail(proportion - 2); p < alpha {
		t.Errorf("a smaller cutoff would do: 2^%.1f", math.Log2(p))
	}
}
