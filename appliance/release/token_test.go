package release

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"filippo.io/age"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A token is SoftHSM, behind an hsmd of its own or in this process. It counts calls and injects faults before and after
// the real operation; it has no keys of its own.
type token struct {
	real  opener
	names map[string]block.KeyID
	pubs  map[string]crypto.PublicKey

	mu     sync.Mutex
	chain  receipt.ChainHead // as the HSM reported it last
	calls  int
	items  int
	before error // not done
	after  error // done, but the answer is lost

	hold    atomic.Pointer[chan struct{}] // the next operation says so on entered and waits until this is closed
	entered chan struct{}
}

// An opener is the part of an HSM that the port's tests use.
type opener interface {
	generate(s wire.Suite) (wire.Key, error)
	destroy(id block.KeyID) error
	unwrap(ctx context.Context, wraps []block.Wrap) ([]wire.Result, receipt.ChainHead, error)
	transcrypt(ctx context.Context, to wire.Recipient, wraps []block.Wrap) ([]wire.Result, receipt.ChainHead, error)
	since(n uint64) ([]receipt.Item, receipt.ChainHead, error)
}

// newToken starts hsmd with a new token.
func newToken(t testing.TB) *token {
	t.Helper()
	c := hsmtest.Start(t).Client()
	if _, err := c.Open(context.Background(), hsmtest.Token()); err != nil {
		t.Fatal(err)
	}
	return tokenOf(daemon{c})
}

func tokenOf(real opener) *token {
	return &token{real: real, names: map[string]block.KeyID{}, pubs: map[string]crypto.PublicKey{}, entered: make(chan struct{})}
}

// A daemon is an HSM behind hsmd.
type daemon struct{ c *wire.Client }

func (d daemon) generate(s wire.Suite) (wire.Key, error) {
	k, _, err := d.c.Generate(context.Background(), s, wire.Replicable, wire.Resident)
	return k, err
}

func (d daemon) destroy(id block.KeyID) error {
	_, err := d.c.Destroy(context.Background(), id)
	return err
}

func (d daemon) unwrap(ctx context.Context, wraps []block.Wrap) ([]wire.Result, receipt.ChainHead, error) {
	return d.c.Unwrap(ctx, wraps)
}

func (d daemon) since(n uint64) ([]receipt.Item, receipt.ChainHead, error) {
	return d.c.ChainSince(context.Background(), n)
}

// An inside is an HSM in this process.
type inside struct{ c *hsm.Custodian }

func (d inside) generate(s wire.Suite) (wire.Key, error) {
	k, _, err := d.c.Generate(s, wire.Replicable, wire.Resident)
	return k, err
}

func (d inside) destroy(id block.KeyID) error {
	_, err := d.c.Destroy(id)
	return err
}

func (d inside) unwrap(_ context.Context, wraps []block.Wrap) (out []wire.Result, head receipt.ChainHead, err error) {
	return d.wait(wraps, d.c.Unwrap)
}

func (d inside) wait(wraps []block.Wrap, start func([]block.Wrap, func([]wire.Result, receipt.ChainHead)) error) (out []wire.Result, head receipt.ChainHead, err error) {
	done := make(chan struct{})
	err = start(wraps, func(r []wire.Result, h receipt.ChainHead) {
		out, head = r, h
		close(done)
	})
	if err == nil {
		<-done
	}
	return out, head, err
}

func (d inside) since(n uint64) ([]receipt.Item, receipt.ChainHead, error) { return d.c.Since(n) }

// add makes a key in the token.
func (k *token) add(name string) block.KeyID { return k.addKind(name, wire.P256) }

func (k *token) addKind(name string, kind wire.Suite) block.KeyID {
	key, err := k.real.generate(kind)
	if err != nil {
		panic(err)
	}
	pub, err := block.ParsePublicKey(key.SPKI)
	if err != nil {
		panic(err)
	}
	k.names[name], k.pubs[name] = key.ID, pub
	return key.ID
}

func (k *token) Unwrap(ctx context.Context, grants []policy.Grant) ([]Unwrapped, receipt.ChainHead, error) {
	return k.open(ctx, grants, k.real.unwrap)
}

func (k *token) open(ctx context.Context, grants []policy.Grant, ask func(context.Context, []block.Wrap) ([]wire.Result, receipt.ChainHead, error)) ([]Unwrapped, receipt.ChainHead, error) {
	if hold := k.hold.Swap(nil); hold != nil {
		k.entered <- struct{}{}
		<-*hold
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	if k.before != nil {
		return nil, receipt.ChainHead{}, k.before
	}
	wraps := make([]block.Wrap, len(grants))
	for i, g := range grants {
		wraps[i] = g.Wrap()
	}
	results, head, err := ask(ctx, wraps)
	if err != nil {
		return nil, receipt.ChainHead{}, err
	}
	k.chain = head
	k.items += len(grants)
	if k.after != nil {
		return nil, receipt.ChainHead{}, k.after
	}
	out := make([]Unwrapped, len(results))
	for i, r := range results {
		out[i] = Unwrapped{Seq: r.Seq, Key: r.Key, Sealed: r.Sealed, Err: r.Err}
		if errors.Is(r.Err, wire.ErrNoKey) {
			out[i].Err = ErrNoKey
		}
	}
	return out, k.chain, nil
}

// header returns the header of a block encrypted to the named keys, in their order.
func (k *token) header(t testing.TB, names ...string) block.Header {
	t.Helper()
	var to []crypto.PublicKey
	for _, n := range names {
		to = append(to, k.pubs[n])
	}
	return headerTo(t, to...)
}

// strange is the header of a block encrypted to a key that no box has.
func strange(t testing.TB) block.Header {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return headerTo(t, key.PublicKey())
}

func headerTo(t testing.TB, keys ...crypto.PublicKey) block.Header {
	t.Helper()
	var to []age.Recipient
	for _, pub := range keys {
		r, err := block.NewRecipient(pub)
		if err != nil {
			t.Fatal(err)
		}
		to = append(to, r)
	}
	var out strings.Builder
	w, err := age.Encrypt(&out, to...)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h, _, err := block.ParseHeader(strings.NewReader(out.String()), block.MaxHeader)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
