package immutable

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// Every version goes on saying what it said when it was made, whatever its successors do.
func TestVersionsStay(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	type version struct {
		is   Map[int, int]
		want map[int]int
	}
	versions := []version{{want: map[int]int{}}}
	for range 300 {
		last := versions[random.IntN(len(versions))] // often not the newest: two successors of one version
		d, want := last.is.Edit(), maps.Clone(last.want)
		for range random.IntN(20) {
			k := random.IntN(500)
			if random.IntN(3) == 0 {
				d.Delete(k)
				delete(want, k)
			} else {
				v := random.IntN(5)
				d.Put(k, v)
				want[k] = v
			}
		}
		m := d.Map()
		d.Put(1000, 1) // a draft that goes on leaves what it gave away
		versions = append(versions, version{m, want})
	}
	for i, v := range versions {
		if got := maps.Collect(v.is.All()); !maps.Equal(got, v.want) || v.is.Len() != len(v.want) {
			t.Fatalf("version %d has %d entries (Len %d); want %d", i, len(got), v.is.Len(), len(v.want))
		}
		for k, w := range v.want {
			if got, ok := v.is.Get(k); !ok || got != w || v.is.At(k) != w {
				t.Fatalf("version %d: Get(%d) = %d, %v; want %d", i, k, got, ok, w)
			}
		}
		if _, ok := v.is.Get(1000); ok {
			t.Fatalf("version %d has what its draft put later", i)
		}
		o := versions[random.IntN(len(versions))]
		want := []int{}
		for k := range 500 {
			x, inV := v.want[k]
			y, inO := o.want[k]
			if inV != inO || x != y {
				want = append(want, k)
			}
		}
		if got := slices.Sorted(Changed(v.is, o.is)); !slices.Equal(got, want) {
			t.Fatalf("version %d: Changed = %v; want %v", i, got, want)
		}
	}
}

func TestChangedStops(t *testing.T) {
	var m Map[string, int]
	d := m.Edit()
	for i := range 100 {
		d.Put(fmt.Sprint(i), i)
	}
	for _, pair := range [][2]Map[string, int]{{m, d.Map()}, {d.Map(), m}} {
		n := 0
		for range Changed(pair[0], pair[1]) {
			n++
			break
		}
		if n != 1 {
			t.Errorf("yielded %d keys; want 1", n)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	for _, n := range []int{10, 100_000} {
		var m Map[[32]byte, int]
		d := m.Edit()
		for i := range n {
			d.Put([32]byte{byte(i), byte(i >> 8), byte(i >> 16)}, i)
		}
		m = d.Map()
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				n := i % m.Len()
				if _, ok := m.Get([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}); !ok {
					b.Fatal("not there")
				}
			}
		})
	}
}

func BenchmarkPut(b *testing.B) {
	for _, n := range []int{10_000, 1_000_000} {
		var m Map[int, int]
		d := m.Edit()
		for i := range n {
			d.Put(i, i)
		}
		m = d.Map()
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				next := m.Edit()
				next.Put(i%n, 0)
				next.Map()
			}
		})
	}
}
