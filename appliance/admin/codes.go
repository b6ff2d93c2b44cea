package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/account"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
)

// A second factor is a code of RFC 6238, judged by the box's clock as it is, trusted or not, or one of ten recovery codes, which ask no clock:
// with them an officer comes in whose telephone is lost, or whose box has forgotten the time and waits for time set. A passphrase alone is
// never enough for who has one.
//
//	none --officer totp--> offered --its code is typed back--> asked for at each log-in --off, with a code; remove, by two officers--> none
//	                          '--not in time, another session, or begun again--> none

// offerLasts is how long a secret that was shown waits for its first code, and codeTries how often that may be wrong.
const (
	offerLasts = 10 * time.Minute
	codeTries  = 3
)

// An offer is a secret that an officer was shown and has not proven to have.
type offer struct {
	session wire.Session
	secret  []byte
	until   time.Time // with its monotonic part: the box's clock may be set meanwhile
}

func (x offer) waits() bool { return time.Now().Before(x.until) }

// A use is the code that an officer gave, before it counts no more. The zero use is of somebody without a second factor.
type use struct {
	step     uint64
	recovery string // its hash
}

// change has the code count no more; nil if there is none.
func (u use) change(name string) store.Change {
	if u == (use{}) {
		return nil
	}
	return store.OfficerCodeUsed{Name: name, Step: u.step, Recovery: u.recovery}
}

// nobodysCodes are checked for who has no second factor, so that it takes as long.
func nobodysCodes() store.Codes {
	secret := account.NewSecret()
	_, hashes := account.NewRecovery(secret)
	return store.Codes{Secret: store.NewSecret(secret), Recovery: hashes}
}

// counts reports whether typed is a code of the officer's that counts now, or whether there is no code to ask for. Those inside the door call it.
func (a *Agent) counts(o store.Officer, typed string) (u use, ok bool) {
	codes := a.noCodes
	if o.Codes != nil {
		codes = *o.Codes
	}
	secret := codes.Secret.Bytes()
	defer clear(secret)
	spent := a.spentOf(o.Name, secretHash(secret))
	step, code := account.CheckCode(secret, max(codes.Last, spent.step), a.now(), typed)
	hash, recovery := account.CheckRecovery(secret, codes.Recovery, typed)
	switch {
	case o.Codes == nil:
		return use{}, true
	case code:
		return use{step: step}, true
	case recovery && !slices.Contains(spent.recovery, hash):
		return use{recovery: hash}, true
	}
	return use{}, false
}

// A spending is what an officer has used in this agent's life of the codes of one secret: a disk that takes no change keeps nobody out, and
// lets no code count twice. Of another secret nothing is spent.
type spending struct {
	of       [32]byte // secretHash
	step     uint64
	recovery []string
}

func secretHash(secret []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte("kra/spent/v1\x00"))
	h.Write(secret)
	return [32]byte(h.Sum(nil))
}

// spentOf returns what was spent of the secret that has this hash.
func (a *Agent) spentOf(name string, of [32]byte) spending {
	if s, ok := a.spent[name]; ok && s.of == of {
		return s
	}
	return spending{of: of}
}

// spend notes a use of an officer's codes, before it is in the store. Those inside the door call it.
func (a *Agent) spend(o store.Officer, u use) {
	secret := o.Codes.Secret.Bytes()
	defer clear(secret)
	s := a.spentOf(o.Name, secretHash(secret))
	s.step = max(s.step, u.step)
	if u.recovery != "" {
		s.recovery = append(s.recovery, u.recovery)
	}
	a.spent[o.Name] = s
}

// myself is the officer whose command it is, as the state has them now.
func (s *step) myself() (store.Officer, bool) { return s.a.c.Store.State().Officer(s.officer.Name) }

func (s *step) officerCodes(ctx context.Context) error {
	o, known := s.myself()
	if o.Codes != nil {
		return errors.New("you have a second factor; first: officer totp off")
	}
	if err := account.Computes(); err != nil {
		return err
	}
	pass, err := s.next(wire.Secret, "Your passphrase:")
	if err != nil {
		return err
	}
	err = s.pass(ctx, o, func() error {
		if !s.a.passes(o, known, pass) {
			return errors.New("that is not your passphrase")
		}
		return nil
	})
	if err != nil {
		return err
	}
	secret, step, err := s.offered()
	if err != nil {
		return err
	}
	codes, hashes := account.NewRecovery(secret)
	taken := store.Codes{Secret: store.NewSecret(secret), Last: step, Recovery: hashes}
	if err := s.commit(ctx, store.OfficerCodes{Name: o.Name, Codes: taken}); err != nil {
		return err
	}
	delete(s.a.offers, o.Name)
	s.a.sessions.endOf(o.Name, s.session)
	return s.codesTaken(codes)
}

