package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/boot/disks/diskstest"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// dutyPass is the passphrase of everybody in these tests but olga.
const dutyPass = "one for all of them"

// staffed makes a box with somebody for each duty, by name their duty. Dual control is on.
func staffed(t *testing.T) (*world, map[console.Duty]wire.Session) {
	t.Helper()
	w := enrolled(t)
	w.do("trust add corp", people(t, "Corp CA"))
	w.do("group add legal corp:CN=a")
	w.do("group add board corp:CN=b")
	w.do("rule add office group legal")
	w.do("access add legal-team")
	w.do("access lists legal-team is office")
	w.do("role add teller needs group:legal")
	w.do("board add http://board.example.org")
	w.do("syslog add log.example.org", people(t, "Log CA"))
	w.do("officer add maintainer maintainer legal", dutyPass, dutyPass)
	sessions := map[console.Duty]wire.Session{console.DutyOfficer: w.session}
	for _, d := range []console.Duty{console.DutyOperator, console.DutyAuditor, console.DutyBackup} {
		w.do(fmt.Sprintf("officer add %s as %[1]s", d), dutyPass, dutyPass)
	}
	w.do("officer add team team sales", dutyPass, dutyPass)
	w.do("officer add paul", paulPass, paulPass)
	for _, d := range console.Duties() {
		if _, ok := sessions[d]; !ok {
			sessions[d] = w.loginAs(string(d), dutyPass)
		}
	}
	return w, sessions
}

// denied reports whether a line was refused because of who said it, or because nobody has said it.
func denied(o wire.Outcome) bool {
	return strings.Contains(o.Error, "whose duty is") || strings.Contains(o.Error, "maintains the group") || o.Error == notLoggedIn
}

// A cell is what testdata/matrix.txt says of one form: whose it is, whether it waits for a second officer, and in which states of the
// box it works.
type cell struct{ duties, waits, states string }

// letters of duties and of what waits, as the matrix has them.
var letters = map[console.Duty]string{console.DutyOfficer: "o", console.DutyTeam: "t", console.DutyOperator: "p", console.DutyAuditor: "a", console.DutyBackup: "b", console.DutyMaintainer: "m"}

// inService are the states of a box in which somebody logs in, by their letters in the matrix, each with how to come by such a box and
// sessions of all duties.
var inService = map[string]func(*testing.T) (*world, map[console.Duty]wire.Session){
	"u": staffed,
}

// notInService are the other states.
var notInService = map[string]console.Mode{"f": console.Factory, "l": console.Locked, "m": console.Maintenance, "a": console.Attended}

// readMatrix reads what every command is for, written by hand and apart from the command table.
func readMatrix(t *testing.T) map[string]cell {
	t.Helper()
	text, err := os.ReadFile("testdata/matrix.txt")
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]cell{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		form, rest, ok := strings.Cut(strings.TrimSpace(line), "  ")
		f := strings.Fields(rest)
		if _, twice := m[form]; !ok || len(f) != 3 || twice {
			t.Fatalf("matrix: %q", line)
		}
		m[form] = cell{f[0], f[1], f[2]}
	}
	return m
}

// forms are all forms, with one space between two words.
func forms() (all []string) {
	for _, f := range console.Forms() {
		all = append(all, strings.Join(strings.Fields(f), " "))
	}
	return all
}

// row is what the command table says of a line, as the matrix would.
func row(t *testing.T, line string) (c cell) {
	t.Helper()
	cmd, rights, err := console.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range console.Duties() {
		if rights.Has(d) {
			c.duties += letters[d]
		}
	}
	c.waits = map[bool]string{true: "rules", false: "-"}[rights.Second(true)]
	if rights.Second(false) {
		c.waits = "always"
	}
	c.states = strings.Join(slices.Sorted(maps.Keys(inService)), "")
	for _, s := range slices.Sorted(maps.Keys(notInService)) {
		if console.Allowed(cmd, notInService[s]) {
			c.states += s
		}
	}
	return c
}

