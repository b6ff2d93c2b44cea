package admin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/receipt"
)

const alice = `"corp:CN=Alice Smith,O=Example"`

// TestKeyList: the private-key repository is a table of access identifiers and, for each, its keys.
func TestKeyList(t *testing.T) {
	w := enrolled(t)
	w.has("key list", "There are no access identifiers and no keys.")
	w.do(`access add legal-team "Legal team"`)
	w.do(`access add r-d 'R&D team'`)
	w.has("key list", "legal-team  (no key)")
	for _, line := range []string{"key generate p256 for legal-team", "key generate rsa3072 bound for legal-team", "key generate p256 bound for r-d"} {
		if out := w.do(line); !strings.Contains(out, "It is the current key of") {
			t.Errorf("%s: %s", line, out)
		}
	}
	st := w.store.State()
	legal, _ := st.Access("legal-team")
	rd, _ := st.Access("r-d")
	if len(legal.Keys) != 2 || len(rd.Keys) != 1 || len(st.Keys()) != 3 {
		t.Fatalf("keys: %v %v", legal.Keys, rd.Keys)
	}
	out := w.do("key list")
	want := [][]string{
		{"ACCESS", "KEY", "TYPE", "CUSTODY", "ORIGIN", "STATE"},
		{"legal-team", short(legal.Keys[0]), "rsa-3072", "bound", "generated", "current"},
		{short(legal.Keys[1]), "p256", "replicable", "generated", "old"},
		{"r-d", short(rd.Keys[0]), "p256", "bound", "generated", "current"},
	}
	for i, line := range strings.Split(strings.TrimSpace(out), "\n") {
		if i >= len(want) || strings.Join(strings.Fields(line), " ") != strings.Join(want[i], " ") {
			t.Errorf("key list, line %d: %q", i, line)
		}
	}
	w.has("key show "+short(rd.Keys[0]), rd.Keys[0].String()[:40], "r-d (current)", "CN=r-d", "-----BEGIN CERTIFICATE-----", "-----BEGIN PUBLIC KEY-----")
	w.do("access keys r-d " + short(legal.Keys[0]) + " " + short(rd.Keys[0])) // one key under two identifiers
	if c := w.store.State().Certificate("r-d", legal.Keys[0]); c == nil {
		t.Error("a key that is shared was not certified for its second access identifier")
	}
	w.has("key list", "r-d         "+short(legal.Keys[0]))
	w.fail("key mark "+short(legal.Keys[0])+" compromised", nil, "current key of legal-team, r-d")
	w.do("key mark "+short(legal.Keys[1])+" compromised", "yes")
	w.has("key list", "compromised")
	w.fail("access keys legal-team "+short(legal.Keys[1]), nil, "cannot be current")
	w.fail("access keys r-d 00000000", nil, "There is no key 00000000")
	w.fail("key generate p256 for nobody", nil, "There is no access identifier", "access add nobody")
	w.has("status", "2 access identifiers, 3 keys", "PCR 14", "approval", "hsmd")
	w.do("access remove r-d", "yes")
	w.do("access remove legal-team", "yes")
	w.has("key list", "(none)  "+short(rd.Keys[0]))
}

