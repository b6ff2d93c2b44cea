package admin

import (
	"encoding/base32"
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/account"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra/receipt"
)

// noon is when these tests begin by the box's clock, which is theirs.
var noon = time.Date(2026, 11, 23, 12, 0, 5, 0, time.UTC)

// codes is a box whose clock a test sets, without what wrong log-ins cost.
type codes struct {
	*world
	now time.Time
}

func codesOf(w *world) *codes {
	c := &codes{w, noon}
	c.restart()
	return c
}

// restart is a new agent of the same box: what is not in the store is forgotten.
func (c *codes) restart() {
	c.start()
	c.forgive()
	c.c.Now = func() time.Time { return c.now }
}

// forgive ends what door and account have to wait for.
func (c *codes) forgive() {
	c.door.first, c.door.opens = 0, time.Time{}
	c.began = c.began.Add(-longestWait)
	clear(c.tallies)
}

func (c *codes) tries(pass, code string) error {
	s, err := c.Login(c.t.Context(), wire.Credentials{Officer: officer, Passphrase: pass, Code: code})
	if err == nil {
		c.session = s
	}
	c.forgive()
	return err
}

func (c *codes) admits(what, code string) {
	c.t.Helper()
	if err := c.tries(passphrase, code); err != nil {
		c.t.Errorf("%s: %v", what, err)
	}
}

func (c *codes) refuses(what, pass, code string) {
	c.t.Helper()
	if err := c.tries(pass, code); !errors.Is(err, errNoOfficer) || err.Error() != errNoOfficer.Error() {
		c.t.Errorf("%s: %v; want %v", what, err, errNoOfficer)
	}
}

// kept is what the store has of olga's second factor.
func (c *codes) kept() *store.Codes {
	o, _ := c.store.State().Officer(officer)
	return o.Codes
}

var (
	offeredURI    = regexp.MustCompile(`otpauth://totp/\S+`)
	offeredGroups = regexp.MustCompile(`(?m)^  ((?:[A-Z2-7]{4} ){7}[A-Z2-7]{4})$`)
	recoveryLine  = regexp.MustCompile(`((?:[A-Z2-7]{4} ){2}[A-Z2-7]{4}) / ((?:[A-Z2-7]{4} ){2}[A-Z2-7]{4})`)
)

// readOffer returns the secret that was shown, and wants it three times: in groups, as a URI, and as a QR code of that.
func readOffer(t *testing.T, shown string) []byte {
	t.Helper()
	uri, groups := offeredURI.FindString(shown), offeredGroups.FindStringSubmatch(shown)
	if groups == nil {
		t.Fatalf("no secret in groups of four:\n%s", shown)
	}
	text := strings.ReplaceAll(groups[1], " ", "")
	u, err := url.Parse(uri)
	if err != nil || u.Path != "/box1:olga" || u.Query().Get("secret") != text || u.Query().Get("issuer") != "box1" || len(u.Query()) != 2 {
		t.Fatalf("%q: %v", uri, err)
	}
	symbol, err := console.Symbol(uri, console.Dark)
	if err != nil || !strings.Contains(shown, symbol) {
		t.Fatalf("no QR code of %s, or not whole (%v):\n%s", uri, err, shown)
	}
	secret, err := base32.StdEncoding.DecodeString(text)
	if err != nil || len(secret) != account.SecretSize {
		t.Fatalf("secret of %d bytes: %v", len(secret), err)
	}
	return secret
}

func readRecovery(t *testing.T, shown string) (all []string) {
	t.Helper()
	for _, m := range recoveryLine.FindAllStringSubmatch(shown, -1) {
		all = append(all, m[1:]...)
	}
	if len(all) != account.RecoveryCodes {
		t.Fatalf("%d recovery codes:\n%s", len(all), shown)
	}
	return all
}

// asked runs a line that must ask for a code, and returns how.
func (c *codes) asked(line string, answers ...string) string {
	c.t.Helper()
	out, o := c.try(line, answers...)
	if o.Ask == nil || o.Ask.Kind != wire.Code || o.Error != "" || out != "" {
		c.t.Fatalf("%s asks for no code: %q %+v", line, out, o)
	}
	return o.Ask.Prompt
}

