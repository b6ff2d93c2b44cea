package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/keyrelease/krabox/appliance/account"
	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A loginRecord is the private part of a log-in's record. A name that is no officer's is not kept: it may be a passphrase
// that was typed too early.
type loginRecord struct {
	Officer string `json:"officer,omitempty"`
	Outcome string `json:"outcome"`
	Detail  string `json:"detail,omitempty"` // of an officer with a second factor: what was wrong, or what counted
}

var (
	errNoOfficer = errors.New("that is not an officer with that passphrase and, of whom has a second factor, that code, " +
		"or one who has to wait after wrong ones: a quarter of an hour at most")
	errNoLogin = errors.New("this box has no officers to log in")
)

// Login opens a session for an officer who knows the passphrase and, if there is a second factor, has a code. Both are looked at
// whichever is wrong, and one answer is for all that is.
func (a *Agent) Login(ctx context.Context, c wire.Credentials) (wire.Session, error) {
	if a.c.Mode != console.Enrolled {
		return "", errNoLogin
	}
	var id wire.Session
	err := a.door.pass(ctx, func() error {
		o, known := a.c.Store.State().Officer(c.Officer)
		early := a.tally(o).opens.After(time.Now())
		passes := a.passes(o, known, c.Passphrase)
		code, counts := a.counts(o, c.Code)
		switch {
		case early: // nothing is learned of passphrase and code, and nothing is counted
			if a.room(a.door.failures + 1) {
				a.append(ctx, loginRecord{Officer: o.Name, Outcome: "waits"})
			}
			return errNoOfficer
		case !passes || !counts:
			return a.refuse(ctx, o, wrong(o, passes, counts))
		}
		if err := a.admit(ctx, o, code); err != nil {
			return err
		}
		id = a.sessions.open(o.Name)
		if is, _ := a.c.Store.State().Officer(o.Name); o.Codes == nil && is.Codes != nil { // a second factor was taken meanwhile
			a.sessions.end(id)
			return errNoOfficer
		}
		return nil
	})
	return id, err
}

// wrong says in the log what was: a right passphrase without its code is one that somebody else knows.
func wrong(o store.Officer, passes, counts bool) string {
	switch {
	case o.Codes == nil:
		return ""
	case passes:
		return "the passphrase is right, the code is not"
	case counts:
		return "the code is right, the passphrase is not"
	}
	return "neither passphrase nor code is right"
}

// passes takes as long for somebody unknown as for an officer.
func (a *Agent) passes(o store.Officer, known bool, pass string) bool {
	hash := o.Hash
	if !known {
		hash = a.nobody
	}
	p := []byte(pass)
	defer clear(p)
	return account.Check(hash, p) && known
}

// nobodysHash is a hash that no passphrase has.
func nobodysHash() string {
	var p [32]byte
	rand.Read(p[:])
	return account.Hash(p[:])
}

// admit logs the log-in. A broken log does not keep an officer out: only commands that help to mend the box work then.
// The code counts no more from here on, and that is in the store before anybody is in.
func (a *Agent) admit(ctx context.Context, o store.Officer, code use) error {
	r := loginRecord{Officer: o.Name, Outcome: "admitted"}
	if code.recovery != "" {
		r.Detail = fmt.Sprintf("with a recovery code, %d left", len(o.Codes.Recovery)-1)
	}
	a.append(ctx, r)
	delete(a.tallies, o.Name)
	var forget []store.Change
	if used := code.change(o.Name); used != nil {
		a.spend(o, code)
		forget = append(forget, used)
	}
	if o.Failures > 0 {
		forget = append(forget, store.OfficerFailures{Name: o.Name})
	}
	if a.c.Store.State().ConsoleFailures() > 0 {
		forget = append(forget, store.ConsoleFailures{})
	}
	if len(forget) == 0 {
		return nil
	}
	if _, err := a.c.Store.Commit(ctx, forget...); err != nil && !errors.Is(err, store.ErrFull) && a.c.Log.Health() == nil {
		return fmt.Errorf("log in: %w", err)
	}
	return nil
}

// What wrong passphrases cost an account, beside the door: from the fourth on it waits, twice as long after each, a quarter of an
// hour at most, so that nobody is kept out for good by who types wrong ones. The count is in the store; after a restart, when no
// clock can be trusted, the account waits anew.
const (
	freeFailures = 3
	longestWait  = 15 * time.Minute
)

func accountDelay(failures int) time.Duration {
	if failures <= freeFailures {
		return 0
	}
	return min(firstDelay<<min(failures-1, 20), longestWait)
}

// A tally is what an account has to wait for. Those inside the door own it.
type tally struct {
	failures int
	opens    time.Time
}

// tally returns what is known of an officer, or nothing of somebody who is none.
func (a *Agent) tally(o store.Officer) *tally {
	if o.Name == "" {
		return &tally{}
	}
	t := a.tallies[o.Name]
	if t == nil || t.failures < o.Failures {
		t = &tally{o.Failures, a.began.Add(accountDelay(o.Failures))}
		a.tallies[o.Name] = t
	}
	return t
}

// refuse logs a wrong passphrase or code and keeps count of them beyond the next power cut: of the account and of the console.
func (a *Agent) refuse(ctx context.Context, o store.Officer, detail string) error {
	if a.room(a.door.failures + 1) {
		a.append(ctx, loginRecord{o.Name, "refused", detail})
	}
	var changes []store.Change
	if o.Name != "" {
		t := a.tally(o)
		t.failures++
		t.opens = time.Now().Add(accountDelay(t.failures))
		if accountDelay(t.failures-1) < longestWait || power(t.failures) {
			changes = append(changes, store.OfficerFailures{Name: o.Name, Failures: t.failures, Failed: time.Now()})
		}
	}
	if n := a.door.failures + 1; n >= 4 && power(n) {
		changes = append(changes, store.ConsoleFailures{Failures: n})
	}
	if len(changes) == 0 {
		return errNoOfficer
	}
	if _, err := a.c.Store.Commit(ctx, changes...); err != nil && !errors.Is(err, store.ErrFull) { // or a full disk tells who is an officer
		return fmt.Errorf("log in: %w", errors.Join(errNoOfficer, err))
	}
	return errNoOfficer
}

// power reports the counts that are written where each would wear out the TPM.
func power(failures int) bool { return bits.OnesCount(uint(failures)) == 1 }

// room reports whether the log takes a record of that failure: what a full disk has left is for who mends it, and not for who types anything.
func (a *Agent) room(failures int) bool { return power(failures) || a.full() == nil }

func (a *Agent) append(ctx context.Context, r loginRecord) {
	// An error is the log's end: Health says so, and no command but those that mend will run.
	a.c.Log.Append(context.WithoutCancel(ctx), audit.Entry{Kind: receipt.Login, Private: r})
}