// TestKeyImport takes the three kinds of keys in the forms they come in, and nothing else.
func TestKeyImport(t *testing.T) {
	w := enrolled(t)
	w.do("access add old-mail")
	r2, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	big, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	armor := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	p8 := func(k any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	w.do("key import for old-mail", armor("PRIVATE KEY", p8(r2)))
	w.do("key import bound for old-mail", armor("EC PRIVATE KEY", sec1))
	id, err := block.KeyIDOf(&r2.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	w.has("key list", short(id)+"  rsa-2048  replicable  imported  old")
	for text, want := range map[string]string{
		"":                              "not one PEM block",
		"nonsense":                      "not one PEM block",
		armor("CERTIFICATE", []byte{1}): "not a private key",
		armor("PRIVATE KEY", []byte{1}): "malformed",
		armor("ENCRYPTED PRIVATE KEY", []byte{1}): "decrypt it first",
		armor("PRIVATE KEY", p8(r2)) + "and more": "not one PEM block",
		armor("PRIVATE KEY", p8(big)):             "",
		armor("PRIVATE KEY", p8(ec)):              "",
	} {
		w.fail("key import for old-mail", []string{text}, want)
	}
	if n := len(w.store.State().Keys()); n != 2 {
		t.Errorf("%d keys after two imports", n)
	}
	var all strings.Builder
	if err := w.log.Records(0, 0, func(_ int64, r receipt.Record) error { all.Write(r.Private); return nil }); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(all.String(), "PRIVATE KEY") {
		t.Error("the log holds a pasted key")
	}
}

// TestKeyIsDestroyedIfNotKept: a key that could not be certified is not left in the token, where nobody would know of it.
func TestKeyIsDestroyedIfNotKept(t *testing.T) {
	w := enrolled(t)
	w.do("access add legal-team")
	w.fault.certify = errors.New("not approved for this label")
	w.fail("key generate p256 for legal-team", nil, "Not approved for this label")
	keys, err := w.fault.List(t.Context())
	if err != nil || len(keys) != 0 || w.fault.destroyed != 1 {
		t.Errorf("the token has %d keys (%v), %d were destroyed", len(keys), err, w.fault.destroyed)
	}
	w.fault.certify = nil
	w.do("key generate p256 for legal-team")
}

// TestRules: rules and lists are compiled before they are committed; a mistake shows its place and changes nothing.
func TestRules(t *testing.T) {
	w := enrolled(t)
	w.do("access add legal-team")
	w.do("trust add corp", people(t, "Example People"))
	w.do("group add legal " + alice)
	w.do(`rule add office when "Mon-Fri 08:00-18:00 Europe/Berlin" from 10.20.0.0/16`)
	w.do(`rule add legal is groups.has("legal")`)
	w.do("access lists legal-team is office && legal")
	w.has("rule list", "office", "legal-team")
	w.has("rule show office", `clock.within("Mon-Fri 08:00-18:00 Europe/Berlin")`, `source.net("10.20.0.0/16")`, "legal-team")

	caret := func(line, text, under string) {
		t.Helper()
		e := w.fail(line, nil, text)
		lines := strings.Split(e, "\n")
		if len(lines) < 3 || !strings.HasPrefix(lines[1][strings.Index(lines[1], "^"):], "^") ||
			!strings.HasPrefix(lines[0][strings.Index(lines[1], "^"):], under) {
			t.Errorf("%s: the caret is not under %q:\n%s", line, under, e)
		}
	}
	caret(`rule add r is groups.hsa("legal")`, "did you mean 'has'", `("legal")`)
	caret(`rule set office when "Mon-Fry 08:00-18:00 Europe/Berlin"`, "", `"Mon-Fry`)
	caret("access lists legal-team is office && nosuch", "unknown rule", "nosuch")
	w.fail("rule add office is true", nil, "exists already")
	w.fail("rule add in is true", nil, "meaning in rules")
	w.fail("rule remove office", []string{"yes"}, "in use by legal-team")
	w.fail("group remove legal", []string{"yes"}, "in use by rule legal")

	monday := "2026-11-23T10:00:00Z"
	w.has("access test legal-team as "+alice+" from 10.20.1.7 at "+monday, "office", "true", "Allowed")
	w.has("access test legal-team as "+alice+" from 10.99.1.7 at "+monday, "office", "false", "Refused")
	w.has("access test legal-team as "+alice+" from 10.20.1.7 at 2026-11-22T10:00:00Z", "Refused")
	w.has("access test legal-team as "+alice+" from 10.20.1.7", "by a clock that is not trusted", "error", "Refused")
	w.has("access test legal-team as corp:CN=Bob from 10.20.1.7 at "+monday, "Refused")
	w.has("access test legal-team for "+alice+" from 10.20.1.7 at "+monday, "For corp:CN=Alice", "leave only to who proves who he is")
	w.do("access deliver legal-team anyone")
	w.has("access test legal-team for "+alice+" from 10.20.1.7 at "+monday, "not bound to the certificate", "Refused") // an address is nobody's
	w.do("access deliver legal-team channel")
	w.has("who-am-i "+alice+" from 10.20.1.7 at "+monday, "legal-team")
	w.has("who-am-i corp:CN=Bob from 10.20.1.7 at "+monday, "belongs to no access identifier")

	w.do(`rule set office is true`) // one change, wherever it is used
	w.has("access test legal-team as "+alice, "Allowed")
	w.do("group remove legal "+alice, "yes")
	w.has("access test legal-team as "+alice, "Refused")
	w.do("access lists legal-team is office ; legal")
	w.has("access show legal-team", "list 1", "list 2")
	w.do("access title legal-team 'Legal team'")
	w.has("access list", "Legal team", "none")
	w.do("access remove legal-team", "yes")
	w.do("rule remove legal", "yes")
	w.do("group remove legal", "yes")
	w.has("group list", "There are no groups")
}

// TestTrust: only certification authorities, and never the domain's own.
func TestTrust(t *testing.T) {
	w := enrolled(t)
	ca := people(t, "Example People")
	w.has("trust list", "No certification authority")
	if out := w.do("trust add corp common", ca); !strings.Contains(out, "SHA-256") {
		t.Errorf("trust add: %s", out)
	}
	w.has("trust list", "corp", "common name", "CN=Example People")
	w.fail("trust add corp", []string{people(t, "Other")}, "taken")
	w.fail("trust add again", []string{ca}, "trusted already")
	root := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.desk.Domain().Root}))
	w.fail("trust add own", []string{root}, "own domain")
	chain, err := w.tpmd.Client.LeafTLS(t.Context(), spki(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, der := range chain {
		w.fail("trust add own", []string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))})
	}
	w.fail("trust add x", []string{"."}, "not one certificate")
	w.fail("trust add x", []string{ca + ca}, "not one certificate")
	w.fail("trust add x", []string{strings.Replace(ca, "CERTIFICATE", "PRIVATE KEY", 2)}, "not one certificate")
	w.do("trust remove corp", "yes")
	w.has("trust list", "No certification authority")
}

