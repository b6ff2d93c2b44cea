package policy

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// The scale that a box must bear.
const (
	scaleSubjects = 1_000_000
	scaleGroups   = 10_000
	scaleRules    = 10_000
	scaleAccess   = 10_000
	scaleKeys     = 100_000
)

func subject(i int) string { return fmt.Sprintf("corp:CN=u%07d,OU=unit%d,O=Example", i, i%100) }

func scaleKey(i int) block.KeyID {
	return sha256.Sum256(binary.BigEndian.AppendUint32([]byte("key"), uint32(i)))
}

// scaled is a definition at that scale: every subject is in one group, every access identifier has ten keys, one of them
// also known by another name, and two lists.
func scaled() Definition {
	d := world(Rules)
	d.Rules, d.Access = nil, nil
	for g := range scaleGroups {
		def := GroupDef{Name: GroupName(fmt.Sprintf("g%d", g))}
		for i := g; i < scaleSubjects; i += scaleGroups {
			def.Members = append(def.Members, subject(i))
		}
		d.Groups = append(d.Groups, def)
	}
	for r := range scaleRules {
		g := r % scaleGroups
		d.Rules = append(d.Rules, RuleDef{RuleName(fmt.Sprintf("r%d", r)), []string{
			fmt.Sprintf(`groups.has("g%d") && source.net("10.0.0.0/8")`, g),
			fmt.Sprintf(`groups.has("g%d") || attributes.has("project", "p%d", "corp-ldap")`, g, g),
			fmt.Sprintf(`groups.has("g%d") && clock.within("Mon-Fri 08:00-18:00 Europe/Berlin")`, g),
			fmt.Sprintf(`groups.has("g%d") && clearance.dominates("secret/crypto")`, g)}[r%4]})
	}
	for a := range scaleAccess {
		def := AccessDef{ID: AccessID(fmt.Sprintf("a%d", a)), Title: fmt.Sprintf("Project %d", a),
			Lists: []string{fmt.Sprintf("r%d", (a+1)%scaleRules), fmt.Sprintf("r%d || (r%d && r%d)", a, (a+2)%scaleRules, (a+3)%scaleRules)}}
		for k := range scaleKeys / scaleAccess {
			def.Keys = append(def.Keys, scaleKey(a*10+k))
		}
		d.Access = append(d.Access, def)
		d.Aliases = append(d.Aliases, KeyAlias{block.ThumbprintRef(scaleKey(a * 10)), def.Keys[0]})
	}
	return d
}

// A sample is a request at random; half of them come from who may.
func sample(b *testing.B, c chooser) Request {
	a := c.IntN(scaleAccess)
	who := c.IntN(scaleSubjects)
	if c.IntN(2) == 0 {
		who = a%scaleGroups + scaleGroups*c.IntN(scaleSubjects/scaleGroups)
	}
	d, err := kra.ParseDecryptor(subject(who))
	if err != nil {
		b.Fatal(err)
	}
	items := []Item{{Kind: Clearance, Value: "secret/crypto,nato", Authority: "corp-aa", Via: Presented, Until: workday().Add(time.Hour)}}
	for i := range 8 {
		items = append(items, Item{Kind: Attribute, Name: "project", Value: fmt.Sprintf("p%d", c.IntN(scaleGroups)), Authority: "corp-ldap", Via: Directory},
			Item{Kind: Group, Name: fmt.Sprintf("unit%d", i), Authority: "corp-ldap", Via: Directory})
	}
	return Request{foreign(b, block.KeyIDRef(scaleKey(a*10+c.IntN(10)))), Facts{Decryptor: d, Source: netip.MustParseAddr("10.1.2.3"), ClockTrusted: true,
		Channel: Authenticated, Information: informationOf(b, items)}}
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// BenchmarkScale says what a book at scale costs and how long decisions take, requests at random: "first" of a book whose
// rules nobody compiled yet; "cold", each request for the first time; "warm", each again; and "flushed", with the
// processor's caches full of something else before each.
func BenchmarkScale(b *testing.B) {
	for b.Loop() {
		empty := heap()
		d := scaled()
		definition := heap() - empty
		began := time.Now()
		book, err := Load(1, Edit{Put: d})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "load-s")
		c := chooser{rand.New(rand.NewPCG(1, 1))}
		requests := make([]Request, 50_000)
		for i := range requests {
			requests[i] = sample(b, c)
		}
		first, _ := decisions(b, book, requests[:1000], nil)
		report(b, "first", first)
		began = time.Now()
		if err := book.Warm(context.Background()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "compile-rules-s")
		cold, granted := decisions(b, book, requests[1000:], nil)
		report(b, "cold", cold)
		if granted < len(cold)/4 || granted > 3*len(cold)/4 {
			b.Fatalf("%d of %d granted", granted, len(cold))
		}
		warm, _ := decisions(b, book, requests[1000:], nil)
		report(b, "warm", warm)
		flushed, _ := decisions(b, book, requests[:500], make([]byte, 128<<20))
		report(b, "flushed", flushed)
		requests = nil
		b.ReportMetric(definition, "definition-MB")
		b.ReportMetric(heap()-empty-definition, "book-MB")
		runtime.KeepAlive(d)
		runtime.KeepAlive(book)
	}
	b.ReportMetric(0, "ns/op") // what all this took together says nothing
}

// decisions measures each decision, and returns how many were granted. flush is written through before each, if there is any.
func decisions(b *testing.B, book *Book, requests []Request, flush []byte) (took []time.Duration, granted int) {
	b.Helper()
	now := workday()
	for _, r := range requests {
		for i := 0; i < len(flush); i += 64 {
			flush[i]++
		}
		began := time.Now()
		_, err := book.Decide(r, now)
		took = append(took, time.Since(began))
		if err == nil {
			granted++
		}
	}
	slices.Sort(took)
	return took, granted
}

func report(b *testing.B, name string, took []time.Duration) {
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(took[len(took)*p/100].Nanoseconds())/1000, fmt.Sprintf("%s-p%d-us", name, p))
	}
}

func TestLoad(t *testing.T) { // a loaded book decides as a compiled one does, and what no longer compiles lets nobody in
	d := world(Rules, "!no", "yes || counsel")
	loaded, err := Load(1, Edit{Put: d})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := facade(t, loaded), facade(t, compile(t, d)); !slices.Equal(a, b) {
		t.Errorf("loaded: %s\ncompiled: %s", a, b)
	}
	d.Rules[1].Expr = `groups.has("gone")` // no
	if loaded, err = Load(1, Edit{Put: d}); err != nil {
		t.Fatal(err)
	}
	if err := loaded.Warm(context.Background()); err != nil {
		t.Error(err)
	}
	tr, err := loaded.Explain("legal-team", facts(t), workday())
	if err != nil || tr.Lists()[0].Outcome != Errored || tr.Rules()[0].Reason != errStale.Error() {
		t.Errorf("%v %v", tr.Rules(), err)
	}
	if _, err := loaded.Revise(2, Edit{Gone: []GroupName{"others"}}); err == nil {
		t.Error("a book goes on with a rule that does not compile")
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := loaded.Warm(ended); err == nil {
		t.Error("Warm goes on when nobody waits")
	}
}
