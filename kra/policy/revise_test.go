package policy

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyrelease/krabox/kra/block"
)

// A repository is a definition that changes at random, with each change as a revision.
type repository struct {
	*rand.Rand
	rules  map[RuleName]RuleDef
	groups map[GroupName]GroupDef
	access map[AccessID]AccessDef
}

func (r repository) definition() (d Definition) {
	for _, x := range r.rules {
		d.Rules = append(d.Rules, x)
	}
	for _, x := range r.groups {
		d.Groups = append(d.Groups, x)
	}
	for _, x := range r.access {
		d.Access = append(d.Access, x)
	}
	return d
}

// change makes some changes, allowed or not.
func (r repository) change() (v Edit) {
	g, rule, id := GroupName(fmt.Sprintf("g%d", r.IntN(3))), RuleName(fmt.Sprintf("r%d", r.IntN(4))), AccessID(fmt.Sprintf("a%d", r.IntN(6)))
	switch r.IntN(6) {
	case 0:
		delete(r.groups, g)
		v.Gone = []GroupName{g}
	case 1:
		members := []string{"corp:CN=alice,O=Example", "corp:CN=bob", "corp:CN=carol"}[r.IntN(3):]
		r.groups[g] = GroupDef{Name: g, Members: members}
		v.Put.Groups = []GroupDef{r.groups[g]}
	case 2:
		delete(r.rules, rule)
		v.Rules = []RuleName{rule}
	case 3:
		r.rules[rule] = RuleDef{rule, []string{"true", "false", `groups.has("` + string(g) + `")`}[r.IntN(3)]}
		v.Put.Rules = []RuleDef{r.rules[rule]}
	case 4:
		delete(r.access, id)
		v.Access = []AccessID{id}
	case 5:
		def := AccessDef{ID: id, Title: fmt.Sprint(r.IntN(2)), Lists: []string{string(rule), "r0 || r1", "!r2"}[r.IntN(3):]}
		for i := range r.IntN(3) {
			def.Keys = append(def.Keys, block.KeyID{byte(10*i + r.IntN(3) + 1)})
		}
		r.access[id] = def
		v.Put.Access = []AccessDef{def}
	}
	return v
}

// facade is all that can be seen of a book.
func facade(t *testing.T, b *Book) (seen []string) {
	f := facts(t)
	for _, a := range b.AllAccess() {
		trace, err := b.Explain(a.ID, f, workday())
		seen = append(seen, fmt.Sprintf("%+v %v %v %v", a, trace.Rules(), trace.Lists(), err))
	}
	for i := range 5 {
		seen = append(seen, fmt.Sprint(b.UsedBy(RuleName(fmt.Sprintf("r%d", i)))))
	}
	for i := range 40 {
		seen = append(seen, fmt.Sprint(b.AccessOf(block.KeyID{byte(i)})))
	}
	return append(seen, fmt.Sprint(b.WhoAmI(f, workday()), b.members, b.lists.Len(), b.byKey.Len()))
}

// However a book came about, it is the book of its definition; and what was one, stays.
func TestReviseIsCompile(t *testing.T) {
	refused, books := 0, map[*Book][]string{}
	for seed := range uint64(40) {
		r := repository{rand.New(rand.NewPCG(seed, 1)), map[RuleName]RuleDef{}, map[GroupName]GroupDef{}, map[AccessID]AccessDef{}}
		var book *Book
		for range 60 {
			before := r.definition()
			v := r.change()
			next, err := book.Revise(2, v)
			want, wantErr := Compile(2, r.definition(), nil)
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("seed %d: Revise: %v; Compile: %v\n%+v", seed, err, wantErr, v)
			}
			if err != nil {
				refused++
				r.take(before)
				continue
			}
			book = next
			books[book] = facade(t, book)
			if diff := cmp.Diff(facade(t, want), books[book]); diff != "" {
				t.Fatalf("seed %d: after %+v (-Compile +Revise):\n%s", seed, v, diff)
			}
		}
	}
	for b, seen := range books {
		if !slices.Equal(facade(t, b), seen) {
			t.Fatal("a book was changed by a successor")
		}
	}
	if refused < 50 || len(books) < 500 {
		t.Errorf("%d books, %d refused: the test tries nothing", len(books), refused)
	}
}

// take goes back to a definition.
func (r repository) take(d Definition) {
	clear(r.rules)
	clear(r.groups)
	clear(r.access)
	for _, x := range d.Rules {
		r.rules[x.Name] = x
	}
	for _, x := range d.Groups {
		r.groups[x.Name] = x
	}
	for _, x := range d.Access {
		r.access[x.ID] = x
	}
}

// TestReviseCostsTheChange: not the book. A change copies a 256th of a few maps.
func TestReviseCostsTheChange(t *testing.T) {
	for _, n := range []int{1000, 100_000} {
		var book *Book
		whole := allocated(func() { book = compile(t, large(n)) })
		i, key := 0, block.KeyID{}
		change := allocated(func() {
			i++
			key = block.KeyID{byte(i)}
			next, err := book.Revise(2, Edit{Put: Definition{Access: []AccessDef{{ID: "access-5", Keys: []block.KeyID{key}, Lists: []string{"r1 && r2"}}}}})
			if err != nil {
				t.Fatal(err)
			}
			if got := next.AccessOf(key); len(got) != 1 || len(book.AccessOf(key)) != 0 {
				t.Fatalf("key is under %v", got)
			}
		})
		t.Logf("%d keys: a change makes %d bytes, the book %d", n, change, whole)
		if n == 100_000 && change > whole/100 {
			t.Errorf("a change of a book of %d keys makes %d bytes, the book %d", n, change, whole)
		}
	}
}

// allocated is how many bytes f makes.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
