package admin

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
)

// teams makes a box with two teams, each with an officer, and things of the box's own. Only what is not the team's of sales has
// a q in its name.
func teams(t *testing.T) *world {
	t.Helper()
	w := enrolled(t)
	w.do("trust add corp", people(t, "Corp CA"))
	w.do("access add qboard 'The board'")
	w.do("key generate p256 for qboard")
	w.do("group add qboard corp:CN=boss")
	w.do(`rule add qrule is groups.has("qboard")`)
	w.do("access lists qboard is qrule")
	w.do("officer add rita team qresearch", dutyPass, dutyPass)
	w.do("officer add tess team sales", dutyPass, dutyPass)
	w.as("rita", dutyPass, func() {
		w.do("access add qlab")
		w.do("key generate p256 for qlab")
	})
	return w
}

// TestTeams: an officer of a team has what the team has, and nothing else is there for her.
func TestTeams(t *testing.T) {
	w := teams(t)
	w.as("tess", dutyPass, func() {
		w.has("access list", "There are no access identifiers")
		w.has("key list", "no keys")
		w.has("rule list", "There are no rules")
		w.has("group list", "There are no groups")
		w.do("access add sales 'Sales'")
		w.do("key generate p256 for sales")
		w.do("group add sales corp:CN=seller")
		w.do("rule add sellers group sales")
		w.do("access lists sales is sellers")
		w.has("access list", "sales")
		w.has("access test sales as corp:CN=seller", "Allowed")
		w.has("who-am-i corp:CN=boss", "belongs to no access identifier")
		qkey := ""
		for _, k := range w.store.State().Keys() {
			if a, _ := w.store.State().Access("qboard"); k.ID == a.Keys[0] {
				qkey = short(k.ID)
			}
		}
		for line, nothing := range map[string]string{ // what is another's, and what is not there: the same is said
			"access show qboard": "access show absent", "access title qboard x": "access title absent x", "access lists qboard is sellers": "access lists absent is sellers",
			"access lists sales is qrule": "access lists sales is absent", `rule add r is groups.has("qboard")`: `rule add r is groups.has("absent")`,
			"rule show qrule": "rule show absent", "rule set qrule is true": "rule set absent is true", "rule remove qrule": "rule remove absent",
			"group show qboard": "group show absent", "group remove qboard": "group remove absent", "group nest qboard in sales": "group nest absent in sales",
			"access test qboard as corp:CN=boss": "access test absent as corp:CN=boss", "key generate p256 for qboard": "key generate p256 for absent",
			"key show " + qkey: "key show 0011223344556677", "key mark " + qkey + " compromised": "key mark 0011223344556677 compromised",
			"access keys sales " + qkey: "access keys sales 0011223344556677",
		} {
			plain := func(s string) string {
				for _, name := range []string{"qboard", "qrule", qkey, "0011223344556677"} {
					s = strings.ReplaceAll(s, name, "absent")
				}
				s = strings.Join(strings.Fields(strings.ReplaceAll(s, "^", "")), " ")
				return s
			}
			if a, b := plain(w.fail(line, []string{"yes"})), plain(w.fail(nothing, []string{"yes"})); a != b {
				t.Errorf("%s: %q\n%s: %q", line, a, nothing, b)
			}
		}
		for _, line := range []string{"access add qboard", "rule add qrule is true", "group add qboard corp:CN=tess"} { // names are the box's
			w.fail(line, nil, "The name is taken")
		}
		for _, line := range []string{"trust list", "trust remove corp", "status", "log show", "officer list", "team list", "reboot", "time show"} {
			w.fail(line, []string{"yes"}, "whose duty is officer of team sales")
		}
		if n := w.Names(t.Context(), w.session, console.NamesAccess); !slices.Equal(n, []string{"sales"}) {
			t.Errorf("access completes %q", n)
		}
	})
	w.has("access list", "qboard", "qlab", "sales")
	w.has("team list", "qresearch", "rita", "access qlab", "sales", "group sales", "rule sellers")
	w.do("access keys qboard " + short(w.store.State().Accesses()[2].Keys[0]) + " " + short(w.store.State().Accesses()[0].Keys[0])) // a key of two
	w.as("tess", dutyPass, func() {
		key := short(w.store.State().Accesses()[2].Keys[0])
		w.do("key generate p256 for sales")
		w.fail("key mark "+key+" deactivated", []string{"yes"})
		w.fail("key untag "+key, []string{"yes"}, "others depend on it")
		w.do("access lists sales is sellers && sellers")
	})
	w.do("team give qresearch access sales")
	w.as("tess", dutyPass, func() { w.has("access list", "There are no access identifiers") })
	w.as("rita", dutyPass, func() { w.has("access list", "qlab", "sales") })
	w.do("team free access sales")
	w.fail("team free access sales", nil, "so already")
	w.do("access remove qlab", "yes")
	w.do("access add qlab") // another of that name
	w.as("rita", dutyPass, func() { w.has("access list", "There are no access identifiers") })
}