// TestEveryCommandForEveryDuty: each form, said by each duty and by nobody, in each state of the box, does what the matrix says of it. A
// command that is not in the matrix fails. What is denied changes nothing; what an auditor may say changes nothing either.
func TestEveryCommandForEveryDuty(t *testing.T) {
	m, seen := readMatrix(t), map[string]bool{}
	for _, form := range forms() {
		is := row(t, filled(t, form, func(int) int { return 0 }))
		want, ok := m[form]
		if seen[form] = true; !ok {
			t.Errorf("matrix.txt does not say whose this is; if it is so, add\n%-78s  %-6s  %-6s  %s", form, is.duties, is.waits, is.states)
		} else if is != want {
			t.Errorf("%s: the command table says %v, the matrix %v", form, is, want)
		}
	}
	for form := range m {
		if !seen[form] {
			t.Errorf("matrix.txt has %q, which is no command", form)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	for state, make := range inService {
		t.Run(state, func(t *testing.T) { everyLine(t, m, state, make) })
	}
	for state, mode := range notInService {
		t.Run(state, func(t *testing.T) { restricted(t, m, state, mode) })
	}
}

// everyLine says every line to a box in service.
func everyLine(t *testing.T, m map[string]cell, state string, make func(*testing.T) (*world, map[console.Duty]wire.Session)) {
	w, sessions := make(t)
	lines, all := 0, forms()
	for _, form := range all {
		line := filled(t, form, func(int) int { return 0 })
		if strings.HasPrefix(form, "logout") {
			continue // everybody's, and it would end the test
		}
		for d, session := range sessions {
			before, asked := w.store.State().Root(), len(w.body.asked)
			w.session = session
			out, o := w.try(line)
			lines++
			if _, ok := w.who(session); !ok {
				t.Fatalf("%s said %q, and is not logged in any more: %+v", d, line, o)
			}
			theirs := strings.Contains(m[form].duties, letters[d])
			if !strings.Contains(m[form].states, state) {
				theirs = false
			}
			if denied(o) == theirs && d != console.DutyMaintainer { // of what is theirs, maintainers have only their group
				t.Errorf("%s says %q: %q, and the matrix says %v", d, line, o.Error, m[form])
			}
			if theirs && d != console.DutyAuditor && !denied(o) {
				continue
			}
			if root := w.store.State().Root(); root != before || len(w.body.asked) != asked || denied(o) && out != "" {
				t.Errorf("%s says %q, which is not theirs to do, and it is done: %q %+v", d, line, out, o)
			}
		}
		for _, nobody := range []wire.Session{"", "AAAA"} {
			before := w.store.State().Root()
			w.session = nobody
			if out, o := w.try(line, "yes", "yes"); o.Error != notLoggedIn || !o.End || out != "" || w.store.State().Root() != before {
				t.Errorf("nobody says %q: %q %+v", line, out, o)
			}
			lines++
		}
	}
	if want := (len(all) - 1) * (len(sessions) + 2); lines != want || len(sessions) != len(letters) || len(letters) != len(console.Duties()) {
		t.Errorf("%d lines were said by %d duties; want %d", lines, len(sessions), want)
	}
}

// restricted: a box that is not in service does for anybody, whatever session he comes with, what the matrix says of its state, and
// nothing else.
func restricted(t *testing.T, m map[string]cell, state string, mode console.Mode) {
	w := factory(t)
	body := &body1{rack: diskstest.New(t)}
	a, err := New(Config{Mode: mode, Reason: "a test", Domain: w.desk.Domain(), TPM: w.tpmd.Client, Machine: body, Health: func() []string { return nil }, Install: w.install,
		Waits: []store.Lock{{Name: "00000000", Threshold: 2}}, Unlock: func(context.Context, [32]byte, Typed) error { t.Error("unlocked"); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	sessions := map[console.Duty]wire.Session{"nobody": ""}
	for _, d := range console.Duties() { // as if the agent had still been in service
		sessions[d] = a.sessions.open(string(d))
	}
	for _, form := range forms() {
		line := filled(t, form, func(int) int { return 0 })
		if strings.HasPrefix(form, "enrol listen") {
			continue // waits for a desk; TestEnrolListen
		}
		for d, session := range sessions {
			var out strings.Builder
			o := a.Do(t.Context(), wire.Request{Line: line, Session: session}, &out)
			if refused := o.Error == a.refusal(); refused == strings.Contains(m[form].states, state) || refused && (out.Len() > 0 || len(body.asked) > 0) {
				t.Errorf("%s, %s: %q: %q %+v", mode, d, line, out.String(), o)
			}
		}
	}
}

// TestWhatWaits holds the table to what has to wait for a second officer, and to what does only if rules do.
func TestWhatWaits(t *testing.T) {
	always := []string{"trust remove corp", "officer add eve", "officer add eve as auditor", "officer add eve maintainer legal", "officer remove eve", "officer totp remove eve",
		"officer duty eve box", "officer duty eve maintainer legal", "officer add eve team sales", "team give sales access a", "key mark 00112233 compromised", "replica admit box2", "replica send all to box2",
		"replica send to box2 legal-team", "time set 2026-11-21T09:30:00Z", "board add http://b.example", "board remove", "platform distrust fleet",
		"source remove crl", "log prune before 5", "syslog add log.example.org", "syslog remove", "backup key shares 2 of 3", "backup key age age1x", "backup restore box1", "backup restore box1 from disk sdb", "dual-control off", "dual-control rules off"}
	rules := []string{"rule add r is true", "rule set r is true", "rule remove r", "access lists a is r", "access keys a 00112233", "access logic a cedar",
		"access logic a rules", "access deliver a anyone", "access portion a part", "access remove a", "key import for a", "role set teller needs group:legal", "levels set",
		"trust add corp", "platform trust fleet own", "platform label fleet attended", "group nest board in legal", "group maintainer legal add corp:CN=a",
		"source add crl c of corp", "source map ldap group from memberOf", "source filter ldap (a=*)", "source renew c"}
	never := []string{"approve 1", "reject 1", "pending", "pending show 1", "dual-control on", "dual-control rules on", "officer passphrase", "officer totp", "officer totp off", "reboot",
		"backup make", "backup make to disk sdb", "backup verify from disk sdb", "backup disks", "backup share", "backup verify", "backup key request", "backup key accept", "group add legal corp:CN=a", "key generate p256 for a", "access add a", "log export", "log exported 5 " + strings.Repeat("0a", 32)}
	for _, line := range slices.Concat(always, rules, never) {
		_, r, err := console.Read(line)
		if err != nil {
			t.Fatal(err)
		}
		if one, both := r.Second(false), r.Second(true); one != slices.Contains(always, line) || both != !slices.Contains(never, line) {
			t.Errorf("%q waits: %v, and if rules do: %v", line, one, both)
		}
		if r.Second(true) && r.Has(console.DutyAuditor) {
			t.Errorf("%q is an auditor's", line)
		}
	}
	if (console.Rights(0)).Has(console.DutyOfficer) || (console.Rights(0xffff)).Has("") {
		t.Error("rights that nobody gave are somebody's")
	}
}

// protected is what takes two officers to change.
func protected(t *testing.T, st *store.State) string {
	t.Helper()
	type officer struct {
		Name, Group string
		Duty        store.Duty
		Codes       bool
	}
	var officers []officer
	for _, o := range st.Officers() {
		officers = append(officers, officer{o.Name, o.Group, o.Duty, o.Codes != nil})
	}
	type lock struct {
		ID    block.KeyID
		State store.KeyState
		Opens bool
	}
	var locks []lock
	for _, k := range st.Keys() {
		locks = append(locks, lock{k.ID, k.State, k.Opens()})
	}
	key, _ := st.BackupKey()
	b, err := json.Marshal([]any{key, officers, st.Anchors(), st.Platforms(), st.Sources(), st.Peers(), st.Clock(), st.TimeSources(), st.Board(), st.Syslog(), st.Control(), st.Rules(),
		st.Roles(), st.Levels(), st.Accesses(), locks})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// locked makes keys for an access identifier, of which two open nothing by the word of two officers: both are suspended, the one has an end that comes soon
// and the other is to be destroyed in a year.
func (w *world) locked(id string, now time.Time) []block.KeyID {
	w.t.Helper()
	for range 3 {
		w.do("key generate p256 for " + id)
	}
	k := w.keysOf(id)[1:]
	_, err := w.store.Commit(w.t.Context(), store.KeyExpire{ID: k[0], At: now.Add(time.Hour)}, store.KeyMark{ID: k[0], State: store.Suspended},
		store.KeyMark{ID: k[1], State: store.Suspended}, store.KeyDoom{ID: k[1], At: now.Add(store.MaxCooling)})
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

// TestOnePersonAlone: whatever one person says, under an officer's account and all others but the second officer's, in whatever
// order, and whatever time does then: nothing that takes two officers is done.
func TestOnePersonAlone(t *testing.T) {
	w, sessions := staffed(t)
	now, trusted := time.Now(), true
	w.at(&now, &trusted)
	keys := w.locked("legal-team", now)
	w.do("dual-control rules on")
	second := nobodysCodes()
	if _, err := w.store.Commit(t.Context(), store.OfficerCodes{Name: paul, Codes: second}); err != nil {
		t.Fatal(err)
	}
	w.session = sessions[console.DutyOfficer]
	r := rand.New(rand.NewPCG(7, 11))
	forms := slices.DeleteFunc(console.Forms(), func(f string) bool {
		return strings.HasPrefix(f, "access add") || strings.HasPrefix(f, "access title") || strings.HasPrefix(f, "key generate") || strings.HasPrefix(f, "key rotate") || // one officer's, and seen in protected
			strings.HasPrefix(f, "source secret")
	})
	dual := []string{"approve REQUEST", "reject REQUEST", "trust remove ALIAS", "officer add OFFICER", "officer remove OFFICER", "officer duty OFFICER box", "officer totp remove OFFICER", "officer totp remove paul",
		"dual-control off", "dual-control rules off", "time set TIME", "rule set RULE is EXPRESSION", "access lists ACCESS is LIST", "board remove", "log prune before INDEX",
		"key mark KEY active|deactivated", "key expire KEY at TIME", "key keep KEY", "key delete KEY"}
	answers := [][]string{nil, {"yes"}, {"yes", "yes"}, {dutyPass, dutyPass}, {dutyPass, dutyPass, "yes"}, {people(t, "Other CA")}, {people(t, "Other CA"), "yes"}}
	duties := []console.Duty{console.DutyOfficer, console.DutyOfficer, console.DutyOfficer, console.DutyOperator, console.DutyBackup, console.DutyAuditor, console.DutyMaintainer}
	want, asked := protected(t, w.store.State()), 0
	for range 1000 {
		form := forms[r.IntN(len(forms))]
		if r.IntN(2) == 0 {
			form = dual[r.IntN(len(dual))]
		}
		line := filled(t, form, r.IntN)
		if n := w.store.State().LastRequest(); strings.Contains(form, "REQUEST") && n > 0 {
			line = strings.Replace(form, "REQUEST", fmt.Sprint(n-uint64(r.IntN(int(min(n, 9))))), 1)
		}
		line = strings.ReplaceAll(line, fill["KEY"][0], short(keys[r.IntN(len(keys))]))
		if strings.HasPrefix(line, "key expire") {
			line = strings.Replace(line, fill["TIME"][0], now.Add(time.Minute).UTC().Format(time.RFC3339), 1)
		}
		if r.IntN(20) == 0 {
			now = now.Add(time.Hour)
			w.tend()
		}
		d, say := duties[r.IntN(len(duties))], answers[r.IntN(len(answers))]
		if waiting := w.store.State().Requests(); r.IntN(5) == 0 && len(waiting) > 0 { // as well as it can be done
			line, say = fmt.Sprintf("approve %d", waiting[r.IntN(len(waiting))].Number), []string{"yes", "yes"}
		}
		if _, ok := w.who(sessions[d]); !ok { // logged out, or the box was restarted
			sessions[d] = w.loginAs(map[bool]string{true: officer, false: string(d)}[d == console.DutyOfficer], map[bool]string{true: passphrase, false: dutyPass}[d == console.DutyOfficer])
		}
		before := w.store.State().LastRequest()
		w.session = sessions[d]
		_, o := w.try(line, say...)
		if w.store.State().LastRequest() > before {
			asked++
		}
		if got := protected(t, w.store.State()); got != want {
			t.Fatalf("%s said %q (%+v), and it is done:\nwas %s\nis  %s", d, line, o, want, got)
		}
		for _, did := range w.body.asked {
			if strings.HasPrefix(did, "clock") {
				t.Fatalf("%s said %q, and the clock was set", d, line)
			}
		}
	}
	if asked < 12 {
		t.Errorf("%d requests were made", asked)
	}
}