// offered shows the officer a fresh secret, and returns it with the step of its code once that was typed back.
func (s *step) offered() (secret []byte, step uint64, err error) {
	name := s.officer.Name
	if len(s.answers) == 0 {
		s.a.offers[name] = offer{s.session, account.NewSecret(), time.Now().Add(offerLasts)}
	}
	x, ok := s.a.offers[name]
	if !ok || x.session != s.session || !x.waits() {
		delete(s.a.offers, name)
		return nil, 0, errors.New("that took too long; nothing was changed. Begin again: officer totp")
	}
	prompt, err := s.offer(x.secret)
	for range codeTries {
		if err != nil {
			return nil, 0, err
		}
		var typed string
		if typed, err = s.next(wire.Code, prompt); err != nil {
			return nil, 0, err
		}
		if step, ok := account.CheckCode(x.secret, 0, s.a.now(), typed); ok {
			return x.secret, step, nil
		}
		prompt = fmt.Sprintf("That is not its code. This box has %s; is the authenticator's clock right?\nIts code:", stamp(s.a.now()))
	}
	delete(s.a.offers, name)
	return nil, 0, errors.New("nothing was changed. An authenticator needs the time that this box has: time show")
}

// offer is how a secret is shown: in groups, as a URI, and as a QR code of that.
func (s *step) offer(secret []byte) (string, error) {
	box, text := s.state().Box().Name, account.SecretText(secret)
	query := url.Values{"secret": {text}, "issuer": {box}}.Encode()
	uri := (&url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + box + ":" + s.officer.Name, RawQuery: query}).String()
	symbol, err := console.Symbol(uri, console.Dark)
	if err != nil { // of long names: the other forms say the same
		symbol = ""
	}
	return fmt.Sprintf("Give this secret to an authenticator (TOTP: SHA-1, 6 digits, 30 s). It is shown once.\n\n  %s\n\n  %s\n\n%s\n"+
		"Nothing has changed yet. Type the code that the authenticator shows:", account.Grouped(text), uri, symbol), nil
}

// codesTaken shows the recovery codes, once.
func (s *step) codesTaken(codes []string) error {
	s.say("From now on your log-in asks for a code besides your passphrase. Your other sessions were ended.")
	s.say("Recovery codes: each counts once in place of a code, also when this box's clock is wrong. Write them down now, and keep them apart " +
		"from the box and from the authenticator: they are not shown again.")
	for pair := range slices.Chunk(codes, 2) {
		s.say("%s", strings.Join(pair, " / "))
	}
	chiefs, without := 0, 0
	for _, o := range s.a.c.Store.State().Officers() {
		if o.Duty == store.Chief {
			chiefs++
			if o.Codes == nil {
				without++
			}
		}
	}
	switch {
	case without == 0:
		return s.say("WARNING: every officer of this box has a second factor now. If all of you lose authenticator and recovery codes, nobody can " +
			"administer it any more.")
	case chiefs <= 2:
		return s.say("WARNING: with two officers, neither can take the other's second factor away alone (officer totp remove waits for a second one). " +
			"Keep the recovery codes, or add a third officer.")
	}
	return nil
}

// officerCodesOff costs a code, so that nobody ends it who finds a session open.
func (s *step) officerCodesOff(ctx context.Context) error {
	o, _ := s.myself()
	if o.Codes == nil {
		return errors.New("you have no second factor; take one: officer totp")
	}
	typed, err := s.next(wire.Code, "A code of your authenticator, or a recovery code:")
	if err != nil {
		return err
	}
	err = s.pass(ctx, o, func() error {
		now, _ := s.myself() // a log-in may have used a code meanwhile
		u, ok := s.a.counts(now, typed)
		if !ok || now.Codes == nil {
			return errors.New("that is no code of yours that counts now")
		}
		s.a.spend(now, u)
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.commit(ctx, store.OfficerCodesRemove{Name: o.Name}); err != nil {
		return err
	}
	return s.say("You have no second factor any more: your passphrase alone is asked for.")
}

// officerCodesRemove is for another officer: who could say it of himself would need no code.
func (s *step) officerCodesRemove(ctx context.Context, c console.OfficerCodesRemove) error {
	name := string(c.Officer)
	if name == s.officer.Name {
		return errors.New("that is yours: officer totp off, with a code. If you have lost it, another officer removes it")
	}
	remove := store.OfficerCodesRemove{Name: name}
	if _, err := store.Apply(s.state(), remove); err != nil {
		return err
	}
	o, _ := s.a.c.Store.State().Officer(name)
	s.depends(o.Codes.Recovery) // another one, taken meanwhile, is another matter
	if err := s.confirm("Take the second factor of %s away? The passphrase alone is asked for then.", name); err != nil {
		return err
	}
	if err := s.commit(ctx, remove); err != nil {
		return err
	}
	s.a.sessions.endOf(name, "")
	return s.say("%s has no second factor any more.", name)
}

// codesWords say of an officer's second factor what others may know.
func codesWords(o store.Officer) string {
	if o.Codes == nil {
		return "none"
	}
	return fmt.Sprintf("TOTP, %s left", count(len(o.Codes.Recovery), "code", "codes"))
}