// foreign is what of a state is not of the team sales.
func foreign(t *testing.T, st *store.State) string {
	t.Helper()
	of := map[store.Thing]func(name string) bool{}
	for _, x := range []store.Thing{store.ThingAccess, store.ThingRule, store.ThingGroup} {
		of[x] = func(name string) bool { return st.TeamOf(x, name) == "sales" }
	}
	access := slices.DeleteFunc(st.Accesses(), func(a store.Access) bool { return of[store.ThingAccess](string(a.ID)) })
	var keys []store.Key
	for _, a := range access {
		for _, id := range a.Keys {
			k, _ := st.Key(id)
			k.Names = nil
			keys = append(keys, k)
		}
	}
	var officers []string
	for _, o := range st.Officers() {
		officers = append(officers, o.Name, string(o.Duty), o.Team)
	}
	b, err := json.Marshal([]any{access, keys, officers, slices.DeleteFunc(st.Rules(), func(r store.Rule) bool { return of[store.ThingRule](r.Name) }),
		slices.DeleteFunc(st.Groups(), func(g store.Group) bool { return of[store.ThingGroup](g.Name) }), st.Anchors(), st.Roles(), st.Sources(), st.Control(), st.Clock(), st.Board()})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestTeamKeepsToItself: whatever an officer of a team says, nothing of others changes, and nothing of them is shown.
func TestTeamKeepsToItself(t *testing.T) {
	w := teams(t)
	w.session = w.loginAs("tess", dutyPass)
	r := rand.New(rand.NewPCG(5, 9))
	forms := slices.DeleteFunc(console.Forms(), func(f string) bool {
		_, rights, err := console.Read(filled(t, f, func(int) int { return 0 }))
		return err != nil || !rights.Has(console.DutyTeam) || strings.HasPrefix(f, "help") || strings.HasPrefix(f, "logout")
	})
	words := map[string][]string{"ACCESS": {"qboard", "qlab", "sales", "shop"}, "RULE": {"qrule", "sellers", "buyers"}, "GROUP": {"qboard", "sales", "shop"},
		"LIST": {"sellers", "qrule", "buyers"}, "EXPRESSION": {"true", `groups.has("qboard")`, `groups.has("sales")`}, "CONDITION": {"qboard", "sales"}}
	want, done := foreign(t, w.store.State()), 0
	for range 500 {
		form := forms[r.IntN(len(forms))]
		for kind, choice := range words {
			form = strings.ReplaceAll(form+" ", " "+kind+" ", " "+choice[r.IntN(len(choice))]+" ")
		}
		if keys := w.store.State().Keys(); true {
			for _, kind := range []string{" KEY ", " KEYS "} {
				form = strings.ReplaceAll(form, kind, " "+short(keys[r.IntN(len(keys))].ID)+" ")
			}
		}
		line := filled(t, form, r.IntN)
		out, o := w.try(line, [][]string{nil, {"yes"}, {"yes", "yes"}}[r.IntN(3)]...)
		if o.Error == "" && o.Ask == nil {
			done++
		}
		for _, name := range []string{"qboard", "qlab", "qrule", "qresearch", "rita", "boss"} {
			own := slices.ContainsFunc(w.store.State().View("sales").Rules(), func(r store.Rule) bool { return strings.Contains(r.Expr, name) }) // she wrote it herself
			if !strings.Contains(line, name) && !own && strings.Contains(out+o.Error, name) {
				t.Fatalf("%s shows %s:\n%s%s", line, name, out, o.Error)
			}
		}
		if got := foreign(t, w.store.State()); got != want {
			t.Fatalf("%s (%+v):\nwas %s\nis  %s", line, o, want, got)
		}
	}
	if done < 60 {
		t.Errorf("%d commands did something", done)
	}
}
