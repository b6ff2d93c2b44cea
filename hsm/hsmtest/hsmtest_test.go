package hsmtest_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A box is the part of krad that matters here: the committed token files and PINs.
type box struct {
	mu        sync.Mutex
	token     wire.Token         // owned by mu
	instances []receipt.Instance // owned by mu
}

// Token implements wire.Source.
func (b *box) Token(context.Context) (wire.Token, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return hsmtest.Again(b.token, maps.Clone(b.token.Files)), nil
}

// Opened implements wire.Source.
func (b *box) Opened(i wire.Instance) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.instances = append(b.instances, i.ID)
}

func (b *box) commit(changed wire.Files) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.Copy(b.token.Files, changed)
	maps.DeleteFunc(b.token.Files, func(_ string, data []byte) bool { return data == nil })
}

// open starts a new token.
func open(t *testing.T, c *wire.Client) *box {
	t.Helper()
	b := &box{token: hsmtest.Token()}
	i, err := c.Open(context.Background(), hsmtest.Again(b.token, nil))
	if err != nil {
		t.Fatal(err)
	}
	if len(i.Files) == 0 {
		t.Fatal("a new token has no files")
	}
	b.token.Files = i.Files
	b.Opened(i)
	return b
}

func wrapTo(t testing.TB, k wire.Key, fill byte) block.Wrap {
	t.Helper()
	pub, err := x509.ParsePKIXPublicKey(k.SPKI)
	if err != nil {
		t.Fatal(err)
	}
	w, err := block.WrapFileKey(pub, []byte(strings.Repeat(string(fill), block.FileKeySize)))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func check(r wire.Result, fill byte) error {
	if r.Err != nil {
		return r.Err
	}
	return r.Key.Use(func(k []byte) error {
		if string(k) != strings.Repeat(string(fill), block.FileKeySize) {
			return errors.New("another key came out")
		}
		return nil
	})
}

func TestDaemonKeepsNothing(t *testing.T) {
	d := hsmtest.Start(t)
	c := d.Client()
	ctx := context.Background()
	b := open(t, c)
	key, changed, err := c.Generate(ctx, wire.P256, wire.Replicable, wire.Resident)
	if err != nil {
		t.Fatal(err)
	}
	d.Restart()
	if _, err := c.List(ctx); !errors.Is(err, wire.ErrClosed) {
		t.Errorf("List after a restart = %v, want %v", err, wire.ErrClosed)
	}
	open := func(want int) {
		t.Helper()
		token, _ := b.Token(ctx)
		if _, err := c.Open(ctx, token); err != nil {
			t.Fatal(err)
		}
		if keys, err := c.List(ctx); err != nil || len(keys) != want {
			t.Errorf("List = %v, %v; want %d keys", keys, err, want)
		}
	}
	open(0) // a key whose files were not committed is gone
	b.commit(changed)
	open(1)
	results, _, err := c.Unwrap(ctx, []block.Wrap{wrapTo(t, key, 'x')})
	if err != nil || check(results[0], 'x') != nil {
		t.Errorf("Unwrap after files were restored: %v, %v", err, results)
	}
}

// TestKilledUnderLoad kills hsmd again and again while many ask. Clients recover by themselves, nobody gets a wrong
// key, and each key that somebody got is an item of a chain whose head is authentic.
func TestKilledUnderLoad(t *testing.T) {
	const kills, users, batch = 24, 8, 3
	d := hsmtest.Start(t)
	c := d.Client()
	b := open(t, c)
	c.Recover(b)
	var keys []wire.Key
	for range 2 {
		k, changed, err := c.Generate(t.Context(), wire.P256, wire.Bound, wire.Resident)
		if err != nil {
			t.Fatal(err)
		}
		b.commit(changed)
		keys = append(keys, k)
	}
	var got, lost atomic.Int64
	stop := make(chan struct{})
	var all sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); all.Wait() })
	defer end()
	for u := range users {
		fill := byte('a' + u)
		var wraps []block.Wrap
		for i := range batch {
			wraps = append(wraps, wrapTo(t, keys[i%len(keys)], fill))
		}
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n, err := release(t.Context(), c, wraps, fill)
				if err != nil && !errors.Is(err, wire.ErrLost) {
					t.Errorf("release: %v", err)
					return
				}
				if err != nil {
					lost.Add(1)
				}
				got.Add(int64(n))
			}
		})
	}
	for i := range kills {
		d.Kill()
		before := got.Load()
		time.Sleep(time.Duration(i%4) * 5 * time.Millisecond)
		d.Restart()
		for deadline := time.Now().Add(20 * time.Second); got.Load() < before+2*batch*users; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no releases within 20 s of kill %d", i+1)
			}
		}
	}
	end()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.instances) < kills+1 {
		t.Errorf("%d instances were opened, want at least %d", len(b.instances), kills+1)
	}
	t.Logf("%d kills, %d keys released, %d operations lost twice", kills, got.Load(), lost.Load())
}

