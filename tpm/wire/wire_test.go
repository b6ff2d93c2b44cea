package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// box answers without a TPM; it counts and can be slow.
type box struct {
	calls atomic.Int32
	delay chan struct{} // closed to answer; nil: at once
	err   error
}

func (b *box) called() error {
	b.calls.Add(1)
	if b.delay != nil {
		<-b.delay
	}
	return b.err
}

func (b *box) Status(context.Context) (Status, error) {
	return Status{State: Enrolled, Stage: "running", PCRs: label.PCRs{4: {1}}}, b.called()
}
func (b *box) Record(context.Context) (label.Record, error) {
	return label.Record{Generation: 7, LogSize: 9}, b.called()
}
func (b *box) WriteRecord(_ context.Context, r label.Record) error {
	if r.Generation != 8 {
		return Refused{"wrong generation"}
	}
	return b.called()
}
func (b *box) LeafTLS(_ context.Context, spki []byte) ([][]byte, error) {
	return [][]byte{spki, {1}}, b.called()
}
func (b *box) LeafReceipt(_ context.Context, spki []byte) ([][]byte, error) {
	return [][]byte{spki, {2}}, b.called()
}
func (b *box) LeafReplica(_ context.Context, spki []byte, d label.Digest) ([][]byte, error) {
	return [][]byte{spki, d[:1]}, b.called()
}
func (b *box) LeafKeyRelease(_ context.Context, spki []byte, access string, u Usage) ([][]byte, error) {
	return [][]byte{spki, []byte(access), []byte(u)}, b.called()
}
func (b *box) EnrolRequest(context.Context) ([]byte, error) { return []byte("request"), b.called() }
func (b *box) EnrolInstall(_ context.Context, text []byte) (Installed, error) {
	return NewInstalled(label.Box{Name: string(text)}, label.Officer{Name: "alice"}, 2, bytes.Repeat([]byte{3}, 32)), b.called()
}
func (b *box) Random(_ context.Context, n int) ([]byte, error) { return make([]byte, n), b.called() }
func (b *box) Confirm(_ context.Context, c label.Challenge, channel []byte) (label.Confirmations, error) {
	return label.Confirmations{}, b.called()
}
func (b *box) Extend(_ context.Context, s label.Stage) error {
	if s != label.Running {
		return Refused{"wrong stage"}
	}
	return b.called()
}
func (b *box) Unseal(context.Context) (Opened, label.Record, error) {
	o, err := NewOpened(bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32))
	return o, label.Record{Generation: 7}, errors.Join(err, b.called())
}

// listen serves the agent's channel until the test ends; dropping ends the connections that are there.
func listen(t *testing.T, b *box) (path string, drop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "wire")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path = filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	conns := make(chan net.Conn, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
			go func() { _ = ServeAgent(context.Background(), c, b) }()
		}
	}()
	return path, func() { _ = (<-conns).Close() }
}

func TestAgentChannel(t *testing.T) {
	path, _ := listen(t, &box{})
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ctx := t.Context()
	if s, err := c.Status(ctx); err != nil || s.State != Enrolled || s.PCRs[4] != (label.Digest{1}) {
		t.Errorf("Status() = %+v, %v", s, err)
	}
	if r, err := c.Record(ctx); err != nil || r.Generation != 7 || r.LogSize != 9 {
		t.Errorf("Record() = %+v, %v", r, err)
	}
	if err := c.WriteRecord(ctx, label.Record{Generation: 8}); err != nil {
		t.Error(err)
	}
	var refused Refused
	if err := c.WriteRecord(ctx, label.Record{Generation: 9}); !errors.As(err, &refused) || refused.Reason != "wrong generation" {
		t.Errorf("WriteRecord() = %v; want the refusal", err)
	}
	if x, err := c.LeafTLS(ctx, []byte{5}); err != nil || len(x) != 2 || x[1][0] != 1 {
		t.Errorf("LeafTLS() = %v, %v", x, err)
	}
	if x, err := c.LeafReceipt(ctx, []byte{5}); err != nil || len(x) != 2 || x[1][0] != 2 {
		t.Errorf("LeafReceipt() = %v, %v", x, err)
	}
	if x, err := c.LeafReplica(ctx, []byte{5}, label.Digest{4}); err != nil || len(x) != 2 || x[1][0] != 4 {
		t.Errorf("LeafReplica() = %v, %v", x, err)
	}
	if x, err := c.LeafKeyRelease(ctx, []byte{5}, "legal", Agreement); err != nil || string(x[1]) != "legal" || string(x[2]) != "agreement" {
		t.Errorf("LeafKeyRelease() = %v, %v", x, err)
	}
	if x, err := c.EnrolRequest(ctx); err != nil || string(x) != "request" {
		t.Errorf("EnrolRequest() = %q, %v", x, err)
	}
	i, err := c.EnrolInstall(ctx, []byte("box1"))
	key, kerr := i.StoreKey()
	if err != nil || kerr != nil || i.Box.Name != "box1" || !i.NeedsStore || i.Approvals != 2 || key[31] != 3 {
		t.Errorf("EnrolInstall() = %+v, %v, %v", i, err, kerr)
	}
	if x, err := c.Random(ctx, 16); err != nil || len(x) != 16 {
		t.Errorf("Random() = %x, %v", x, err)
	}
}

