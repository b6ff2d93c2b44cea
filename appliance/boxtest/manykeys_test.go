package boxtest_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

var benchSubjects = flag.Int("subjects", maxSubjects, "subjects of the large box")

const (
	fewKeys    = 10
	coldRounds = 3
	stretch    = 500 // keys whose making is timed together
	groupCount = 60  // groups, each with its rule, that the access identifiers of a box share

	// Subjects come by signed statements, of which a box takes 60 at once, 12 of one maintainer, and then one in five
	// minutes: each is a write to the TPM's NV memory. So many can be there before a benchmark has to wait.
	maintainers = 5
	maxSubjects = groupCount * kra.MaxGroupEdit
)

// A keyed box has n keys, each of an access identifier of its own, and a load for each form of header that asks for them
// at random.
type keyed struct {
	n        int
	subjects int
	box      *boxtest.Box
	names    []string
	loads    map[string]*load // by form
}

func (k *keyed) name(what string) string { return fmt.Sprintf("release/p-256/keys%d/%s", k.n, what) }

// manyKeys compares requests at random among few keys and subjects with the same among many, on two boxes in turns.
func (r *report) manyKeys(n int) {
	r.b.Helper()
	few, many := r.keyed(fewKeys, 0), r.keyed(n, min(*benchSubjects, maxSubjects))
	for _, f := range []form{kraForm, cmsForm, jweForm, tagForm} {
		few.loadOf(r.b, f)
		many.loadOf(r.b, f)
		for _, conns := range []int{1, 64} {
			shape := fmt.Sprintf("%s/warm/c%d", f.name, conns)
			few.loads[f.name].run(r.b, conns, *benchFor/6)
			many.loads[f.name].run(r.b, conns, *benchFor) // touches most keys
			r.versus(shape, few, many, rounds, func(k *keyed) sample {
				return k.loads[f.name].take(r.b, k.box, conns, *benchFor/rounds)
			})
		}
		few.loads[f.name].client.CloseIdleConnections() // one source may have so many
		many.loads[f.name].client.CloseIdleConnections()
	}
	r.versus("kra/cold/c64", few, many, coldRounds, func(k *keyed) sample {
		k.box.Reset()
		l := k.loads[kraForm.name]
		l.url = releaseURL(k.box)
		return l.take(r.b, k.box, 64, *benchFor/rounds)
	})
	fmt.Fprintf(os.Stderr, "keys%d has %d subjects in %d groups, as many as statements bring without waiting; subjects at scale are measured in package policy.\n"+
		"Stock age names a key by a tag that only a trial of each tagged key finds: at most %d keys are tagged, and the goal is not for them.\n", n, many.subjects, groupCount, block.MaxTagged)
}

// loadOf makes the load of a form. Only the first keys of a box are tagged.
func (k *keyed) loadOf(b testing.TB, f form) {
	b.Helper()
	bob, names := k.box.Person("bob"), k.names
	if f.name == tagForm.name {
		names = names[:min(len(names), block.MaxTagged)]
	}
	k.loads[f.name] = newLoadOf(b, k.box, &bob, f, publicKeys(b, k.box, &bob), names, 1, false)
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
	goal := manyGoal
	if strings.HasPrefix(shape, tagForm.name+"/") {
		goal = 0
	}
	name := fmt.Sprintf("keys%d to keys%d, %s", many.n, few.n, shape)
	r.against(name+", cpu", m.Ratio, "x", goal)
	r.against(name+", p50", m.More, "x", goal)
}

// keyed makes a box with n keys at the console, and notes what a key took while there were few and while there were many.
func (r *report) keyed(n, subjects int) *keyed {
	r.b.Helper()
	k := &keyed{n: n, subjects: subjects, box: boxtest.Start(r.b), loads: map[string]*load{}}
	k.box.Trust("corp")
	for g := range groupCount {
		k.box.Do(fmt.Sprintf("group add g%d corp:CN=bob,O=Example", g))
		k.box.Do(fmt.Sprintf("rule add r%d group g%d", g, g))
	}
	var first, last figure
	began := time.Now()
	for len(k.names) < n {
		upTo := min(n, len(k.names)+stretch)
		last = makeKeys(r.b, k.box, &k.names, upTo)
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
	k.enlist(r.b)
	return k
}

// enlist brings the subjects by statements of maintainers, as many into each group.
func (k *keyed) enlist(b testing.TB) {
	b.Helper()
	began, each := time.Now(), k.subjects/groupCount
	if each == 0 {
		return
	}
	for m := range maintainers {
		mia := k.box.Person(fmt.Sprintf("mia%d", m))
		agent := k.box.Agent(&mia)
		for g := m; g < groupCount; g += maintainers {
			k.box.Do(fmt.Sprintf("group maintainer g%d add corp:CN=mia%d,O=Example", g, m))
			var add []kra.Decryptor
			for i := range each {
				d, err := kra.ParseDecryptor(fmt.Sprintf("corp:CN=u%07d,OU=unit%d,O=Example", g*each+i, g))
				if err != nil {
					b.Fatal(err)
				}
				add = append(add, d)
			}
			if _, err := agent.EditGroup(context.Background(), fmt.Sprintf("g%d", g), add, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
	fmt.Fprintf(os.Stderr, "%d subjects in %.0f s\n", each*groupCount, time.Since(began).Seconds())
}

// makeKeys makes keys until there are n, three lines at the console for each.
func makeKeys(b testing.TB, box *boxtest.Box, names *[]string, n int) figure {
	b.Helper()
	s := sample{cost: serverCost(b, box), keys: n - len(*names)}
	for began := time.Now(); len(*names) < n; {
		name := fmt.Sprintf("k%05d", len(*names))
		makeKey(b, box, hsm.P256, name, fmt.Sprintf("r%d", len(*names)%groupCount))
		*names = append(*names, name)
		s.took = append(s.took, time.Since(began))
		began = began.Add(s.took[len(s.took)-1])
		s.wall += s.took[len(s.took)-1]
	}
	s.cost = serverCost(b, box).plus(s.cost, -1)
	return s.figure(b, "", box)
}