func spki(t *testing.T) []byte {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestConfirm: what destroys or interrupts does nothing until yes was typed.
func TestConfirm(t *testing.T) {
	w := enrolled(t)
	w.do("access add legal-team")
	w.do("rule add r is true")
	w.do("group add g corp:CN=a")
	w.do("trust add corp", people(t, "Example People"))
	before := w.store.State().Root()
	w.body.asked = nil
	for _, line := range []string{"access remove legal-team", "rule remove r", "group remove g", "group remove g corp:CN=a", "trust remove corp",
		"time set 2030-01-01T00:00:00Z", "network dhcp", "network static 10.0.0.2/24", "reboot", "poweroff"} {
		_, o := w.try(line)
		if o.Ask == nil || o.Ask.Kind != wire.Confirm {
			t.Errorf("%s asks %+v", line, o)
		}
		for _, answer := range []string{"", "y", "no", "YES", "yes "} {
			if out, o := w.try(line, answer); !strings.Contains(o.Error, "Not confirmed") || out != "" {
				t.Errorf("%s, answered %q: %q %+v", line, answer, out, o)
			}
		}
	}
	if w.store.State().Root() != before || len(w.body.asked) != 0 {
		t.Errorf("something was done: %q", w.body.asked)
	}
}

func TestMachine(t *testing.T) {
	w := enrolled(t)
	w.body.asked = nil
	w.has("time show", "not trusted", "never")
	if _, o := w.try("time set 2030-01-01T00:00:00Z"); o.Ask == nil || !strings.Contains(o.Ask.Prompt, "days ahead of the box's clock") {
		t.Errorf("a far time asks %+v", o.Ask)
	}
	w.fail("time set 2019-01-01T00:00:00Z", nil, "Clock: the year 2019 cannot be")
	w.do("time set 2030-01-01T00:00:00Z", "yes")
	w.has("time show", "trusted, manual", "2030-01-01 00:00:00 UTC, manual")
	w.fail("time set 2029-12-31T23:59:59Z", nil, "does not go back")
	w.do("network static 10.0.0.2/24 gateway 10.0.0.1 dns 9.9.9.9", "yes")
	w.do("network confirm")
	w.has("network show", "static 10.0.0.2/24", "10.0.0.1", "9.9.9.9", "eth0", "52:54:00:12:34:56")
	w.fail("network static 10.0.0.2/24 gateway 10.9.0.1", []string{"yes"}, "not in 10.0.0.0/24")
	w.body.refuse = errors.New("no such port")
	w.fail("network dhcp", []string{"yes"}, "No such port") // not remembered: the box would lose its address at the next boot
	w.fail("time set 2031-01-01T00:00:00Z", []string{"yes"}, "No such port")
	w.body.refuse = nil
	w.do("network dhcp", "yes")
	if _, o := w.try("system maintenance", "no"); len(w.body.asked) != 3 {
		t.Errorf("maintenance that was not confirmed: %+v", o)
	}
	for _, line := range []string{"system maintenance", "poweroff"} {
		if _, o := w.try(line, "yes"); !o.End {
			t.Errorf("%s leaves the session", line)
		}
	}
	want := "clock 2030-01-01 00:00:00 UTC,network static,network dhcp,maintenance,poweroff"
	if got := strings.Join(w.body.asked, ","); got != want {
		t.Errorf("process 1 was asked for %q, want %q", got, want)
	}
}

func TestModes(t *testing.T) {
	w := factory(t)
	for _, line := range []string{"key list", "access add x", "officer list", "log show", "time set 2030-01-01T00:00:00Z", "network dhcp", "logout", "trust add x"} {
		if _, o := w.try(line, "yes"); !strings.Contains(o.Error, "not in service") {
			t.Errorf("factory: %s: %+v", line, o)
		}
	}
	if _, err := w.Login(t.Context(), wire.Credentials{}); err == nil {
		t.Error("somebody logged in to a factory box")
	}
	if b := w.Banner(t.Context()); b.Mode != "factory" || b.Domain != "example" {
		t.Errorf("banner %+v", b)
	}
	w.do("status")
	w.try("enrol install", "nonsense")
	w.become(New(Config{Mode: console.Locked, Reason: "PCR 4 is not what release v1 has", Domain: w.desk.Domain(), TPM: w.tpmd.Client, Machine: w.body,
		Health: func() []string { return nil }}))
	for _, line := range []string{"key list", "enrol request", "log show", "logout", "access add x"} {
		if _, o := w.try(line); !strings.Contains(o.Error, "PCR 4 is not what release v1 has") {
			t.Errorf("locked: %s: %+v", line, o)
		}
	}
	w.has("status", "PCR 4 is not what release v1 has", "locked")
	if b := w.Banner(t.Context()); b.Reason == "" || !strings.Contains(b.Health, "locked") {
		t.Errorf("banner %+v", b)
	}
}

// TestMaintenanceMode: nobody logs in, nothing is shown of the state, the domain's request is printed, and everybody is told what to do.
func TestMaintenanceMode(t *testing.T) {
	w := enrolled(t)
	w.become(New(Config{Mode: console.Maintenance, Reason: "PCR 0 (firmware): expected a, found b", Domain: w.desk.Domain(), TPM: w.tpmd.Client, Machine: w.body,
		Health: func() []string { return nil }}))
	for _, line := range []string{"key list", "log show", "logout", "access add x", "officer list", "system maintenance"} {
		if _, o := w.try(line, "yes"); !strings.Contains(o.Error, "this box is in maintenance: PCR 0 (firmware): expected a, found b") && !strings.Contains(o.Error, "This box is in maintenance: PCR 0 (firmware): expected a, found b") {
			t.Errorf("maintenance: %s: %+v", line, o)
		}
	}
	if _, err := w.Login(t.Context(), wire.Credentials{Officer: officer, Passphrase: passphrase}); err == nil {
		t.Error("somebody logged in to a box in maintenance")
	}
	w.has("status", "maintenance", "PCR 0 (firmware): expected a, found b", "domain firmware approve", "-like")
	w.has("system secrets", "1: state secret", "not counted   what the state holds: it is closed in mode maintenance", "0 of officers")
	if _, err := label.ParseRequest([]byte(pemIn(w.do("enrol request")))); err != nil {
		t.Error(err)
	}
	if out, o := w.try("enrol install", "nonsense"); o.Error == "" {
		t.Errorf("installed nonsense: %s", out)
	}
}

// pemIn is the PEM block in a text.
func pemIn(s string) string {
	i, j := strings.Index(s, "-----BEGIN "), strings.LastIndex(s, "-----\n")
	if i < 0 || j < i {
		return s
	}
	return s[i : j+len("-----\n")]
}

// TestSessions: nothing is done without a session, and sessions end.
func TestSessions(t *testing.T) {
	w := enrolled(t)
	good := w.session
	for _, s := range []wire.Session{"", "x", good + "x", wire.Session(strings.ToLower(string(good)))} {
		w.session = s
		if out, o := w.try("access list"); o.Error != notLoggedIn || !o.End || out != "" {
			t.Errorf("session %q: %q %+v", s, out, o)
		}
		if n := w.Names(t.Context(), s, console.NamesAccess); n != nil {
			t.Errorf("session %q completes %q", s, n)
		}
	}
	w.session = good
	w.do("access list")
	w.do("logout")
	if _, o := w.try("access list"); !o.End {
		t.Error("the session lives on after logout")
	}
	w.login()
	second := w.session
	w.login()
	w.do("officer passphrase", passphrase, "a better passphrase", "a better passphrase")
	w.session, second = second, w.session
	if _, o := w.try("access list"); !o.End {
		t.Error("another session lives on after the passphrase was changed")
	}
	w.session = second
	w.fail("officer passphrase", []string{passphrase, "one two three four", "one two three four"}, "not your present passphrase")
	w.fail("officer passphrase", []string{"a better passphrase", "one two three four", "one two three five"}, "differ")
	w.fail("officer passphrase", []string{"a better passphrase", "short", "short"}, "too short")
	if _, err := w.Login(t.Context(), wire.Credentials{Officer: officer, Passphrase: passphrase}); err == nil {
		t.Error("the old passphrase still works")
	}
}

func TestOfficers(t *testing.T) {
	w := enrolled(t)
	w.fail("officer add olga", nil, "exists already")
	w.fail("officer add otto", []string{"short", "short"}, "too short")
	w.fail("officer add otto", []string{"a long passphrase", "another passphrase"}, "differ")
	w.do("officer add otto", "a long passphrase", "a long passphrase")
	w.has("officer list", "olga", "otto")
	first := w.session
	second, err := w.Login(t.Context(), wire.Credentials{Officer: "otto", Passphrase: "a long passphrase"})
	if err != nil {
		t.Fatal(err)
	}
	w.do("officer remove otto", "yes") // waits for otto
	w.session = second
	w.do("officer passphrase", "a long passphrase", "a longer passphrase", "a longer passphrase")
	w.do("approve 1", "yes")
	if _, o := w.try("status"); !o.End {
		t.Error("a removed officer is still logged in")
	}
	w.session = first
	w.fail("officer remove olga", []string{"yes"}, "the last one")
	w.fail("officer remove otto", nil, "no officer")
	w.do("officer add aud as auditor", "a long passphrase", "a long passphrase")
	w.has("officer list", "auditor")
	w.do("officer duty aud backup", "yes")
	w.has("officer list", "backup")
	w.fail("officer duty olga operator", []string{"yes"}, "the last one")
	w.do("officer remove aud", "yes")
}

// TestFailedLogin: audited without the name of who is nobody, delayed, and remembered beyond a restart.
func TestFailedLogin(t *testing.T) {
	w := factory(t)
	w.enrol()
	begin := time.Now()
	for _, c := range []wire.Credentials{{Officer: officer, Passphrase: "wrong"}, {Officer: "my passphrase by mistake"}} {
		if _, err := w.Login(t.Context(), c); err == nil || !strings.Contains(err.Error(), "not an officer with that passphrase") {
			t.Errorf("Login(%+v) = %v", c, err)
		}
	}
	if took := time.Since(begin); took < 3*time.Second {
		t.Errorf("two wrong passphrases took %s", took)
	}
	w.login()
	var all strings.Builder
	if err := w.log.Records(0, 0, func(_ int64, r receipt.Record) error { all.Write(append(r.Private, '\n')); return nil }); err != nil {
		t.Fatal(err)
	}
	if s := all.String(); strings.Contains(s, "mistake") || !strings.Contains(s, `{"officer":"olga","outcome":"refused"}`) || !strings.Contains(s, `{"outcome":"refused"}`) {
		t.Errorf("the log has %s", s)
	}
	if _, err := w.store.Commit(t.Context(), store.OfficerFailures{Name: officer, Failures: 3}); err != nil {
		t.Fatal(err)
	}
	w.wrong(officer, 4)
	if n := w.store.State().ConsoleFailures(); n != 0 {
		t.Errorf("the console has %d failures in the store after one", n)
	}
	w.door.failures = 3
	w.wrong("nobody", 4)
	if n := w.store.State().ConsoleFailures(); n != 4 {
		t.Errorf("%d failures of the console are in the store, want 4", n)
	}
	w.start()
	if w.door.failures != 4 {
		t.Errorf("after a restart the console has %d failures, want 4", w.door.failures)
	}
	w.door.failures = 0 // not to wait for the door
	if _, err := w.Login(t.Context(), wire.Credentials{Officer: officer, Passphrase: passphrase}); err == nil {
		t.Error("a restart ended what the account has to wait for")
	}
	if n := failures(w); n != 4 {
		t.Errorf("%d failures are in the store after who came too early, want 4", n)
	}
	w.began = w.began.Add(-accountDelay(4))
	clear(w.tallies)
	w.login()
	if n := failures(w) + w.store.State().ConsoleFailures(); n != 0 {
		t.Errorf("%d failures are in the store after a log-in", n)
	}
}

// wrong gives a wrong passphrase, and does not wait for what that costs. The account of olga has n failures then.
func (w *world) wrong(name string, n int) {
	w.t.Helper()
	w.door.opens = time.Time{}
	size := w.log.Head().Size
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error)
	go func() {
		_, err := w.Login(ctx, wire.Credentials{Officer: name, Passphrase: "wrong"})
		ended <- err
	}()
	for deadline := time.Now().Add(20 * time.Second); (w.log.Head().Size == size || failures(w) != n) && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	}
	time.Sleep(100 * time.Millisecond) // until it waits
	cancel()
	if err := <-ended; err == nil {
		w.t.Fatal("wrong passphrase admitted")
	}
	if got := failures(w); got != n {
		w.t.Errorf("%d failures are in the store, want %d", got, n)
	}
}

// TestWrongPassphrasesKeepNobodyOut: however many there were, an account waits for a quarter of an hour at most.
func TestWrongPassphrasesKeepNobodyOut(t *testing.T) {
	for n, want := range map[int]time.Duration{0: 0, 3: 0, 4: 8 * time.Second, 5: 16 * time.Second, 10: 512 * time.Second, 11: longestWait, 12: longestWait, 1 << 40: longestWait} {
		if got := accountDelay(n); got != want {
			t.Errorf("accountDelay(%d) = %s, want %s", n, got, want)
		}
	}
}

func failures(w *world) int {
	o, _ := w.store.State().Officer(officer)
	return o.Failures
}

var _ auditLog = (*audit.Log)(nil)
