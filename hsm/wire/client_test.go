package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A service that answers what it is told, to look at the protocol alone; custody itself is tested on real tokens.
func stub() Service {
	return Service{
		Open:     func(Token) (Instance, error) { return Instance{}, nil },
		Status:   func() (Instance, error) { return Instance{}, nil },
		List:     func() ([]Key, error) { return nil, nil },
		Generate: func(Suite, Custody, Mode) (Key, Files, error) { return Key{}, nil, Refused{"no"} },
		Unwrap: func(w []block.Wrap, done func([]Result, receipt.ChainHead)) error {
			done(make([]Result, len(w)), receipt.ChainHead{N: uint64(len(w))})
			return nil
		},
	}
}

// listen returns a socket on which nobody answers yet.
func listen(t *testing.T) (string, net.Listener) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return path, l
}

// start serves s and returns a client.
func start(t *testing.T, s Service) *Client {
	t.Helper()
	path, l := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, nil) }()
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return c
}

func TestEveryOperation(t *testing.T) {
	head := receipt.ChainHead{Instance: receipt.Instance{9}, N: 8, Head: receipt.Hash{7}, MAC: receipt.Hash{6}}
	items := []receipt.Item{{Instance: head.Instance, N: 7, Key: receipt.Hash{1}}, {Instance: head.Instance, N: 8, Ciphertext: receipt.Hash{2}}}
	key := Key{SPKI: []byte("spki"), ID: block.KeyIDOfSPKI([]byte("spki")), Suite: P256, Custody: Bound, Origin: Generated, Mode: Resident}
	instance := Instance{head.Instance, Files{"a/b": []byte("c")}, Report{"module", 1, []Check{{"x", "y"}}, 1}}
	changed := Files{"a/b": nil, "a/c": []byte("d")}
	s := Service{
		Open: func(tok Token) (Instance, error) {
			if string(tok.PIN) != "1234" || string(tok.SOPIN) != "so" || len(tok.Files) != 1 {
				return Instance{}, ErrPIN
			}
			return instance, nil
		},
		Status:   func() (Instance, error) { return instance, nil },
		Generate: func(s Suite, c Custody, m Mode) (Key, Files, error) { return key, changed, nil },
		Import: func(b []byte, c Custody, _ Mode) (Key, Files, error) {
			if string(b) != "der" || c != Replicable {
				return Key{}, nil, Refused{"another key"}
			}
			return key, changed, nil
		},
		Destroy: func(id block.KeyID) (Files, error) {
			if id != key.ID {
				return nil, ErrNoKey
			}
			return changed, nil
		},
		List:  func() ([]Key, error) { return []Key{key}, nil },
		Since: func(n uint64) ([]receipt.Item, receipt.ChainHead, error) { return items, head, nil },
		Check: func(h receipt.ChainHead) error {
			if h != head {
				return ErrHead
			}
			return nil
		},
	}
	c, ctx := start(t, s), t.Context()
	same := func(what string, got, want any, err error) {
		t.Helper()
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" || err != nil {
			t.Errorf("%s: %v\n%s", what, err, d)
		}
	}
	pin := []byte("1234")
	i, err := c.Open(ctx, Token{Files: Files{"a/b": []byte("x")}, PIN: pin, SOPIN: []byte("so")})
	same("Open", i, instance, err)
	if !bytes.Equal(pin, make([]byte, 4)) {
		t.Error("the PIN is left in memory")
	}
	if _, err := c.Open(ctx, Token{}); !errors.Is(err, ErrPIN) {
		t.Errorf("Open = %v, want %v", err, ErrPIN)
	}
	i, err = c.Status(ctx)
	same("Status", i, instance, err)
	k, f, err := c.Generate(ctx, P256, Bound, Resident)
	same("Generate", k, key, err)
	same("Generate", f, changed, err)
	k, f, err = c.Import(ctx, []byte("der"), Replicable, Resident)
	same("Import", k, key, err)
	same("Import", f, changed, err)
	f, err = c.Destroy(ctx, key.ID)
	same("Destroy", f, changed, err)
	keys, err := c.List(ctx)
	same("List", keys, []Key{key}, err)
	got, h, err := c.ChainSince(ctx, 6)
	same("ChainSince", got, items, err)
	same("ChainSince", h, head, err)
	same("CheckHead", nil, nil, c.CheckHead(ctx, head))
	if err := c.CheckHead(ctx, receipt.ChainHead{}); !errors.Is(err, ErrHead) {
		t.Errorf("CheckHead = %v, want %v", err, ErrHead)
	}
	if _, err := c.Destroy(ctx, block.KeyID{}); !errors.Is(err, ErrNoKey) {
		t.Errorf("Destroy = %v, want %v", err, ErrNoKey)
	}
	if _, _, err := c.Import(ctx, nil, Bound, Resident); err != (Refused{"another key"}) {
		t.Errorf("Import = %v, want the reason", err)
	}
}

