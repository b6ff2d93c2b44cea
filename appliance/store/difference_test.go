package store

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/label"
)

func TestSinceNamesTheChange(t *testing.T) {
	start, err := Apply(newState(), OfficerAdd{Name: "alice", Hash: "$argon2id$x", Duty: Chief}, RuleAdd{"office", "true"}, RuleAdd{"staff", "true"},
		GroupAdd{"legal", "corp:CN=bob"}, AccessAdd{"legal-team", "Legal"}, AccessAdd{"tax", "Tax"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		changes []Change
		want    Difference
	}{
		"nothing":        {nil, Difference{}},
		"officer":        {[]Change{OfficerAdd{Name: "bob", Hash: "$argon2id$x", Duty: Chief}}, Difference{}},
		"rules":          {[]Change{RuleSet{"staff", "false"}, RuleRemove{"office"}}, Difference{Rules: []string{"office", "staff"}}},
		"group":          {[]Change{GroupAdd{"legal", "corp:CN=carol"}}, Difference{Groups: []string{"legal"}}},
		"lists":          {[]Change{AccessLists{"tax", []string{"staff"}}}, Difference{Access: []kra.AccessID{"tax"}}},
		"title":          {[]Change{AccessTitle{"tax", "Taxes"}}, Difference{Access: []kra.AccessID{"tax"}, Published: true}},
		"added":          {[]Change{AccessAdd{"audit", "Audit"}}, Difference{Access: []kra.AccessID{"audit"}, Published: true}},
		"removed":        {[]Change{AccessRemove{"tax"}}, Difference{Access: []kra.AccessID{"tax"}, Published: true}},
		"come and gone":  {[]Change{GroupAdd{"new", ""}, GroupRemove{"new", ""}}, Difference{}},
		"box's own name": {[]Change{BoxSet{label.Box{Name: "box1"}}}, Difference{Published: true}},
	} {
		next, err := Apply(start, c.changes...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, next.Since(start)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(c.want, start.Since(next)); diff != "" {
			t.Errorf("%s, backwards (-want +got):\n%s", name, diff)
		}
	}
	if d := start.Since(nil); len(d.Rules) != 2 || len(d.Groups) != 1 || len(d.Access) != 2 || !d.Published {
		t.Errorf("since nothing: %+v", d)
	}
	if r := start.Rules(); len(r) != 2 || r[1].Expr != "true" || !slices.Equal(start.Groups()[0].Members, []string{"corp:CN=bob"}) || start.Accesses()[1].Title != "Tax" {
		t.Errorf("the first state was changed: %+v", r)
	}
}
