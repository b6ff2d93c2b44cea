package appliance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/store"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A token gives hsmd what opens its token, from the store, at each start of hsmd, and writes each life of hsmd and what it
// did without an answer into the log.
type token struct {
	hsm   *hsm.Client
	store *store.Store
	log   *audit.Log
	fail  func(error) // ends the agent: what cannot be accounted for must not go on
	again func()      // told that hsmd was opened again, with what was loaded into it gone; it must not wait

	mu   sync.Mutex       // one account at a time
	life receipt.Instance // guarded by mu
}

// Token is the token as last committed.
func (t *token) Token(context.Context) (hsm.Token, error) {
	files, err := t.store.Files()
	if err != nil {
		return hsm.Token{}, fmt.Errorf("read token files: %w", err)
	}
	p := t.store.State().PINs()
	return hsm.Token{Files: files, PIN: p.User.Bytes(), SOPIN: p.SO.Bytes()}, nil
}

// Opened is told of each instance that was opened after a loss of hsmd. The same instance again means that only the
// connection broke: what was under way then may have been done and not answered.
func (t *token) Opened(i hsm.Instance) {
	defer t.again()
	go func() { // the client goes on only when this has returned
		ctx, cancel := context.WithTimeout(context.Background(), accountWithin)
		defer cancel()
		if err := t.reopened(ctx, i); err != nil {
			t.fail(err)
		}
	}()
}

// accountWithin bounds the time to write down what hsmd did.
const accountWithin = time.Minute

// unanswered writes down what hsmd did for requests that had no answer. A request that is still on its way to the log with
// such an unwrap is refused there.
func (t *token) unanswered() {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), accountWithin)
		defer cancel()
		t.mu.Lock()
		defer t.mu.Unlock()
		if head := t.log.Head().HSM; head.Instance == t.life {
			if err := t.orphans(ctx, head.N); err != nil && !errors.Is(err, hsm.ErrClosed) && !errors.Is(err, hsm.ErrLost) && !errors.Is(err, audit.ErrFull) {
				t.fail(err)
			}
		}
	}()
}

// unlogged does so where it was the log that did not take them. One that takes nothing any more is not a reason to stop:
// the port serves nobody then, and the next start writes them down, or health when a full disk has room again.
func (t *token) unlogged() {
	if err := t.log.Health(); err == nil || errors.Is(err, audit.ErrFull) {
		t.unanswered()
	}
}

func (t *token) reopened(ctx context.Context, i hsm.Instance) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.life == i.ID {
		return t.orphans(ctx, t.log.Head().HSM.N)
	}
	t.life = i.ID
	return t.record(ctx, i)
}

// adopt writes down the instance that an agent finds at its start, if it is new, and every unwrap of it that the log lacks.
func (t *token) adopt(ctx context.Context, i hsm.Instance) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.life = i.ID
	if last := t.log.Head().HSM; last.Instance == i.ID {
		return t.orphans(ctx, last.N)
	}
	if err := t.record(ctx, i); err != nil {
		return err
	}
	return t.orphans(ctx, 0)
}

func (t *token) orphans(ctx context.Context, after uint64) error {
	items, head, err := t.hsm.ChainSince(ctx, after)
	if err != nil {
		return fmt.Errorf("ask hsmd for its chain: %w", err)
	}
	if head.Instance != t.life {
		return nil // it was lost meanwhile, and its successor is being opened
	}
	_, err = t.log.AppendOrphans(ctx, items, head)
	return err
}

func (t *token) record(ctx context.Context, i hsm.Instance) error {
	head := receipt.ChainHead{Instance: i.ID, Head: receipt.FirstHead(i.ID)}
	_, err := t.log.Append(ctx, audit.Entry{Kind: receipt.HSMInstance, HSM: head, Private: instanceRecord{i.Report.Module, i.Report.Keys}})
	if err != nil {
		return fmt.Errorf("log instance of hsmd: %w", err)
	}
	return nil
}

type instanceRecord struct {
	Module string `json:"module"`
	Keys   uint32 `json:"keys"`
}

// openToken opens the token, or makes it and commits it. What an hsmd that outlived its agent has unwrapped without an
// answer is written into the log first.
func openToken(ctx context.Context, c *hsm.Client, o opened, fail func(error), again func()) (*token, error) {
	t := &token{hsm: c, store: o.store, log: o.log, fail: fail, again: again}
	open, err := t.Token(ctx)
	if err != nil {
		return nil, err
	}
	var changes []store.Change
	if len(open.PIN) == 0 {
		open.PIN, open.SOPIN = []byte(rand.Text()), []byte(rand.Text())
		changes = append(changes, store.PINSet{User: store.NewSecret(open.PIN), SO: store.NewSecret(open.SOPIN)})
	}
	i, err := c.Open(ctx, open)
	if err != nil {
		return nil, fmt.Errorf("open token: %w", err)
	}
	if len(i.Files) > 0 {
		changes = append(changes, store.TokenSet{Files: i.Files})
	}
	if len(changes) > 0 {
		if _, err := o.store.Commit(ctx, changes...); err != nil {
			return nil, fmt.Errorf("commit new token: %w", err)
		}
	}
	if err := t.adopt(ctx, i); err != nil {
		return nil, err
	}
	c.Recover(t)
	return t, nil
}