// take has olga take a second factor.
func (c *codes) take() (secret []byte, recovery []string) {
	c.t.Helper()
	secret = readOffer(c.t, c.asked("officer totp", passphrase))
	return secret, readRecovery(c.t, c.do("officer totp", passphrase, account.CodeAt(secret, c.now)))
}

// TestSecondFactor: who has a second factor comes in with passphrase and code and not with either; a code counts once, near its time, also
// after a restart; wrong ones are refused and counted like wrong passphrases; the log says why, and has no code.
func TestSecondFactor(t *testing.T) {
	c := codesOf(enrolled(t))
	c.admits("without a second factor", "")
	c.admits("without a second factor, any code", "123456")
	if c.Banner(t.Context()).Codes {
		t.Error("everybody is asked for a code, and nobody has one")
	}
	secret, _ := c.take()
	c.has("officer list", "TOTP, 10 codes left")
	if !c.Banner(t.Context()).Codes {
		t.Error("nobody is asked for a code")
	}
	code := func(steps int) string { return account.CodeAt(secret, c.now.Add(time.Duration(steps)*account.Step)) }
	c.refuses("no code", passphrase, "")
	c.refuses("the code of the set-up", passphrase, code(0))
	c.refuses("a code of long ago", passphrase, code(-2))
	c.refuses("a code of the future", passphrase, code(2))
	c.refuses("a wrong passphrase", "wrong", code(1))
	c.refuses("nothing", "", "")
	o, _ := c.store.State().Officer(officer)
	if o.Failures != 6 {
		t.Errorf("%d failures in the store, want 6: wrong codes count like wrong passphrases", o.Failures)
	}
	c.admits("the next code", code(1))
	if n := failures(c.world); n != 0 {
		t.Errorf("%d failures in the store after a log-in", n)
	}
	c.refuses("the same code", passphrase, code(1))
	c.refuses("the code before it", passphrase, code(0))
	c.now = c.now.Add(account.Step)
	c.refuses("the same code in its own step", passphrase, code(0))
	c.restart()
	c.refuses("the same code after a restart", passphrase, code(0))
	c.now = c.now.Add(2 * account.Step)
	c.admits("a code of the step before", code(-1))
	c.admits("a fresh code", code(0))
	c.now = c.now.Add(account.Step)
	next := account.CodeAt(secret, c.now)
	c.fail("officer totp off", []string{"000000"}, "no code of yours")
	c.fail("officer totp off", []string{code(-1)}, "no code of yours")
	c.fail("officer totp", nil, "You have a second factor")
	c.fail("officer totp remove olga", []string{"yes"}, "That is yours")
	c.do("officer totp off", next)
	c.restart()
	c.admits("off", "")
	var all strings.Builder
	if err := c.log.Records(0, 0, func(_ int64, r receipt.Record) error { all.Write(append(r.Private, '\n')); return nil }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"detail":"the passphrase is right, the code is not"`, `"detail":"the code is right, the passphrase is not"`, `"detail":"neither passphrase nor code is right"`} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	if s := all.String(); strings.Contains(s, account.SecretText(secret)) || strings.Contains(s, next) || strings.Contains(s, "otpauth") {
		t.Errorf("the log has a secret or a code:\n%s", s)
	}
}

// TestSecondFactorIsTyped: nothing changes before a code of the secret was typed back, in time, in the session that it was shown in.
func TestSecondFactorIsTyped(t *testing.T) {
	c := codesOf(enrolled(t))
	c.admits("at first", "")
	c.fail("officer totp", []string{"wrong"}, "not your passphrase")
	c.forgive()
	c.fail("officer totp", []string{passphrase, "123456"}, "took too long")
	first := readOffer(t, c.asked("officer totp", passphrase))
	second := readOffer(t, c.asked("officer totp", passphrase))
	if string(first) == string(second) {
		t.Error("a secret is shown twice")
	}
	if c.kept() != nil {
		t.Fatal("a secret that was only shown counts")
	}
	old, good := account.CodeAt(first, c.now), account.CodeAt(second, c.now)
	if again := c.asked("officer totp", passphrase, old); offeredURI.MatchString(again) || !strings.Contains(again, "This box has 2026-11-23 12:00:05 UTC") {
		t.Errorf("after a wrong code: %q", again)
	}
	c.asked("officer totp", passphrase, old, "000000")
	here := c.session
	c.session = c.loginAs(officer, passphrase)
	c.fail("officer totp", []string{passphrase, good}, "took too long")
	c.session = here
	c.fail("officer totp", []string{passphrase, good}, "took too long") // another session had a try at it
	third := readOffer(t, c.asked("officer totp", passphrase))
	c.fail("officer totp", []string{passphrase, "1", "2", "3"}, "Nothing was changed")
	c.fail("officer totp", []string{passphrase, account.CodeAt(third, c.now)}, "took too long")
	c.asked("officer totp", passphrase)
	late := c.offers[officer]
	late.until = time.Now()
	c.offers[officer] = late
	c.fail("officer totp", []string{passphrase, account.CodeAt(late.secret, c.now)}, "took too long")
	c.admits("still the passphrase alone", "")
	other := c.session
	c.session = here
	if got := readRecovery(t, c.do("officer totp", passphrase, "1", "2", account.CodeAt(readOffer(t, c.asked("officer totp", passphrase)), c.now))); len(got) != 10 {
		t.Errorf("recovery codes %q", got)
	}
	if _, ok := c.who(other); ok {
		t.Error("a session from before goes on without a code")
	}
	if k := c.kept(); k == nil || k.Last == 0 || len(k.Recovery) != account.RecoveryCodes {
		t.Errorf("kept is %+v", k)
	}
}

// TestRecoveryCodes: each counts once, with the passphrase, whatever the box's clock says, also after a restart and where the disk takes no change.
func TestRecoveryCodes(t *testing.T) {
	c := codesOf(enrolled(t))
	c.admits("at first", "")
	secret, recovery := c.take()
	right := c.now.Add(account.Step)
	c.now = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC) // what a chip without its battery says
	c.restart()
	c.refuses("a code of the right time", passphrase, account.CodeAt(secret, right))
	c.refuses("a code of the set-up, whose step is over for good", passphrase, account.CodeAt(secret, noon))
	c.refuses("a wrong clock's code, of before the last", passphrase, account.CodeAt(secret, c.now))
	c.refuses("a passphrase alone", passphrase, "")
	c.refuses("a recovery code alone", "wrong", recovery[0])
	c.admits("a recovery code", recovery[0])
	c.has("officer list", "TOTP, 9 codes left")
	c.do("time set 2030-11-25T10:00:00Z", "yes")
	c.refuses("a recovery code twice", passphrase, recovery[0])
	c.restart()
	c.refuses("a recovery code twice, after a restart", passphrase, recovery[0])
	c.admits("another, as it is typed", strings.ToLower(strings.ReplaceAll(recovery[1], " ", "")))
	c.refuses("that one again", passphrase, recovery[1])
	c.has("log show 20", "admitted with a recovery code, 8 left")
	c.now = noon.Add(time.Hour)
	c.admits("a code of the right time, once the clock has that", account.CodeAt(secret, c.now))
	o, _ := c.store.State().Officer(officer)
	if u, ok := c.counts(o, recovery[2]); !ok { // as a log-in does whose change the disk does not take
		t.Error("a recovery code that was not used does not count")
	} else {
		c.spend(o, u)
	}
	if _, ok := c.counts(o, recovery[2]); ok {
		t.Error("a recovery code counts twice where the disk takes no change")
	}
	u, ok := c.counts(o, account.CodeAt(secret, c.now.Add(account.Step)))
	if c.spend(o, u); !ok {
		t.Error("the next code does not count")
	}
	if _, ok := c.counts(o, account.CodeAt(secret, c.now.Add(account.Step))); ok {
		t.Error("a code counts twice where the disk takes no change")
	}
	c.do("officer totp off", recovery[3])
	c.admits("off", "")
	c.refuses("off, and a wrong passphrase", "wrong", recovery[4])
}

// TestSpentCodesEndWithTheirSecret: of a secret that an officer takes anew nothing is spent, whatever was of the one before; what is spent of it
// stays so, beside what the store has and after a restart.
func TestSpentCodesEndWithTheirSecret(t *testing.T) {
	c := codesOf(enrolled(t))
	c.admits("at first", "")
	secret, _ := c.take()
	ahead := c.now.Add(account.Step)
	c.do("officer totp off", account.CodeAt(secret, ahead)) // the step of that code is spent, for this secret
	before, _ := c.store.State().Officer(officer)
	secret, recovery := c.take()
	c.admits("the code of that step, of the new secret", account.CodeAt(secret, ahead))
	c.refuses("that code again", passphrase, account.CodeAt(secret, ahead))
	o, _ := c.store.State().Officer(officer)
	u, ok := c.counts(o, recovery[0])
	if c.spend(o, u); !ok { // and the disk does not take it
		t.Fatal("a recovery code of the new secret does not count")
	}
	if u, ok := c.counts(before, ""); !ok || u != (use{}) {
		t.Errorf("who had no second factor is asked for one: %+v", u)
	}
	c.refuses("a recovery code twice", passphrase, recovery[0])
	c.admits("another recovery code", recovery[1])
	c.refuses("the first, after another", passphrase, recovery[0])
	if n := len(c.spent); n != 1 {
		t.Errorf("%d lists of what is spent, of one officer", n)
	}
	c.restart()
	c.refuses("that code, after a restart", passphrase, account.CodeAt(secret, ahead))
	c.refuses("the other recovery code, after a restart", passphrase, recovery[1])
	c.now = ahead.Add(account.Step)
	c.admits("the next code", account.CodeAt(secret, c.now))
}

// TestSecondFactorStays: no way round it but off, with a code, and remove, by two officers; what they approve is that one.
func TestSecondFactorStays(t *testing.T) {
	w := enrolled(t)
	w.do("officer add rita as auditor", dutyPass, dutyPass)
	w.do("officer add paul", paulPass, paulPass)
	c := codesOf(w)
	c.admits("at first", "")
	secret, _ := c.take()
	for _, line := range []string{"officer totp remove olga", "officer remove olga", "officer duty olga auditor"} {
		if o, _ := c.store.State().Officer(officer); o.Codes == nil {
			t.Fatalf("before %q it is gone", line)
		}
		c.try(line, "yes", "yes")
	}
	c.do("officer passphrase", passphrase, "a better passphrase", "a better passphrase")
	c.refuses("a new passphrase alone", "a better passphrase", "")
	c.now = c.now.Add(account.Step)
	if err := c.tries("a better passphrase", account.CodeAt(secret, c.now)); err != nil {
		t.Fatal(err)
	}
	mine := c.session
	c.session = c.loginAs("paul", paulPass)
	paul := c.session
	c.do("officer passphrase", paulPass, paulPass+"2", paulPass+"2")
	c.fail("officer totp remove rita", []string{"yes"}, "has no second factor")
	c.do("officer totp remove olga", "yes")
	if c.kept() == nil {
		t.Fatal("one officer alone took another's second factor away")
	}
	number := c.store.State().LastRequest()
	line := "approve " + itoa(number)
	c.fail(line, []string{"yes"}, "your own")
	c.session = mine // olga gives it up and takes another: that is not what paul asked about
	c.now = c.now.Add(account.Step)
	c.do("officer totp off", account.CodeAt(secret, c.now))
	again := readOffer(t, c.asked("officer totp", "a better passphrase"))
	c.do("officer totp", "a better passphrase", account.CodeAt(again, c.now))
	c.fail(line, []string{"yes"}, "not what it was")
	c.do("reject " + itoa(number))
	c.session = paul
	c.do("officer totp remove olga", "yes")
	shown := c.do("pending show " + itoa(number+1))
	if strings.Contains(shown, account.SecretText(again)) || strings.Contains(shown, c.kept().Recovery[0][:20]) || !strings.Contains(strings.Join(strings.Fields(shown), " "), "codes (hidden) -> nothing") {
		t.Errorf("the request shows\n%s", shown)
	}
	c.session = mine
	c.do("approve "+itoa(number+1), "yes")
	if c.kept() != nil {
		t.Error("two officers did not take it away")
	}
	if _, ok := c.who(mine); ok {
		t.Error("a session goes on whose second factor was taken away")
	}
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

// TestSecondFactorWarns: the officers are told before all of them depend on what they could lose.
func TestSecondFactorWarns(t *testing.T) {
	c := codesOf(enrolled(t))
	c.admits("at first", "")
	secret := readOffer(t, c.asked("officer totp", passphrase))
	if out := c.do("officer totp", passphrase, account.CodeAt(secret, c.now)); !strings.Contains(strings.Join(strings.Fields(out), " "), "WARNING: every officer of this box has a second factor now") {
		t.Errorf("the last officer is not warned:\n%s", out)
	}
	c.do("officer add paul", paulPass, paulPass)
	c.now = c.now.Add(account.Step)
	c.do("officer totp off", account.CodeAt(secret, c.now))
	secret = readOffer(t, c.asked("officer totp", passphrase))
	if out := c.do("officer totp", passphrase, account.CodeAt(secret, c.now)); !strings.Contains(strings.Join(strings.Fields(out), " "), "WARNING: with two officers") {
		t.Errorf("one of two is not warned:\n%s", out)
	}
}

// TestSecondFactorAtTheLine is what an officer sees and types.
func TestSecondFactorAtTheLine(t *testing.T) {
	c := codesOf(enrolled(t))
	p := c.sit()
	p.asks(officer, "passphrase: ")
	p.asks(passphrase, "box1> ")
	p.asks("officer totp", "Your passphrase: ")
	shown := strings.ReplaceAll(p.asks(passphrase, "that the authenticator shows: "), "\r\n", "\n")
	secret := readOffer(t, shown)
	for line := range strings.SplitSeq(shown, "\n") {
		if n := len([]rune(line)); n >= columns+20 { // the URI may take a line and a bit
			t.Errorf("a line of %d columns: %q", n, line)
		}
	}
	p.asks("000000", "Its code: ")
	recovery := readRecovery(t, p.asks(account.CodeAt(secret, c.now), "box1> "))
	p.asks("logout", "officer: ")
	p.asks(officer, "passphrase: ")
	p.asks(passphrase, "code, or nothing if you have no second factor: ")
	c.now = c.now.Add(account.Step)
	code := account.CodeAt(secret, c.now)
	p.asks(code, "box1> ")
	p.asks("logout", "officer: ")
	p.asks(officer, "passphrase: ")
	p.asks(passphrase, "second factor: ")
	p.asks(recovery[7], "box1> ")
	p.asks("officer totp off", "or a recovery code: ")
	p.asks(recovery[7], "no code of yours that counts now.")
	p.asks("officer totp off", "or a recovery code: ")
	p.asks(recovery[8], "your passphrase alone is asked for.")
	p.asks("logout", "officer: ")
	p.asks(officer, "passphrase: ")
	p.asks(passphrase, "box1> ")
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.seen.String(); strings.Contains(s, passphrase) || strings.Count(s, recovery[7]) != 1 || strings.Contains(s, code) {
		t.Error("what was typed was shown")
	}
}

// TestIdentity: what the console says is what the desk has seen, and a telephone takes it.
func TestIdentity(t *testing.T) {
	w := factory(t)
	seen := fingerprint(t, w.do("enrol request"))
	w.enrol()
	w.login()
	out := w.do("system identity")
	for _, part := range []string{seen, "box1", "example"} {
		if !strings.Contains(out, part) {
			t.Errorf("system identity lacks %q:\n%s", part, out)
		}
	}
	p := w.sit()
	p.asks(officer, "passphrase: ")
	p.asks(passphrase, "box1> ")
	p.asks("system identity | include fingerprint | qr", "fingerprint | qr\r\n")
	shown := strings.ReplaceAll(p.expect("box1> "), "\r\n", "\n")
	for line := range strings.SplitSeq(out, "\n") {
		if !strings.Contains(line, "fingerprint") {
			continue
		}
		if symbol, err := console.Symbol(strings.TrimSpace(line), console.Dark); err != nil || shown != symbol+"box1> " {
			t.Errorf("no QR code of %q (%v):\n%s", line, err, shown)
		}
		return
	}
	t.Errorf("no fingerprint:\n%s", out)
}