func TestInitChannel(t *testing.T) {
	ours, theirs := net.Pipe()
	go func() { _ = ServeInit(context.Background(), theirs, &box{}) }()
	i := NewInit(ours)
	defer func() { _ = i.Close() }()
	if err := i.Extend(t.Context(), label.Running); err != nil {
		t.Error(err)
	}
	var refused Refused
	if err := i.Extend(t.Context(), label.Locked); !errors.As(err, &refused) {
		t.Errorf("Extend() = %v; want the refusal", err)
	}
	o, r, err := i.Unseal(t.Context())
	if err != nil || r.Generation != 7 {
		t.Fatalf("Unseal() = %+v, %v", r, err)
	}
	if err := o.Use(func(sealed, half []byte) error {
		if sealed[0] != 1 || half[31] != 2 {
			return fmt.Errorf("%x %x", sealed, half)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if s, err := i.Status(t.Context()); err != nil || s.Stage != "running" {
		t.Errorf("Status() = %+v, %v", s, err)
	}
}

// Who is not process 1 can neither extend nor unseal, however it asks; and process 1 signs nothing.
func TestChannelsAreApart(t *testing.T) {
	b := &box{}
	for _, c := range []struct {
		serve func(net.Conn)
		ops   []op
	}{
		{func(c net.Conn) { _ = ServeAgent(context.Background(), c, b) }, []op{opExtend, opUnseal, "", "UNSEAL"}},
		{func(c net.Conn) { _ = ServeInit(context.Background(), c, b) }, []op{opWrite, opTLS, opInstall, opRequest, opRecord, "", "x"}},
	} {
		ours, theirs := net.Pipe()
		go c.serve(theirs)
		for _, o := range c.ops {
			var refused Refused
			if _, err := exchange(t.Context(), ours, request{Op: o, Stage: "running", Record: make([]byte, 80)}); !errors.As(err, &refused) {
				t.Errorf("%q: %v; want a refusal", o, err)
			}
		}
		_ = ours.Close()
	}
	if n := b.calls.Load(); n != 0 {
		t.Errorf("%d requests went through", n)
	}
}

// A client outlives tpmd: a broken connection is dialled again, once for a call.
func TestClientDialsAgain(t *testing.T) {
	b := &box{}
	path, drop := listen(t, b)
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for range 3 {
		if _, err := c.Record(t.Context()); err != nil {
			t.Error(err)
		}
		drop()
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Record(t.Context()); err == nil {
		t.Error("Record() without a daemon: answered")
	}
	if n := b.calls.Load(); n != 3 {
		t.Errorf("%d calls came through; want 3", n)
	}
}

// A caller that gives up does not spoil the answer of the next one.
func TestCallerGivesUp(t *testing.T) {
	b := &box{delay: make(chan struct{})}
	path, _ := listen(t, b)
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.EnrolRequest(ctx); err == nil {
		t.Error("EnrolRequest() answered")
	}
	close(b.delay)
	if r, err := c.Record(t.Context()); err != nil || r.Generation != 7 {
		t.Errorf("Record() = %+v, %v", r, err)
	}
}

// A failure at the other end is no refusal, and the connection stays.
func TestFailure(t *testing.T) {
	b := &box{err: errors.New("the TPM burns")}
	path, _ := listen(t, b)
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for range 2 {
		_, err = c.Record(t.Context())
		var refused Refused
		if err == nil || errors.As(err, &refused) || !strings.Contains(err.Error(), "the TPM burns") {
			t.Errorf("Record() = %v", err)
		}
	}
	if n := b.calls.Load(); n != 2 {
		t.Errorf("%d calls; want 2: a failure is not asked for twice", n)
	}
}

func TestFrameLimits(t *testing.T) {
	var buf bytes.Buffer
	if err := writeFrame(&buf, request{Bundle: make([]byte, MaxFrame)}); err == nil || buf.Len() != 0 {
		t.Errorf("writeFrame of too much: %v", err)
	}
	over := binary.BigEndian.AppendUint32(nil, MaxFrame+1)
	if err := readFrame(bytes.NewReader(over), &request{}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("readFrame of too much: %v", err)
	}
	if err := readFrame(bytes.NewReader([]byte{0, 0, 0, 9, '{'}), &request{}); err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("readFrame cut short: %v", err)
	}
	if err := readFrame(bytes.NewReader(nil), &request{}); !errors.Is(err, io.EOF) {
		t.Errorf("readFrame of nothing: %v", err)
	}
	bad := append([]byte{0, 0, 0, 7}, "secret!"...)
	if err := readFrame(bytes.NewReader(bad), &request{}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("readFrame of rubbish: %v", err)
	}
}

// The two derived keys are fixed for good: every store in the field hangs on them.
func TestDerive(t *testing.T) {
	o, err := NewOpened(bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32))
	if err != nil {
		t.Fatal(err)
	}
	store, chain := Derive(o)
	// python: HKDF(SHA256, length 32, salt None, info).derive(b"\x01"*32 + b"\x02"*32)
	if got := hex.EncodeToString(store[:]); got != wantStore {
		t.Errorf("store key %s; want %s", got, wantStore)
	}
	if got := hex.EncodeToString(chain[:]); got != wantChain {
		t.Errorf("chain key %s; want %s", got, wantChain)
	}
	for _, s := range []string{fmt.Sprintf("%v", o), fmt.Sprintf("%+v", o), fmt.Sprintf("%#v", o)} {
		if strings.Contains(s, "1 1 1") || strings.Contains(s, "0x1, 0x1") || strings.Contains(s, "010101") {
			t.Errorf("printed: %s", s)
		}
	}
	o.Wipe()
	if err := o.Use(func(sealed, half []byte) error {
		if !bytes.Equal(sealed, make([]byte, 32)) || !bytes.Equal(half, make([]byte, 32)) {
			return errors.New("still there")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestZeroValues(t *testing.T) {
	var o Opened
	if err := o.Use(func([]byte, []byte) error { return nil }); err == nil || o.Valid() {
		t.Error("the zero Opened opens")
	}
	o.Wipe()
	if _, err := NewOpened(make([]byte, 31), make([]byte, 32)); err == nil {
		t.Error("NewOpened of 31 bytes")
	}
	if _, err := (Installed{NeedsStore: true}).StoreKey(); err == nil {
		t.Error("the zero Installed has a store key")
	}
	defer func() {
		if recover() == nil {
			t.Error("Derive of nothing gives keys")
		}
	}()
	Derive(o)
}

func FuzzFrame(f *testing.F) {
	seeds, err := os.ReadDir("testdata/fuzz/FuzzFrame")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	b := &box{}
	f.Fuzz(func(t *testing.T, stream []byte) {
		var q request
		if readFrame(bytes.NewReader(stream), &q) != nil {
			return
		}
		_, _ = forAgent(t.Context(), q, b)
		_, _ = forInit(t.Context(), q, b)
		var out bytes.Buffer
		if err := writeFrame(&out, q); err != nil {
			return
		}
		var again request
		if err := readFrame(&out, &again); err != nil || fmt.Sprint(again) != fmt.Sprint(q) {
			t.Errorf("request lost: %+v, %+v, %v", q, again, err)
		}
	})
}

const (
	wantStore = "e504a0109e77a1a57a1df2ff408336e3b372e0bab654a42a88ca37cb02c6615d"
	wantChain = "4f02b6b8cd0a86f708b6db8c0948909d455721311addeae7b259bcae06f979c9"
)
