package admin

import (
	"strings"
	"testing"

	"github.com/keyrelease/krabox/console/wire"
)

// TestTeamDecidesNothingOfOthers: a rule or a group of a team by which something is decided that the team does not have, the team's officer
// does not change, however it is used, and as long as it is.
func TestTeamDecidesNothingOfOthers(t *testing.T) {
	w := teams(t)
	w.do("access add sales")
	w.do("access lists sales is qrule")
	w.do("team give sales access sales")
	w.do("team give sales rule qrule")
	w.do("team give sales group qboard")
	tess := w.loginAs("tess", dutyPass)
	as := func(f func()) {
		before := w.session
		defer func() { w.session = before }()
		w.session = tess
		f()
	}
	refused := func(what string, answers []string, lines ...string) {
		t.Helper()
		as(func() {
			for _, line := range lines {
				if e := w.said(line, answers, "thers "); strings.Contains(strings.ReplaceAll(e, what, ""), "board") || strings.Contains(e, "qlab") {
					t.Errorf("%s tells who: %s", line, e)
				}
			}
		})
	}
	yes := []string{"yes"}
	refused("qrule", nil, "rule set qrule is true")
	refused("qboard", nil, "group add qboard corp:CN=seller", "group maintainer qboard add corp:CN=seller")
	refused("qboard", yes, "group remove qboard corp:CN=boss")
	as(func() {
		w.has("rule show qrule", "sales, others")
		w.said("rule set qrule is true", nil, "Others use the rule qrule too", "make another one", "ask an officer of the box")
		w.do("group add own corp:CN=seller")
		w.do("group add inner corp:CN=seller")
		w.said("group nest own in qboard", nil, "Others use the group qboard too")
		w.do("group nest inner in own")
		w.do("rule add mine group own")
		w.do("access lists sales is mine")
		w.do("rule set mine is true")
		w.do("rule set mine group own")
		w.do("group add inner corp:CN=other")
	})
	if shown := w.do("access test qboard as corp:CN=seller"); strings.Contains(shown, "Allowed") {
		t.Errorf("a team let its own in:\n%s", shown)
	}

	as(func() { w.do("group add lone corp:CN=seller") })
	w.do("group add qaround corp:CN=boss")
	w.do("group nest lone in qaround")
	refused("lone", yes, "group remove lone")

	// What others begin to use afterwards, by each way there is from a group to an access identifier.
	own := func() {
		t.Helper()
		refused("own", nil, "group add own corp:CN=third", "group add inner corp:CN=third")
		refused("own", yes, "group unnest inner from own")
	}
	free := func() {
		t.Helper()
		as(func() {
			w.do("group add inner corp:CN=third")
			w.do("group remove inner corp:CN=third", "yes")
			w.do("group add own corp:CN=third")
			w.do("group remove own corp:CN=third", "yes")
		})
	}
	free()
	w.do("access lists qlab is mine")
	refused("mine", nil, "rule set mine is true")
	own()
	w.do("access lists qlab is qrule")
	as(func() { w.do("rule set mine group own") })
	free()
	for begin, end := range map[string]string{
		`rule add foreign is groups.has("own")`: "rule remove foreign",
		"group nest own in around":              "group unnest own from around",
		"role add crew needs group:own":         "role remove crew",
	} {
		if strings.HasPrefix(begin, "group nest") {
			w.do("group add around corp:CN=boss")
		}
		w.do(begin)
		own()
		as(func() { w.do("rule set mine group own") }) // nobody else uses the rule
		w.do(end, "yes")
		free()
	}
	for _, cedar := range []string{`permit(principal in Group::"own", action, resource);`, `permit(principal, action, resource) when { principal in Rule::"mine" };`} {
		w.do("access logic qlab cedar", cedar)
		own()
		if strings.Contains(cedar, "Rule") {
			refused("mine", nil, "rule set mine is true")
		}
		w.do("access logic qlab rules", "yes")
		free()
	}

	// Whose all of it is may change all of it.
	w.do("team give sales access qboard")
	w.do("access lists qlab is mine && mine")
	w.do("team give sales access qlab")
	as(func() {
		w.do("rule set qrule is true")
		w.do("rule set mine is true")
		w.do("group add qboard corp:CN=seller")
	})
}

// said is fail, of an error whose lines are joined.
func (w *world) said(line string, answers []string, parts ...string) string {
	w.t.Helper()
	e := strings.Join(strings.Fields(w.fail(line, answers)), " ")
	for _, p := range parts {
		if !strings.Contains(e, p) {
			w.t.Errorf("%s: error %q, want %q", line, e, p)
		}
	}
	return e
}

// TestTeamGiveNamesTheOthers: who gives a team something, and who approves it, is told what else depends on it; another officer of the box
// who makes it more does not find it approved.
func TestTeamGiveNamesTheOthers(t *testing.T) {
	w := teams(t)
	flat := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	w.do("officer add paul", paulPass, paulPass)
	asks := func(line string, wants ...string) {
		t.Helper()
		_, o := w.try(line)
		if o.Ask == nil || o.Ask.Kind != wire.Confirm {
			t.Fatalf("%s: %+v", line, o)
		}
		for _, want := range wants {
			if !strings.Contains(flat(o.Ask.Prompt), want) {
				t.Errorf("%s asks %q, want %q", line, o.Ask.Prompt, want)
			}
		}
		w.do(line, "yes")
	}
	w.as("paul", paulPass, func() { w.do("officer passphrase", paulPass, paulPass+"2", paulPass+"2") })
	asks("team give sales rule qrule", "used by what the team has not: access qboard.", "only officers of the box can change it") // 1
	asks("team give sales group qboard", "used by what the team has not: access qboard, rule qrule.")                             // 2
	w.do("access lists qlab is qrule")
	w.as("paul", paulPass+"2", func() {
		w.fail("approve 1", []string{"yes"}, "not what it was")
		w.do("reject 1")
	})
	asks("team give sales rule qrule", "access qboard, access qlab.") // 3
	w.as("paul", paulPass+"2", func() {
		if shown := flat(w.do("approve 3", "yes")); !strings.Contains(shown, "used by what the team has not: access qboard, access qlab.") {
			t.Errorf("approve says:\n%s", shown)
		}
	})
	asks("team free rule qrule", "used by what teams have: access qlab.")
}