// TestLostBeforeCommit: hsmd dies between the making of a key and its commit.
func TestLostBeforeCommit(t *testing.T) {
	d := hsmtest.Start(t)
	c := d.Client()
	b := open(t, c)
	c.Recover(b)
	k, changed, err := c.Generate(t.Context(), wire.P256, wire.Bound, wire.Resident)
	if err != nil {
		t.Fatal(err)
	}
	d.Restart()
	use := func() error {
		results, _, err := c.Unwrap(t.Context(), []block.Wrap{wrapTo(t, k, 'x')})
		if err != nil {
			return err
		}
		return check(results[0], 'x')
	}
	if err := use(); !errors.Is(err, wire.ErrNoKey) {
		t.Errorf("use of a key that was lost before its commit = %v, want %v", err, wire.ErrNoKey)
	}
	b.commit(changed)
	for range 2 {
		if err := c.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := use(); err != nil {
			t.Errorf("use after the commit = %v", err)
		}
	}
}

// TestKilledWhileKeysChange kills hsmd at every moment of a key's making and unmaking. Whatever was committed works, and
// nothing else is there.
func TestKilledWhileKeysChange(t *testing.T) {
	d := hsmtest.Start(t)
	c := d.Client()
	b := open(t, c)
	c.Recover(b)
	keys := map[block.KeyID]wire.Key{}
	for i := range 20 {
		done := make(chan error, 1)
		go func() {
			k, changed, err := c.Generate(t.Context(), wire.P256, wire.Replicable, wire.Resident)
			if err == nil {
				b.commit(changed)
				keys[k.ID] = k
			}
			done <- err
		}()
		time.Sleep(time.Duration(i) * 500 * time.Microsecond)
		d.Restart()
		if err := <-done; err != nil && !errors.Is(err, wire.ErrLost) {
			t.Fatalf("kill %d: %v", i, err)
		}
		if err := c.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		for id := range keys {
			if i%5 == 4 {
				changed, err := c.Destroy(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				b.commit(changed)
				delete(keys, id)
				d.Restart()
			}
			break
		}
		checkOpen(t, c, keys)
	}
	if len(keys) == 0 {
		t.Error("no key was ever made")
	}
}

// checkOpen wants these keys, all of them able to open, and no other.
func checkOpen(t *testing.T, c *wire.Client, keys map[block.KeyID]wire.Key) {
	t.Helper()
	list, err := c.List(t.Context())
	if err != nil || len(list) != len(keys) {
		t.Fatalf("List = %d keys, %v; want %d", len(list), err, len(keys))
	}
	for _, k := range list {
		if _, ok := keys[k.ID]; !ok {
			t.Errorf("key %v is in the token, but was never committed", k.ID)
		}
		results, _, err := c.Unwrap(t.Context(), []block.Wrap{wrapTo(t, k, 'x')})
		if err != nil || check(results[0], 'x') != nil {
			t.Errorf("key %v: %v, %v", k.ID, err, results)
		}
	}
}

// release asks for a batch and checks every answer.
func release(ctx context.Context, c *wire.Client, wraps []block.Wrap, fill byte) (int, error) {
	results, head, err := c.Unwrap(ctx, wraps)
	if err != nil {
		return 0, err
	}
	for i, r := range results {
		if err := check(r, fill); err != nil {
			return 0, fmt.Errorf("result %d: %w", i, err)
		}
		if r.Seq != head.N-uint64(len(results)-1-i) {
			return 0, fmt.Errorf("result %d has the number %d under head %d", i, r.Seq, head.N)
		}
	}
	if err := c.CheckHead(ctx, head); err != nil {
		return 0, fmt.Errorf("check head: %w", err)
	}
	return len(results), nil
}

// TestProcessGuardsItsSecrets looks at hsmd from outside.
func TestProcessGuardsItsSecrets(t *testing.T) {
	d := hsmtest.Start(t)
	b := open(t, d.Client())
	proc := func(name string) string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(d.PID()), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for _, place := range []string{"environ", "cmdline"} {
		for _, secret := range []string{string(b.token.PIN), string(b.token.SOPIN)} {
			if strings.Contains(proc(place), secret) {
				t.Errorf("a PIN is in %s", place)
			}
		}
	}
	for line := range strings.Lines(proc("limits")) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && (f[4] != "0" || f[5] != "0") {
			t.Errorf("core dumps are allowed: %s", line)
		}
	}
	if os.Getuid() == 0 && strings.Contains(proc("status"), "VmLck:\t       0 kB") {
		t.Error("memory is not locked")
	}
	dir, err := os.Stat(filepath.Join(filepath.Dir(d.Path()), "tokens"))
	if err != nil || dir.Mode().Perm() != 0o700 {
		t.Errorf("token folder: %v, %v; want 0700", dir.Mode(), err)
	}
}
