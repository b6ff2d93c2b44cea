package admin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/receipt"
)

const (
	paul     = "paul"
	paulPass = "a staple and a battery"
)

// paired makes a box with two officers of it, each with a passphrase of his own.
func paired(t *testing.T) *world {
	t.Helper()
	w := enrolled(t)
	w.do("officer add paul", "what olga typed for him", "what olga typed for him")
	w.as(paul, "what olga typed for him", func() { w.do("officer passphrase", "what olga typed for him", paulPass, paulPass) })
	return w
}

// as runs f in a session of somebody.
func (w *world) as(name, pass string, f func()) {
	w.t.Helper()
	before := w.session
	defer func() { w.session = before }()
	w.session = w.loginAs(name, pass)
	f()
	w.do("logout")
}

// records are the private parts of the log's records that have all the parts.
func (w *world) records(parts ...string) (out []string) {
	w.t.Helper()
	err := w.log.Records(0, 0, func(_ int64, r receipt.Record) error {
		for _, p := range parts {
			if !strings.Contains(string(r.Private), p) {
				return nil
			}
		}
		out = append(out, string(r.Private))
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// TestTwoOfficers types what MANUAL.md says of two officers at a console, into a real agent.
func TestTwoOfficers(t *testing.T) {
	w := enrolled(t)
	p := w.sit()
	p.expect("officer: ")
	p.asks("olga", "passphrase: ")
	p.asks(passphrase, "box1> ")
	p.asks("trust add corp", "It is not shown.")
	p.types(people(t, "Example People"))
	p.expect("Compare the SHA-256")
	p.asks("officer add paul", "New passphrase of paul, at least 12 characters: ")
	p.asks("what olga typed for him", "again: ")
	p.asks("what olga typed for him", "paul should change that passphrase")
	p.asks("trust remove corp", "second officer. Ask for it?")
	p.asks("yes", "Request 1 waits for a second officer until")
	p.asks("approve 1", "Request 1 is your own: another officer has to approve it.")
	p.asks("trust list", "CN=Example People")
	p.asks("logout", "officer: ")
	p.asks("paul", "passphrase: ")
	p.asks("what olga typed for him", "box1> ")
	p.asks("approve 1", "could be you; first: officer")
	p.asks("officer passphrase", "Your present passphrase: ")
	p.asks("what olga typed for him", "at least 12 characters: ")
	p.asks(paulPass, "again: ")
	p.asks(paulPass, "The passphrase was changed.")
	p.asks("pending", "trust remove corp")
	p.asks("pending show 1", "as it was when this was asked")
	p.asks("approve 1", "Type yes to go on: ")
	p.asks("yes", "corp is trusted no longer.")
	p.asks("trust list", "No certification authority of decryptors is trusted.")
	p.asks("approve 1", "There is no request 1")
	p.asks("logout", "officer: ")
	if all := w.records(`"officer":"olga"`, `"line":"trust remove corp"`); len(all) != 4 || !strings.Contains(all[1], `"stage":"waits"`) ||
		!strings.Contains(all[1], `"request":1`) || !strings.Contains(all[3], `"stage":"done"`) || !strings.Contains(all[3], `"approver":"paul"`) {
		t.Errorf("the log has %s", strings.Join(all, "\n"))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Logf("the whole session:\n%s", strings.ReplaceAll(p.seen.String(), "\r", ""))
}

// TestApprovalOfWhatChanged: what a request depends on has to be as it was, and what it asks for is shown as it is.
func TestApprovalOfWhatChanged(t *testing.T) {
	w := paired(t)
	w.do("trust add corp", people(t, "Example People"))
	w.do("trust remove corp", "yes")
	w.do("dual-control rules on")
	w.do("access add legal-team")
	w.do("rule add office is true", "yes")
	w.do("officer add eve as auditor", "a third passphrase", "a third passphrase", "yes")
	w.fail("approve 2", []string{"yes"}, "your own")
	w.as(paul, paulPass, func() {
		w.has("pending", "1  ", "olga", "trust remove corp", "2  ", "rule add office is true", "3  ")
		w.has("pending show 1", "olga", "remove anchor corp", "SHA-256", "as it was")
		w.has("pending show 2", "make rule office: expr true", "as it was")
		w.has("pending show 3", "make officer eve: duty auditor", "hash (hidden)", "only a hash is kept")
		if out := w.do("pending show 3"); strings.Contains(out, "argon2id") {
			t.Errorf("a hash is shown:\n%s", out)
		}
		w.do("approve 1", "yes")
	})
	if len(w.records("a third passphrase")) != 0 {
		t.Error("a passphrase is in the log")
	}
	w.do("trust add corp", people(t, "Others"), "yes") // now a rule
	w.as(paul, paulPass, func() { w.do("approve 4", "yes") })
	w.do("trust remove corp", "yes") // 5
	w.do("trust remove corp", "yes") // 6
	w.as(paul, paulPass, func() { w.do("approve 6", "yes") })
	w.do("trust add corp", people(t, "Example People"), "yes")
	w.as(paul, paulPass, func() {
		w.do("approve 7", "yes")
		w.has("pending show 5", "NOT ANY MORE", "What it depends on is not what it was")
		w.fail("approve 5", []string{"yes"}, "what it depends on is not what it was", "Reject request 5")
		w.do("reject 5")
		w.fail("approve 5", []string{"yes"}, "There is no request 5")
		w.do("approve 3", "yes")
	})
	w.has("trust list", "CN=Example People")
	w.as("eve", "a third passphrase", func() {
		w.has("officer list", "eve", "auditor")
		w.fail("access add other", nil, "whose duty is auditor")
	})
	if all := w.records(`"request":5`, `"stage":"rejected"`, `"approver":"paul"`); len(all) != 1 {
		t.Errorf("rejections in the log: %s", all)
	}
	w.do("officer duty eve operator", "yes") // 8
	w.start()
	w.login() // what waits, waits through a restart
	w.as(paul, paulPass, func() {
		w.has("pending", "8  ", "officer duty eve operator")
		w.do("approve 8", "yes")
	})
	w.has("officer list", "operator")
}

// TestTwoOfficersNotOne: an officer cannot ask under an operator's account for what he then approves.
func TestTwoOfficersNotOne(t *testing.T) {
	w := enrolled(t)
	w.do("officer add opal as operator", dutyPass, dutyPass)
	w.do("officer add paul", paulPass, paulPass)
	w.as("opal", dutyPass, func() {
		w.fail("time set 2036-11-21T09:30:00Z", []string{"yes"}, "takes two officers", "opal is not one")
	})
	w.do("time set 2036-11-21T09:30:00Z", "yes")
	w.as(paul, paulPass, func() { w.do("officer passphrase", paulPass, paulPass+"2", paulPass+"2") })
	w.do("officer duty paul operator", "yes")
	w.as(paul, paulPass+"2", func() { w.do("time set 2036-11-21T09:30:00Z", "yes"); w.do("approve 2", "yes") })
	w.fail("approve 3", []string{"yes"}, "paul is not one") // any more
}

// TestRequestsExpire: nothing is approved after its time, nor by a clock that was put back, and the end is in the log.
func TestRequestsExpire(t *testing.T) {
	w := paired(t)
	now := time.Now()
	w.c.Now = func() time.Time { return now }
	w.do("trust add corp", people(t, "Example People"))
	w.do("trust remove corp", "yes")
	w.as(paul, paulPass, func() {
		w.has("pending", "1  ")
		made := now
		now = made.Add(-time.Second)
		if _, o := w.try("approve 1", "yes"); !strings.Contains(o.Error, "There is no request 1") {
			t.Errorf("approve 1: %+v", o)
		}
		now = made
	})
	if n := len(w.store.State().Requests()); n != 0 {
		t.Fatalf("%d requests wait by a clock that was put back", n)
	}
	w.do("trust remove corp", "yes")
	w.as(paul, paulPass, func() {
		now = now.Add(waitLimit)
		_, o := w.try("approve 2", "yes")
		if !strings.Contains(o.Error, "There is no request 2") {
			t.Errorf("approve 2: %+v", o)
		}
	})
	w.has("trust list", "CN=Example People")
	expired := func(want int) {
		t.Helper()
		if all := w.records(`"stage":"expired"`, `"officer":"olga"`, `"line":"trust remove corp"`); len(all) != want {
			t.Errorf("the log has %s; want %d", all, want)
		}
	}
	expired(2)
	w.do("trust remove corp", "yes")
	if err := w.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	expired(2)
	now = now.Add(waitLimit)
	if err := w.Tend(t.Context()); err != nil { // and nobody does anything
		t.Fatal(err)
	}
	expired(3)
}

// TestDualControlEnds: to end it takes two, and with one officer left it is off.
func TestDualControlEnds(t *testing.T) {
	w := enrolled(t)
	w.has("dual-control show", "not yet")
	w.fail("dual-control on", nil, "so already")
	w.do("officer add aud as auditor", "a long passphrase", "a long passphrase") // one officer: at once
	w.has("dual-control show", "not yet")
	w.do("officer add paul", paulPass, paulPass)
	w.has("dual-control show", "on: ")
	if _, o := w.try("dual-control off", "yes"); o.Error != "" || !w.store.State().Two() {
		t.Fatalf("one officer ended dual control: %+v", o)
	}
	w.as(paul, paulPass, func() {
		w.do("officer passphrase", paulPass, paulPass+"2", paulPass+"2")
		w.do("approve 1", "yes")
	})
	w.has("dual-control show", "off: ")
	w.do("officer remove aud", "yes")
	w.do("dual-control on")
	w.has("dual-control show", "on: ")
	w.do("officer remove paul", "yes")
	w.as(paul, paulPass+"2", func() {
		if _, o := w.try("approve 2"); o.Ask == nil || !strings.Contains(o.Ask.Prompt, "One officer is then left") {
			t.Errorf("approve 2 asks %+v", o.Ask)
		}
		if _, o := w.try("approve 2", wire.Yes); o.Error != "" {
			t.Error(o.Error)
		}
		w.session = w.loginAs(officer, passphrase)
	})
	w.login()
	w.has("dual-control show", "not yet")
	w.do("trust add corp", people(t, "Example People"))
	w.do("trust remove corp", "yes")
}

// tells wants all the parts in what a second officer is shown of a request, however its lines are folded.
func (w *world) tells(number string, parts ...string) {
	w.t.Helper()
	plain := func(text string) string { return strings.Join(strings.Fields(text), "") }
	shown := w.do("pending show " + number)
	for _, p := range parts {
		if !strings.Contains(plain(shown), plain(p)) {
			w.t.Errorf("pending show %s lacks %q:\n%s", number, p, shown)
		}
	}
	if strings.Contains(shown, "Do that?") && !strings.Contains(shown, "would ") && !strings.Contains(shown, "NOT ANY MORE") {
		w.t.Errorf("pending show %s says nothing of what it would do:\n%s", number, shown)
	}
}

// TestApproverSeesKeys: who approves other keys of an access identifier sees which, and whose they are, and approves nothing else.
func TestApproverSeesKeys(t *testing.T) {
	w := paired(t)
	for _, of := range []string{"finance", "legal"} {
		w.do("access add " + of)
		w.do("key generate p256 for " + of)
	}
	current := func(of kra.AccessID) block.KeyID { a, _ := w.store.State().Access(of); return a.Keys[0] }
	ours, theirs := current("legal"), current("finance")
	w.do("dual-control rules on")
	w.do("access keys legal "+short(ours)+" "+short(theirs), "yes") // 1
	w.do("key generate p256 for legal")
	fresh := current("legal")
	w.as(paul, paulPass, func() {
		w.has("pending show 1", "NOT ANY MORE")
		w.fail("approve 1", []string{"yes"}, "what it depends on is not what it was", "Reject request 1")
	})
	w.do("access keys legal "+short(fresh)+" "+short(theirs), "yes") // 2
	w.as(paul, paulPass, func() {
		w.tells("2", "Give legal 2 keys, of which "+short(fresh)+" is the current one?", "Key "+short(theirs)+" is also of finance",
			"Key "+short(ours)+" is no more one of legal", fmt.Sprintf("would change access legal: keys [%s, %s] -> [%s, %s]", fresh, ours, fresh, theirs),
			"as it was when this was asked")
	})
	w.do("access add board")
	w.do("access keys board "+short(theirs), "yes") // 3
	w.as(paul, paulPass, func() { w.do("approve 3", "yes") })
	w.as(paul, paulPass, func() { w.fail("approve 2", []string{"yes"}, "what it depends on is not what it was") }) // the key is the board's, too
	w.do("access keys legal "+short(fresh)+" "+short(theirs), "yes")                                               // 4
	w.as(paul, paulPass, func() { w.do("approve 4", "yes") })
	if a, _ := w.store.State().Access("legal"); !slices.Equal(a.Keys, []block.KeyID{fresh, theirs}) || w.store.State().Certificate("legal", theirs) == nil {
		t.Errorf("legal has %v", a.Keys)
	}
}

// TestRequestsSaySo: whatever waits for a second officer shows what it would change or asks about what it acts upon by name, and is not
// done once that is another. It is tried with what does more than change records, and with some that does no more.
func TestRequestsSaySo(t *testing.T) {
	w := paired(t)
	silent := &step{a: w.Agent, does: action{run: func(s *step, ctx context.Context) error { return s.act(ctx) }}}
	if _, err := silent.dryRun(t.Context()); !errors.Is(err, errUntold) {
		t.Errorf("what says nothing of itself may wait: %v", err)
	}
	w.renewals()
	relock := func(name string) {
		lock := &store.Lock{Name: name, Threshold: 1, Shares: []label.Digest{{1}}}
		if err := w.c.Renew(t.Context(), machine.WithSecret, [32]byte{1}, lock); err != nil {
			t.Fatal(err)
		}
	}
	relock("aaaa-aaaa")
	set := func(at time.Time) {
		if _, err := w.store.Commit(t.Context(), store.ClockSet{Time: at, Source: store.Manual}); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now().Truncate(time.Second)
	set(start)
	cert, _, _ := pastes(t)
	other, _, _ := pastes(t)
	w.do("trust add corp", people(t, "Corp CA"))
	w.do("source add directory ldap may group of corp at ldaps://h base dc=x bind cn=kra,dc=x", cert, hidden)
	w.do("access add legal")
	w.do("access add finance")
	w.do("key generate p256 for finance")
	w.do("key generate p256 for legal")
	w.do("dual-control rules on")
	a, _ := w.store.State().Access("legal")
	f, _ := w.store.State().Access("finance")
	key, theirs := short(a.Keys[0]), short(f.Keys[0])
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	line := func(l string, answers ...string) func() { return func() { w.do(l, answers...) } }
	for _, c := range []struct {
		line    string
		answers []string
		shows   string // beside that it is as it was
		changed func()
	}{
		{"access keys legal " + theirs, nil, "is also of finance", line("access title legal Law")},
		{"key import for legal", []string{pemOf("PRIVATE KEY", der)}, "the current key of legal, in place of " + key, line("access title legal Lawyers")},
		{"access deliver legal anyone", nil, "would change access legal: delivery", line("access title legal Law")},
		{"access remove legal", nil, "Remove legal?", line("access title legal Lawyers")},
		{"source renew ldap", []string{other, hidden}, "would change source ldap: directory", line("source secret ldap", hidden+"-2")},
		{"time set " + start.Add(time.Minute).UTC().Format(time.RFC3339), nil, "Set the clock to the time that is named", func() { set(start.Add(time.Second)) }},
		{"boot attended 2 of 3", nil, "the shares of unlock secret aaaa-aaaa", func() { relock("bbbb-bbbb") }},
		{"boot unattended", nil, "The shares of unlock secret bbbb-bbbb open nothing then", func() { relock("cccc-cccc") }},
		{"zeroize", nil, "finance, legal", line("access add sales")},
		{"source remove ldap", nil, "would remove source ldap", line("source secret ldap", hidden+"-3")},
	} {
		w.do(c.line, append(c.answers, wire.Yes)...)
		number := fmt.Sprint(w.store.State().LastRequest())
		w.as(paul, paulPass, func() {
			w.tells(number, c.shows, "as it was when this was asked")
		})
		c.changed()
		w.as(paul, paulPass, func() {
			w.tells(number, "NOT ANY MORE")
			w.fail("approve "+number, []string{"yes"}, "Nothing was done: ", "Reject request "+number)
			w.do("reject " + number)
		})
	}
}

// TestSecretsWait: a secret that a source is to be presented waits with the request, in the state alone, and is presented afterwards. Who
// approves is asked for none; what an earlier release let wait without one is to be asked for again.
func TestSecretsWait(t *testing.T) {
	w := paired(t)
	w.do("trust add corp", people(t, "Corp CA"))
	w.do("dual-control rules on")
	cert, _, _ := pastes(t)
	other, _, _ := pastes(t)
	third, _, _ := pastes(t)
	const add = "source add directory ldap may group of corp at ldaps://h base dc=x bind cn=kra,dc=x"
	var shown strings.Builder
	approve := func(number string) {
		t.Helper()
		w.as(paul, paulPass, func() {
			shown.WriteString(w.do("pending") + w.do("pending show "+number) + w.do("pending show "+number+" | json"))
			w.has("pending show "+number, "1 secret, kept until this ends and shown to nobody", "(hidden)", "as it was when this was asked")
			_, o := w.try("approve " + number)
			if o.Ask == nil || o.Ask.Kind != wire.Confirm {
				t.Fatalf("approve %s asks %+v", number, o)
			}
			shown.WriteString(o.Ask.Prompt + w.do("approve "+number, "yes"))
		})
	}
	secret := func(alias kra.Anchor) string {
		o, _ := w.store.State().Source(alias)
		return string(secretOf(&o).Bytes())
	}
	w.do(add, cert, hidden, "yes")
	w.has("system secrets", "1: secret of a source that waits for a second officer", "request 1")
	w.start() // and through a restart
	w.login()
	approve("1")
	w.do("source add service pay at https://pay.example.com/kra reserve charge platform", cert, hiddenValue, "yes")
	approve("2")
	w.do("source renew ldap", other, hidden+"-2", "yes")
	approve("3")
	if got := []string{secret("ldap"), secret("pay")}; !slices.Equal(got, []string{hidden + "-2", hiddenValue}) {
		t.Errorf("the sources have %q", got)
	}
	shown.WriteString(w.do("system secrets") + w.private())
	for _, s := range []string{hidden, hiddenValue} {
		if b64 := base64.StdEncoding.EncodeToString([]byte(s)); strings.Contains(shown.String(), s) || strings.Contains(shown.String(), b64) {
			t.Errorf("%q is shown or in the log", s)
		}
	}
	if strings.Contains(w.do("system secrets"), kindAsked.name) {
		t.Error("a secret of a request is there that has ended")
	}

	w.do("source renew ldap", third, hidden, "yes") // 4
	r, _ := w.store.State().Request(4)
	r.Number, r.Secrets = 0, nil // as an earlier release had it
	if _, err := w.store.Commit(t.Context(), store.RequestEnd{Number: 4}, store.RequestAdd{Request: r}); err != nil {
		t.Fatal(err)
	}
	w.as(paul, paulPass, func() {
		w.tells("5", "NOT ANY MORE", "earlier release let it wait, and did not keep its secret")
		_, o := w.try("approve 5")
		if o.Ask != nil || !strings.Contains(o.Error, "Reject request 5, and have it asked for again") {
			t.Errorf("approve 5: %+v %+v", o, o.Ask)
		}
	})
}
