package admin

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/receipt"
)

const (
	mick     = "mick"
	mickPass = "another horse battery"
	mia      = "corp:CN=mia"
)

// fill are words for every kind of word of a command.
var fill = map[string][]string{"ACCESS": {"legal-team", "new"}, "ACCESSES": {"legal-team"}, "BOX": {"box2"}, "DISK": {"sdb"}, "TITLE": {"Title"}, "LIST": {"office"}, "KEY": {"00112233"}, "KEYS": {"00112233"},
	"DECRYPTOR": {"corp:CN=a", "corp:CN=b", mia}, "ADDRESS": {"10.0.0.1"}, "TIME": {"2026-11-21T09:30:00Z"}, "RULE": {"office", "fresh"}, "EXPRESSION": {"true"},
	"CONDITION": {"legal"}, "GROUP": {"legal", "legal", "board", "fresh"}, "ALIAS": {"corp", "fresh"}, "ANCHOR": {"corp"}, "ROLE": {"teller"},
	"NEEDS": {"group:legal"}, "ITEMS": {"alias:mail=a@b.c@corp"}, "LABEL": {"attended"}, "SECONDS": {"60"}, "KINDS": {"group"}, "LEVELS": {"open closed"}, "LDAPS": {"ldaps://h"}, "HTTPS": {"https://h"},
	"URL": {"http://h"}, "DN": {"dc=x"}, "USER": {"cn=x"}, "FILTER": {"(a=*)"}, "ISSUER": {"i"}, "AUDIENCE": {"a"}, "FIELD": {"f"}, "NAME": {"n"},
	"POLICY": {"1.2.3"}, "MARKS": {"4=secret"}, "NUMBER": {"300"}, "EVERY": {"10m"}, "LIMIT": {"24h"}, "PREFIX": {"10.0.0.1/8"}, "GATEWAY": {"10.0.0.2"}, "DESTINATION": {"10.20.0.0/16"}, "HOSTNAME": {"kra-1"}, "COLLECTOR": {"log.example.org"}, "DNS": {"10.0.0.3"}, "COMMAND": {"key"}, "REQUEST": {"1", "2", "3"}, "TEAM": {"sales"},
	"SERVER": {"time.example.com"}, "RECIPIENTS": {"age1x"}, "OFFICER": {officer, mick, "fresh"}, "COUNT": {"5"}, "INDEX": {"0"}, "SIZE": {"5"}, "ROOT": {strings.Repeat("0a", 32)},
	"PLATFORMS": {"fleet", "fresh"}, "DOMAIN": {"example.org"}, "WORD": {"compute"}, "DIGEST": {strings.Repeat("0123456789abcdef", 4)}}

// filled is a form with words for its places; pick chooses one of so many.
func filled(t *testing.T, form string, pick func(int) int) string {
	t.Helper()
	var words []string
	for w := range strings.FieldsSeq(form) {
		if strings.ToLower(w) != w {
			all := fill[w]
			if len(all) == 0 {
				t.Fatalf("no word for %s", w)
			}
			words = append(words, all[pick(len(all))])
			continue
		}
		choices := strings.Split(w, "|")
		words = append(words, choices[pick(len(choices))])
	}
	return strings.Join(words, " ")
}

