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
	"reflect"
	"slices"
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
func (b *box) Preload(_ context.Context, bundle []byte) (Installed, error) {
	return NewInstalled(label.Box{}, label.Officer{}, len(bundle), nil), b.called()
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
func (b *box) LeafImport(_ context.Context, spki []byte) ([][]byte, error) {
	return [][]byte{spki, {3}}, b.called()
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
func (b *box) BindSecret(_ context.Context, l label.ID, secret []byte) ([]byte, error) {
	return append([]byte(l), secret...), b.called()
}
func (b *box) OpenSecret(_ context.Context, l label.ID, blob []byte) ([]byte, error) {
	return bytes.TrimPrefix(blob, []byte(l)), b.called()
}
func (b *box) Present(_ context.Context, l label.ID, passphrase []byte, during time.Duration) error {
	if l != "attended" || string(passphrase) != "open sesame" || during != 2*time.Second {
		return Refused{"not the operator"}
	}
	return b.called()
}
func (b *box) OperatorChallenge(_ context.Context, l label.ID, during time.Duration) ([]byte, error) {
	return fmt.Appendf(nil, "%s %v", l, during), b.called()
}
func (b *box) OperatorAnswer(_ context.Context, text []byte) error {
	if string(text) != "answer" {
		return Refused{"no answer"}
	}
	return b.called()
}
func (b *box) Absent(_ context.Context, l label.ID) error {
	if l != "attended" {
		return Refused{"another label"}
	}
	return b.called()
}
func (b *box) Advance(context.Context) (uint64, error) { return 5, b.called() }
func (b *box) Extend(_ context.Context, s label.Stage) error {
	if s != label.Running {
		return Refused{"wrong stage"}
	}
	return b.called()
}
func (b *box) WriteHalf(_ context.Context, half []byte) error {
	if len(half) != 3 || half[0] != 9 {
		return Refused{"not the half"}
	}
	return nil
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
	if x, err := c.LeafImport(ctx, []byte{5}); err != nil || len(x) != 2 || x[1][0] != 3 {
		t.Errorf("LeafImport() = %v, %v", x, err)
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

// What is about labels crosses the channel as it is.
func TestLabelsOnTheChannel(t *testing.T) {
	path, _ := listen(t, &box{})
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ctx := t.Context()
	if x, err := c.BindSecret(ctx, "root", []byte("abc")); err != nil || string(x) != "rootabc" {
		t.Errorf("BindSecret() = %q, %v", x, err)
	}
	if x, err := c.OpenSecret(ctx, "root", []byte("rootabc")); err != nil || string(x) != "abc" {
		t.Errorf("OpenSecret() = %q, %v", x, err)
	}
	if err := c.Present(ctx, "attended", []byte("open sesame"), 2*time.Second); err != nil {
		t.Error(err)
	}
	if x, err := c.OperatorChallenge(ctx, "attended", time.Minute); err != nil || string(x) != "attended 1m0s" {
		t.Errorf("OperatorChallenge() = %q, %v", x, err)
	}
	if err := c.OperatorAnswer(ctx, []byte("answer")); err != nil {
		t.Error(err)
	}
	if err := c.Absent(ctx, "attended"); err != nil {
		t.Error(err)
	}
	if n, err := c.Advance(ctx); err != nil || n != 5 {
		t.Errorf("Advance() = %d, %v", n, err)
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
	if n, err := i.Preload(t.Context(), []byte("fleet")); err != nil || n != 5 {
		t.Errorf("Preload() = %d, %v", n, err)
	}
	if err := i.WriteHalf(t.Context(), []byte{9, 9, 9}); err != nil {
		t.Error(err)
	}
	if err := i.WriteHalf(t.Context(), []byte{8}); !errors.As(err, &refused) {
		t.Errorf("WriteHalf() = %v; want the refusal", err)
	}
}

// Who is not process 1 can neither extend nor unseal, however it asks; and process 1 signs nothing.
func TestChannelsAreApart(t *testing.T) {
	b := &box{}
	for _, c := range []struct {
		serve func(net.Conn)
		ops   []op
	}{
		{func(c net.Conn) { _ = ServeAgent(context.Background(), c, b) }, []op{opExtend, opUnseal, opPreload, opHalf, "", "UNSEAL"}},
		{func(c net.Conn) { _ = ServeInit(context.Background(), c, b) }, []op{opWrite, opTLS, opInstall, opRequest, opRecord, opBind, opOpen, opPresent, opAsk, opAnswer, opAbsent, opAdvance, opEvents, "", "x"}},
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

// The derived keys are fixed for good: every store in the field hangs on them.
func TestDerive(t *testing.T) {
	o, err := NewOpened(bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32))
	if err != nil {
		t.Fatal(err)
	}
	store, chain := Derive(o)
	// By another implementation of RFC 5869, as the comments of Derive and WithUnlock say.
	if got := hex.EncodeToString(store[:]); got != wantStore {
		t.Errorf("store key %s; want %s", got, wantStore)
	}
	if got := hex.EncodeToString(chain[:]); got != wantChain {
		t.Errorf("chain key %s; want %s", got, wantChain)
	}
	attended := WithUnlock(store, [32]byte(bytes.Repeat([]byte{3}, 32)))
	if got := hex.EncodeToString(attended[:]); got != wantAttended {
		t.Errorf("store key of an attended box %s; want %s", got, wantAttended)
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
	wantStore    = "eb6fad090c749ccd2165d365f270dfa740078c5c5d806d52eb97498f24e6d916"
	wantChain    = "7adf38320758886bc8efa5926585bb8141df9177811829d7493a711d3350197e"
	wantAttended = "b6b8cab8dbc0ac9c7e4b2f36a7725109dbe67aa95caa2be17cc033f3f60f3562"
)

func (b *box) Advertise(_ context.Context, addresses []string, life time.Duration) ([]label.SignedAdvert, error) {
	if len(addresses) != 1 || life != time.Hour {
		return nil, Refused{"not what was asked"}
	}
	return nil, nil
}

func (b *box) Retract(_ context.Context, l label.ID) (label.SignedRetraction, error) {
	return label.SignedRetraction{}, Refused{"no label " + string(l)}
}

func (b *box) Holdings(context.Context) ([]Holding, error) {
	return []Holding{{Kind: LabelKey, Label: label.Root}, {Kind: OwnerAuth, Escrowed: true}}, nil
}

func (b *box) Zeroize(context.Context) error { return Refused{"clear the TPM"} }

// A refusal to zeroize says what to do instead.
func TestZeroize(t *testing.T) {
	path, _ := listen(t, &box{})
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.Zeroize(t.Context()); !errors.Is(err, Refused{"clear the TPM"}) {
		t.Errorf("Zeroize() = %v", err)
	}
}

func (b *box) Events(context.Context) (Events, error) {
	e := Events{Count: MaxEvents + 7}
	for range MaxEvents { // the longest that can be told, of what takes the most room in JSON
		e.Events = append(e.Events, Event{PCR: 1 << 31, Type: "EV_EFI_BOOT_SERVICES_APPLICATION", Digest: strings.Repeat("f", 64), Text: strings.Repeat("<", MaxEventText)})
	}
	for i := range label.MaxPCR + 1 {
		e.Differs = append(e.Differs, Difference{PCR: i, Log: label.Digest{1}, TPM: label.Digest{2}, After: "somebody"})
	}
	return e, b.called()
}

// The longest event log goes through as it is.
func TestEvents(t *testing.T) {
	path, _ := listen(t, &box{})
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	want, _ := new(box).Events(t.Context())
	if got, err := c.Events(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Events() = %d events, %v", len(got.Events), err)
	}
}

// Holdings go through as they are.
func TestHoldings(t *testing.T) {
	path, _ := listen(t, &box{})
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	want, _ := new(box).Holdings(t.Context())
	if got, err := c.Holdings(t.Context()); err != nil || !slices.Equal(got, want) {
		t.Errorf("Holdings() = %v, %v; want %v", got, err, want)
	}
}

// Adverts go through as they are asked for, and refusals as what they are.
func TestAdverts(t *testing.T) {
	path, _ := listen(t, &box{})
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if all, err := c.Advertise(t.Context(), []string{"https://box1.example:8443"}, time.Hour); err != nil || len(all) != 0 {
		t.Errorf("Advertise() = %v, %v", all, err)
	}
	var refused Refused
	if _, err := c.Advertise(t.Context(), nil, time.Hour); !errors.As(err, &refused) {
		t.Errorf("Advertise(nowhere) = %v", err)
	}
	if _, err := c.Retract(t.Context(), "root"); !errors.As(err, &refused) || refused.Reason != "no label root" {
		t.Errorf("Retract() = %v", err)
	}
}
