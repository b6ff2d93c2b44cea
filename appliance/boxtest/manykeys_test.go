package boxtest_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
)

const (
	fewKeys    = 10
	coldRounds = 3
	goal       = 1.2 // what a release among many keys may take, to one among few
	stretch    = 500 // keys whose making is timed together
)

// A keyed box has n keys, each of an access identifier of its own, and a load that asks for them at random.
type keyed struct {
	n    int
	box  *boxtest.Box
	load *load
}

func (k *keyed) name(what string) string { return fmt.Sprintf("release/p-256/keys%d/%s", k.n, what) }

// manyKeys compares requests at random among few keys with the same among many, on two boxes in turns.
func (r *report) manyKeys(n int) {
	r.b.Helper()
	few, many := r.keyed(fewKeys), r.keyed(n)
	for _, conns := range []int{1, 64} {
		shape := fmt.Sprintf("warm/c%d", conns)
		few.load.run(r.b, conns, *benchFor/6)
		many.load.run(r.b, conns, *benchFor) // touches most keys
		r.versus(shape, few, many, rounds, func(k *keyed) sample { return k.load.take(r.b, k.box, conns, *benchFor/rounds) })
	}
	r.versus("cold/c64", few, many, coldRounds, func(k *keyed) sample {
		k.box.Reset()
		k.load.url = "https://" + k.box.Up().Release.String() + kra.PathRelease
		return k.load.take(r.b, k.box, 64, *benchFor/rounds)
	})
}

// versus takes the figures of two boxes in turns.
func (r *report) versus(shape string, few, many *keyed, rounds int, take func(*keyed) sample) {
	r.b.Helper()
	var fewer, more sample
	var ratios []float64
	for range rounds {
		x, y := take(few), take(many)
		ratios = append(ratios, y.perKey(y.cost.sum())/x.perKey(x.cost.sum()))
		fewer.add(x)
		more.add(y)
	}
	f, m := fewer.figure(r.b, few.name(shape), few.box), more.figure(r.b, many.name(shape), many.box)
	m.Ratio, m.More = median(ratios), m.P50/f.P50
	r.add(f)
	r.add(m)
	fmt.Fprintf(os.Stderr, "keys%d/keys%d %-8s  cpu %.2f  p50 %.2f  (goal %.1f)\n", many.n, few.n, shape, m.Ratio, m.More, goal)
}

// keyed makes a box with n keys at the console, and notes what a key took while there were few and while there were many.
func (r *report) keyed(n int) *keyed {
	r.b.Helper()
	k := &keyed{n: n, box: boxtest.Start(r.b)}
	k.box.Trust("corp")
	k.box.Do(`rule add counsel is id == "corp:CN=bob,O=Example"`)
	var names []string
	var first, last figure
	began := time.Now()
	for len(names) < n {
		upTo := min(n, len(names)+stretch)
		last = makeKeys(r.b, k.box, &names, upTo)
		if last.Name = fmt.Sprintf("new-key/up-to-%d", upTo); first.Name == "" {
			first = last
		}
	}
	if n > stretch {
		last.Ratio, last.More = last.CPU/first.CPU, last.P50/first.P50
		r.add(first)
		r.add(last)
		fmt.Fprintf(os.Stderr, "%d keys in %.0f s\n", n, time.Since(began).Seconds())
	}
	bob := k.box.Person("bob")
	k.load = newLoad(r.b, k.box, &bob, names, 1, false)
	return k
}

// makeKeys makes keys until there are n, three lines at the console for each.
func makeKeys(b testing.TB, box *boxtest.Box, names *[]string, n int) figure {
	b.Helper()
	s := sample{cost: serverCost(b, box), keys: n - len(*names)}
	for began := time.Now(); len(*names) < n; {
		name := fmt.Sprintf("k%05d", len(*names))
		makeKey(b, box, hsm.P256, name)
		*names = append(*names, name)
		s.took = append(s.took, time.Since(began))
		began = began.Add(s.took[len(s.took)-1])
		s.wall += s.took[len(s.took)-1]
	}
	s.cost = serverCost(b, box).plus(s.cost, -1)
	return s.figure(b, "", box)
}