// TestManyInFlight: operations are answered in another order than they were asked, each to its asker.
func TestManyInFlight(t *testing.T) {
	const n = 128
	var mu sync.Mutex
	var held []func()
	s := stub()
	s.Unwrap = func(w []block.Wrap, done func([]Result, receipt.ChainHead)) error {
		mu.Lock()
		defer mu.Unlock()
		held = append(held, func() { done(make([]Result, len(w)), receipt.ChainHead{N: uint64(len(w))}) })
		if len(held) == n {
			for i := range held {
				held[n-1-i]()
			}
			held = nil
		}
		return nil
	}
	// A result without key and error is spent: it arrives as a refusal.
	c := start(t, s)
	w := samplesWrap(t)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			wraps := make([]block.Wrap, 1+i%5)
			for j := range wraps {
				wraps[j] = w
			}
			results, head, err := c.Unwrap(t.Context(), wraps)
			if err != nil || len(results) != len(wraps) || head.N != uint64(len(wraps)) {
				t.Errorf("Unwrap of %d = %d results, head %d, %v", len(wraps), len(results), head.N, err)
			}
		})
	}
	all.Wait()
}

func samplesWrap(t *testing.T) block.Wrap {
	t.Helper()
	r := &reader{b: samples(t, false)["unwrap"][1:]}
	return r.wraps()[0]
}

func TestContext(t *testing.T) {
	s := stub()
	entered := make(chan struct{})
	release := make(chan struct{})
	s.List = func() ([]Key, error) { entered <- struct{}{}; <-release; return nil, nil }
	c := start(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { _, err := c.List(ctx); result <- err }()
	<-entered
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("List = %v, want %v", err, context.Canceled)
	}
	close(release)
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("Status after an abandoned operation = %v", err)
	}
}

// TestServerBearsStrangers: whatever a connection sends, the others are served.
func TestServerBearsStrangers(t *testing.T) {
	c := start(t, stub())
	frame := func(op uint32, body ...byte) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))
		return append(binary.BigEndian.AppendUint32(b, op), body...)
	}
	for name, sent := range map[string][]byte{
		"nothing":          nil,
		"another protocol": []byte("GET / HTTP/1.1\r\n\r\n"),
		"no verb":          append([]byte(preamble), frame(1)...),
		"length 0":         append([]byte(preamble), 0, 0, 0, 0, 0, 0, 0, 0),
		"length 4 GiB":     append([]byte(preamble), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1),
		"announces much":   append([]byte(preamble), 3, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1),
		"a bad batch":      append([]byte(preamble), frame(1, byte(verbUnwrap), 0, 0, 16, 0)...),
	} {
		conn, err := net.Dial("unix", c.path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(sent)
		_ = conn.(*net.UnixConn).CloseWrite()
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("%s: the connection is not ended: %v", name, err)
		}
		conn.Close()
		if _, err := c.List(t.Context()); err != nil {
			t.Errorf("after %s: List = %v", name, err)
		}
	}
	conn, err := net.Dial("unix", c.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	if err := greet(conn, r); err != nil {
		t.Fatal(err)
	}
	for i, body := range [][]byte{{0}, {99}, {byte(verbDestroy), 1}, {byte(verbGenerate), 9, 9}, {byte(verbOpen), 1, 2, 3}} {
		if _, err := conn.Write(frame(uint32(i), body...)); err != nil {
			t.Fatal(err)
		}
		op, rest, err := readFrame(r)
		if err != nil || op != uint32(i) || status(rest[0]) != statusRefused {
			t.Errorf("request %x is answered with %d %x, %v; want a refusal", body, op, rest, err)
		}
	}
}

func TestUnwrapLimits(t *testing.T) {
	c := start(t, stub())
	for _, n := range []int{0, MaxBatch + 1} {
		if _, _, err := c.Unwrap(t.Context(), make([]block.Wrap, n)); err == nil || !strings.Contains(err.Error(), "limit") {
			t.Errorf("Unwrap of %d = %v, want the limit", n, err)
		}
	}
}

func TestClose(t *testing.T) {
	c := start(t, stub())
	c.Close()
	if _, err := c.List(t.Context()); !errors.Is(err, errClosedClient) {
		t.Errorf("List of a closed client = %v, want %v", err, errClosedClient)
	}
	if _, err := Dial(filepath.Join(t.TempDir(), "nobody")); err == nil {
		t.Error("Dial of nobody succeeded")
	}
}
