package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A Client asks hsmd. It is safe for many goroutines; their operations share one connection. When hsmd is lost the
// client connects again and, after Recover, opens the token again; an operation that was under way is tried once more
// and then fails with ErrLost.
//
//	      connect            Open, by the caller or by Recover
//	lost ---------> greeted ------------------------------------> open
//	 ^                 |                                           |
//	 +-----------------+------------ connection ends --------------+
type Client struct {
	path   string
	flight chan struct{} // one place for each operation under way
	turn   chan struct{} // held by who connects

	mu     sync.Mutex
	link   *link  // owned by mu; the last connection made
	source Source // owned by mu
	barred error  // owned by mu; the PIN was wrong: trying again could lock the token
	closed bool   // owned by mu
}

// A Source yields the token as it was last committed, and is told of each instance that was opened with it. It is
// asked after every loss of hsmd. A token that it yields is cleared after use.
type Source interface {
	Token(context.Context) (Token, error)
	Opened(Instance)
}

var errClosedClient = errors.New("client is closed")

// Dial returns a client of the hsmd that listens at path. Nobody listening is an error; one who listens but does not
// answer yet is waited for by the first operation.
func Dial(path string) (*Client, error) {
	c := &Client{path: path, flight: make(chan struct{}, maxFlight), turn: make(chan struct{}, 1)}
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to hsmd: %w", err)
	}
	return c, conn.Close()
}

// Recover makes the client open the token from s by itself on every new connection, the first one too. The token must
// exist: empty files would make another. After a wrong PIN every operation fails until Recover is called again, for many
// a module locks itself after a few.
func (c *Client) Recover(s Source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.source, c.barred = s, nil
}

// Close ends the connection. Operations under way fail.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.link != nil {
		c.link.close()
	}
	return nil
}

// current returns the link if it is usable.
func (c *Client) current() (*link, Source, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, errClosedClient
	}
	if c.link != nil && c.link.alive() {
		return c.link, c.source, nil
	}
	return nil, c.source, c.barred
}

// connect returns a usable link, making one where needed. It waits for hsmd to come back.
func (c *Client) connect(ctx context.Context) (*link, error) {
	if l, _, err := c.current(); l != nil || err != nil {
		return l, err
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, retryFor)
	defer cancel()
	for pause := retryFirst; ; pause = min(2*pause, retryLast) {
		l, source, err := c.current()
		if l != nil || err != nil {
			return l, err
		}
		l, err = c.establish(ctx, source)
		if err == nil {
			return l, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("reach hsmd: %w", err)
		case <-time.After(pause):
		}
	}
}