// TestEveryCommandHasOneAction: what the grammar knows is executed, each by one entry of the table.
func TestEveryCommandHasOneAction(t *testing.T) {
	used := map[int]bool{}
	for _, form := range console.Forms() {
		c, err := console.Parse(filled(t, form, func(int) int { return 0 }))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for i, a := range actions {
			if a.fits(c) {
				used[i] = true
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s: %d actions", form, n)
		}
	}
	if len(used) != len(actions)-1 { // an empty line is no form
		t.Errorf("%d of %d actions are used", len(used), len(actions))
	}
}

// maintained makes a box with groups, one of which has an officer and a decryptor to maintain it.
func maintained(t *testing.T) (*world, *Maintenance) {
	t.Helper()
	w := enrolled(t)
	w.do("time set "+time.Now().UTC().Format(time.RFC3339), "yes")
	w.do("trust add corp", people(t, "Corp CA"))
	w.do("group add legal corp:CN=a")
	w.do("group add board corp:CN=b")
	w.do("group nest board in legal")
	w.do("group maintainer legal add " + mia)
	w.do("group maintainer board add corp:CN=else")
	w.do("rule add office group legal")
	w.do("access add legal-team")
	w.do("access lists legal-team is office")
	w.do("role add teller needs group:legal")
	w.do("officer add mick maintainer legal", mickPass, mickPass)
	return w, w.NewMaintenance()
}

func (w *world) loginAs(name, pass string) wire.Session {
	w.t.Helper()
	s, err := w.Login(w.t.Context(), wire.Credentials{Officer: name, Passphrase: pass})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// onlyItsGroup fails if two states differ in anything but who is in the group legal, and mick's own passphrase.
func onlyItsGroup(t *testing.T, before, after *store.State, what string) {
	t.Helper()
	d := after.Since(before)
	for _, g := range d.Groups {
		was, _ := before.Group(g)
		is, there := after.Group(g)
		if g != "legal" || !there || !slices.Equal(was.Groups, is.Groups) || !slices.Equal(was.Maintainers, is.Maintainers) {
			t.Fatalf("%s: group %s was %v and is %v", what, g, was, is)
		}
	}
	if n := len(d.Rules) + len(d.Roles) + len(d.Access) + len(d.Sources) + len(d.Anchors) + len(d.Keys) + len(d.Tagged); n > 0 || d.Levels || d.Published {
		t.Fatalf("%s: changed %+v", what, d)
	}
	rest := func(s *store.State) string {
		var officers []store.Officer
		for _, o := range s.Officers() {
			if o.Name == mick {
				o.Hash, o.Given, o.Failures, o.Failed = "", false, 0, time.Time{}
			}
			officers = append(officers, o)
		}
		b, err := json.Marshal([]any{officers, s.Network(), s.Clock(), s.TimeSources(), s.Box(), s.PINs(), s.ReceiptKeys()})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if rest(before) != rest(after) {
		t.Fatalf("%s: something else changed", what)
	}
}

// TestMaintainerChangesOnlyItsGroup: no sequence of a maintainer's console commands and signed statements changes anything
// but who is in the maintainer's group.
func TestMaintainerChangesOnlyItsGroup(t *testing.T) {
	w, m := maintained(t)
	w.session = w.loginAs(mick, mickPass)
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	cert := leafOf(t, key)
	r := rand.New(rand.NewPCG(3, 3))
	forms := console.Forms()
	start := w.store.State()
	asked := len(w.body.asked)
	commands, statements := 0, 0
	answers := [][]string{nil, {"yes"}, {mickPass, mickPass, mickPass}, {people(t, "Other CA")}, {people(t, "Other CA"), "secret"}}
	for range 900 {
		m.own = paces{} // a maintainer has all the time of the world
		before := w.store.State()
		if r.IntN(4) == 0 {
			e := statement(t, r, before, key)
			who := decryptor(t, []string{mia, mia, mia, "corp:CN=a", "corp:CN=stranger"}[r.IntN(5)])
			if _, err := m.Edit(t.Context(), who, cert, e); err == nil {
				statements++
				if who.String() != mia {
					t.Fatalf("%s changed group %s", who, e.Group())
				}
			}
			onlyItsGroup(t, before, w.store.State(), fmt.Sprintf("statement %+v", e))
			continue
		}
		form := forms[r.IntN(len(forms))]
		if r.IntN(3) == 0 {
			form = []string{"group add GROUP DECRYPTOR", "group remove GROUP DECRYPTOR", "group remove GROUP"}[r.IntN(3)]
		}
		line := filled(t, form, r.IntN)
		out, o := w.try(line, answers[r.IntN(len(answers))]...)
		if o.Error == "" && o.Ask == nil {
			commands++
		}
		if strings.Contains(out, "corp:CN=else") {
			t.Fatalf("%s shows another group's maintainer:\n%s", line, out)
		}
		onlyItsGroup(t, before, w.store.State(), line)
		if _, ok := w.who(w.session); !ok {
			w.session = w.loginAs(mick, mickPass)
		}
	}
	if len(w.body.asked) != asked {
		t.Errorf("process 1 was asked for %v", w.body.asked[asked:])
	}
	if commands < 12 || statements < 10 {
		t.Errorf("%d commands and %d statements did something", commands, statements)
	}
	onlyItsGroup(t, start, w.store.State(), "all")
}

// statement is a statement about any group, mostly of its present version.
func statement(t *testing.T, r *rand.Rand, st *store.State, key ed25519.PrivateKey) kra.GroupEdit {
	t.Helper()
	group := []string{"legal", "legal", "legal", "board", "fresh"}[r.IntN(5)]
	g, _ := st.Group(group)
	var add, remove []kra.Decryptor
	for _, name := range []string{"a", "b", "c", "d"} {
		d := decryptor(t, "corp:CN="+name)
		if r.IntN(3) > 0 {
			continue
		}
		if slices.Contains(g.Members, d.String()) != (r.IntN(10) == 0) {
			remove = append(remove, d)
		} else {
			add = append(add, d)
		}
	}
	if len(add)+len(remove) == 0 {
		add = append(add, decryptor(t, fmt.Sprintf("corp:CN=x%d", r.IntN(1000))))
	}
	e, err := kra.SignGroupEdit("example", "box1", group, add, remove, g.Version-uint64(r.IntN(8)/7), key)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func decryptor(t *testing.T, s string) kra.Decryptor {
	t.Helper()
	d, err := kra.ParseDecryptor(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func leafOf(t *testing.T, key ed25519.PrivateKey) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(nil, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestStatements: a statement works once, is in the log as it was signed before it works, and without a log does not work.
func TestStatements(t *testing.T) {
	w, m := maintained(t)
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	cert := leafOf(t, key)
	who := decryptor(t, mia)
	show := func() kra.GroupState {
		g, err := m.Show(who, "legal", "")
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	first := show()
	sign := func(box string, version uint64, add ...string) kra.GroupEdit {
		var all []kra.Decryptor
		for _, s := range add {
			all = append(all, decryptor(t, s))
		}
		e, err := kra.SignGroupEdit("example", box, "legal", all, nil, version, key)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := sign("box1", first.Version, "corp:CN=new", "corp:CN=old")
	got, err := m.Edit(t.Context(), who, cert, e)
	if err != nil || got.Version != first.Version+1 || got.Size != first.Size+2 {
		t.Fatalf("Edit = %+v, %v", got, err)
	}
	if g := show(); strings.Join(g.Members, " ") != "corp:CN=a corp:CN=new corp:CN=old" {
		t.Errorf("members are %q", g.Members)
	}
	if g, err := m.Show(who, "legal", "corp:CN=a"); err != nil || strings.Join(g.Members, " ") != "corp:CN=new corp:CN=old" {
		t.Errorf("after a: %q, %v", g.Members, err)
	}
	w.has("who-am-i corp:CN=new", "legal-team")
	w.has("log show 3", mia, "asked", "done")
	for what, try := range map[string]func() error{
		"the same again": func() error { _, err := m.Edit(t.Context(), who, cert, e); return err },
		"of another box": func() error {
			_, err := m.Edit(t.Context(), who, cert, sign("box2", first.Version+1, "corp:CN=x"))
			return err
		},
		"another's key": func() error {
			_, err := m.Edit(t.Context(), who, leafOf(t, ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", 32)))), sign("box1", first.Version+1, "corp:CN=x"))
			return err
		},
		"by somebody": func() error {
			_, err := m.Edit(t.Context(), decryptor(t, "corp:CN=a"), cert, sign("box1", first.Version+1, "corp:CN=x"))
			return err
		},
		"by nobody": func() error {
			_, err := m.Edit(t.Context(), kra.Decryptor{}, cert, sign("box1", first.Version+1, "corp:CN=x"))
			return err
		},
		"show to another": func() error { _, err := m.Show(decryptor(t, "corp:CN=else"), "legal", ""); return err },
		"show of another": func() error { _, err := m.Show(who, "board", ""); return err },
	} {
		before := w.store.State().Root()
		if err := try(); err == nil || w.store.State().Root() != before {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.do("group remove legal corp:CN=new", "yes")
	w.do("group remove legal corp:CN=old", "yes")
	if _, err := m.Edit(t.Context(), who, cert, e); err == nil {
		t.Error("a statement whose time is over brought members back")
	}
	first.Version += 2
	w.do("group maintainer legal remove "+mia, "yes")
	if _, err := m.Edit(t.Context(), who, cert, sign("box1", first.Version+2, "corp:CN=x")); err == nil {
		t.Error("who maintains no more changed the group")
	}
	w.do("group maintainer legal add " + mia)
	g := show()
	var logged []maintenanceRecord
	head := w.log.Head().Size
	if err := w.log.Records(0, head, func(_ int64, r receipt.Record) error {
		var x maintenanceRecord
		if err := json.Unmarshal(r.Private, &x); err == nil && x.Maintainer != "" && len(x.Statement) > 0 {
			logged = append(logged, x)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(logged) != 1 {
		t.Fatalf("%d statements in the log", len(logged))
	}
	kept, err := kra.ParseGroupEdit(logged[0].Statement)
	if err != nil || kept.Verify("example", "box1", cert) != nil {
		t.Errorf("the log has %s: %v", logged[0].Statement, err)
	}
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	w.closed = true
	before := w.store.State().Root()
	if _, err := m.Edit(context.Background(), who, cert, sign("box1", g.Version, "corp:CN=late")); err == nil || w.store.State().Root() != before {
		t.Errorf("without a log: %v", err)
	}
}

// TestStatementsKeepPace: all maintainers together cannot wear out the TPM, nor one of them use up what there is for all.
func TestStatementsKeepPace(t *testing.T) {
	now := time.Now()
	through := func(step func(time.Time) bool) (n int) {
		for i := range 100 * maxStatements {
			if step(now.Add(time.Duration(i) * time.Second)) {
				n++
			}
		}
		return n
	}
	within := func(what string, n, most int, every time.Duration) {
		t.Helper()
		if most += int(100*maxStatements*time.Second/every) + 1; n > most || n < most-2 {
			t.Errorf("%s: %d statements in %d seconds, want at most %d and no fewer than need be", what, n, 100*maxStatements, most)
		}
	}
	all := (&Agent{}).NewMaintenance()
	within("all", through(all.all.step), maxStatements, statementEvery)
	var p paces
	within("one", through(func(now time.Time) bool { return p.step("a", now) }), maxOwn, ownEvery)
	within("another", through(func(now time.Time) bool { return p.step("b", now) }), maxOwn, ownEvery)
	if p.step("c", now.Add(1000*time.Hour)); len(p.of) != 1 {
		t.Errorf("%d paces are kept, want that of who stated something of late", len(p.of))
	}
}

// TestOneMaintainerKeepsPace: statements that fail count, and beyond the pace nothing is written; another maintainer goes on.
func TestOneMaintainerKeepsPace(t *testing.T) {
	w, m := maintained(t)
	w.do("group maintainer legal add corp:CN=max")
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	cert := leafOf(t, key)
	edit := func(who string, stale uint64) error {
		g, _ := w.store.State().Group("legal")
		e, err := kra.SignGroupEdit("example", "box1", "legal", []kra.Decryptor{decryptor(t, fmt.Sprintf("corp:CN=v%d", g.Version))}, nil, g.Version-stale, key)
		if err != nil {
			t.Fatal(err)
		}
		_, err = m.Edit(t.Context(), decryptor(t, who), cert, e)
		return err
	}
	if err := edit(mia, 0); err != nil {
		t.Fatal(err)
	}
	for i := range maxOwn - 1 {
		if err := edit(mia, 1); err == nil || errors.Is(err, errOwnPace) {
			t.Fatalf("stale statement %d: %v", i, err)
		}
	}
	size := w.log.Head().Size
	for _, stale := range []uint64{0, 1} {
		if err := edit(mia, stale); !errors.Is(err, errOwnPace) {
			t.Errorf("one more than %d: %v, want %v", maxOwn, err, errOwnPace)
		}
	}
	if got := w.log.Head().Size; got != size {
		t.Errorf("%d records of statements beyond the pace", got-size)
	}
	if err := edit("corp:CN=max", 0); err != nil {
		t.Errorf("another maintainer: %v", err)
	}
}
