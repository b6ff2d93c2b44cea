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
}

var (
	errNoOfficer = errors.New("that is not an officer with that passphrase")
	errNoLogin   = errors.New("this box has no officers to log in")
)

// Login opens a session for an officer who knows the passphrase.
func (a *Agent) Login(ctx context.Context, c wire.Credentials) (wire.Session, error) {
	if a.c.Mode != console.Enrolled {
		return "", errNoLogin
	}
	var id wire.Session
	err := a.door.pass(ctx, func() error {
		o, known := a.c.Store.State().Officer(c.Officer)
		if !a.passes(o, known, c.Passphrase) {
			return a.refuse(ctx, o)
		}
		if err := a.admit(ctx, o); err != nil {
			return err
		}
		id = a.sessions.open(o.Name)
		return nil
	})
	return id, err
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
func (a *Agent) admit(ctx context.Context, o store.Officer) error {
	a.append(ctx, loginRecord{o.Name, "admitted"})
	if o.Failures == 0 {
		return nil
	}
	if _, err := a.c.Store.Commit(ctx, store.OfficerFailures{Name: o.Name}); err != nil && a.c.Log.Health() == nil {
		return fmt.Errorf("log in: %w", err)
	}
	return nil
}

// refuse logs a wrong passphrase and keeps count of them beyond the next power cut.
func (a *Agent) refuse(ctx context.Context, o store.Officer) error {
	a.append(ctx, loginRecord{o.Name, "refused"})
	a.door.failures = max(a.door.failures, o.Failures)
	if n := a.door.failures + 1; o.Name != "" && n > o.Failures && matters(n) {
		if _, err := a.c.Store.Commit(ctx, store.OfficerFailures{Name: o.Name, Failures: n, Failed: time.Now()}); err != nil {
			return fmt.Errorf("log in: %w", errors.Join(errNoOfficer, err))
		}
	}
	return errNoOfficer
}

// matters reports the counts that are written at once: 4, 8, 16 and so on, so that guessing cannot wear out the TPM.
func matters(failures int) bool { return failures >= 4 && bits.OnesCount(uint(failures)) == 1 }

func (a *Agent) append(ctx context.Context, r loginRecord) {
	// An error is the log's end: Health says so, and no command but those that mend will run.
	a.c.Log.Append(context.WithoutCancel(ctx), audit.Entry{Kind: receipt.Login, Private: r})
}