// establish makes a link, with the token open if there is a source for it, and publishes it.
func (c *Client) establish(ctx context.Context, source Source) (*link, error) {
	l, err := dialLink(ctx, c.path)
	if err != nil {
		return nil, err
	}
	if source != nil {
		err = reopen(ctx, l, source)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(err, ErrPIN) {
		c.barred = err
	}
	if err != nil {
		l.close()
		return nil, err
	}
	if c.closed {
		l.close()
		return nil, errClosedClient
	}
	c.link = l
	return l, nil
}

func reopen(ctx context.Context, l *link, source Source) error {
	t, err := source.Token(ctx)
	if err != nil {
		return fmt.Errorf("fetch token: %w", err)
	}
	i, err := open(ctx, l, t)
	if err != nil {
		return fmt.Errorf("open token again: %w", err)
	}
	source.Opened(i)
	return nil
}

func open(ctx context.Context, l *link, t Token) (i Instance, err error) {
	defer t.Clear()
	b, err := l.do(ctx, verbOpen, 1<<10, func(w *writer) { w.token(t) })
	if err != nil {
		return Instance{}, err
	}
	err = parse(b, func(r *reader) { i = r.instance() })
	return i, err
}

// parse reads an answer: an error, or what fill takes and nothing more.
func parse(b []byte, fill func(*reader)) error {
	r := &reader{b: b}
	if err := r.err(); err != nil {
		return err
	}
	if !r.bad {
		fill(r)
	}
	return r.done()
}

// call performs one operation, a second time if hsmd was lost during the first.
func (c *Client) call(ctx context.Context, v verb, room int, ask func(*writer), take func([]byte) error) error {
	select {
	case c.flight <- struct{}{}:
		defer func() { <-c.flight }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for range 2 {
		l, err := c.connect(ctx)
		if err != nil {
			return err
		}
		b, err := l.do(ctx, v, room, ask)
		if err == nil {
			defer clear(b)
			return take(b)
		}
		if !errors.Is(err, errLink) {
			return err
		}
	}
	return ErrLost
}

func (c *Client) simple(ctx context.Context, v verb, ask func(*writer), take func(*reader)) error {
	return c.call(ctx, v, 256, ask, func(b []byte) error { return parse(b, take) })
}

func nothing(*writer) {}

// Open restores the token files, logs in and indexes the keys; with no files it makes a new token and returns its
// files. Opening the token that is open already changes nothing. Files that are not as this box's hsmd sealed them are
// Refused. t's PINs are cleared.
func (c *Client) Open(ctx context.Context, t Token) (i Instance, err error) {
	defer t.Clear()
	err = c.simple(ctx, verbOpen, func(w *writer) { w.token(t) }, func(r *reader) { i = r.instance() })
	return i, err
}

// Refresh opens the token from the source once more. It is for after the commit of changed files: an hsmd that was lost
// between the change and its commit has been opened without the change. Where nothing was lost, nothing happens.
func (c *Client) Refresh(ctx context.Context) error {
	c.mu.Lock()
	source := c.source
	c.mu.Unlock()
	if source == nil {
		return nil
	}
	t, err := source.Token(ctx)
	if err != nil {
		return fmt.Errorf("fetch token: %w", err)
	}
	if _, err := c.Open(ctx, t); err != nil {
		return fmt.Errorf("refresh token: %w", err)
	}
	return nil
}

// Status returns the open instance, without files, or ErrClosed.
func (c *Client) Status(ctx context.Context) (i Instance, err error) {
	err = c.simple(ctx, verbStatus, nothing, func(r *reader) { i = r.instance() })
	return i, err
}

// Generate makes a key. It may be used for nothing before the changed files are committed.
func (c *Client) Generate(ctx context.Context, s Suite, custody Custody, m Mode) (k Key, changed Files, err error) {
	err = c.simple(ctx, verbGenerate,
		func(w *writer) { w.u8(uint8(s)); w.u8(uint8(custody)); w.u8(uint8(m)) },
		func(r *reader) { k, changed = r.key(), r.files() })
	return k, changed, err
}

// Import takes a private key in PKCS#8 DER into the token. The caller clears pkcs8.
func (c *Client) Import(ctx context.Context, pkcs8 []byte, custody Custody, m Mode) (k Key, changed Files, err error) {
	err = c.simple(ctx, verbImport,
		func(w *writer) { w.u8(uint8(custody)); w.u8(uint8(m)); w.bytes(pkcs8) },
		func(r *reader) { k, changed = r.key(), r.files() })
	return k, changed, err
}

// Destroy removes a key for ever: from the token, and from the files once the changes are committed.
func (c *Client) Destroy(ctx context.Context, id block.KeyID) (changed Files, err error) {
	err = c.simple(ctx, verbDestroy, func(w *writer) { w.fixed(id[:]) }, func(r *reader) { changed = r.files() })
	return changed, err
}

// List returns every key of the token, ordered by id.
func (c *Client) List(ctx context.Context) (keys []Key, err error) {
	err = c.simple(ctx, verbList, nothing, func(r *reader) { keys = r.keys() })
	return keys, err
}

// Unwrap opens a batch of wraps. Every wrap is an item of the chain, whether it opened or not; the items are
// neighbours and end at the head returned. An error means that the caller knows of no item: what hsmd did all the same
// is found by ChainSince.
func (c *Client) Unwrap(ctx context.Context, wraps []block.Wrap) (results []Result, head receipt.ChainHead, err error) {
	return c.batch(ctx, verbUnwrap, wraps, formKey, func(w *writer) { w.wraps(wraps) })
}

// batch asks for a batch of wraps, whose results have forms up to last.
func (c *Client) batch(ctx context.Context, v verb, wraps []block.Wrap, last uint8, ask func(*writer)) (results []Result, head receipt.ChainHead, err error) {
	if len(wraps) == 0 || len(wraps) > MaxBatch {
		return nil, receipt.ChainHead{}, fmt.Errorf("unwrap %d wraps: limit 1 to %d", len(wraps), MaxBatch)
	}
	err = c.call(ctx, v, 16+maxRecipient+len(wraps)*512, ask, func(b []byte) error {
		r := &reader{b: b}
		if err := r.err(); err != nil || r.bad {
			return errors.Join(err, r.malformed())
		}
		var err error
		results, head, err = r.batch(len(wraps), last)
		return err
	})
	return results, head, err
}

// ChainSince returns the items after the n-th, with the head that they end at. ErrForgotten means that some of them
// are too old.
func (c *Client) ChainSince(ctx context.Context, n uint64) (items []receipt.Item, head receipt.ChainHead, err error) {
	err = c.simple(ctx, verbSince, func(w *writer) { w.u64(n) }, func(r *reader) { items, head = r.items() })
	return items, head, err
}

// CheckHead asks whether hsmd, now or in an earlier life, made this head. ErrHead means that it did not.
func (c *Client) CheckHead(ctx context.Context, head receipt.ChainHead) error {
	return c.simple(ctx, verbCheck, func(w *writer) { w.head(head) }, func(*reader) {})
}
