package release

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/label"
)

// Confirm is what the TPM's process answers, in form: the port hands it on and looks at no signature. Real ones are in package boxtest.
func (authority) Confirm(_ context.Context, c label.Challenge, channel []byte) (label.Confirmations, error) {
	switch c.Label {
	case "", label.KeyRelease:
	case "broken":
		return label.Confirmations{}, errors.New("no TPM")
	default:
		return label.Confirmations{}, ErrNoLabel
	}
	s, err := label.Domain{Name: "example"}.Confirm("box1", label.KeyRelease, c.Nonce, channel)
	if err != nil {
		return label.Confirmations{}, err
	}
	pcrs, some := label.PCRs{}, []byte{1, 2, 3}
	for _, i := range label.ApprovedPCRs() {
		pcrs[i] = label.Digest{byte(i)}
	}
	v := label.SignedValue{Value: label.Value{Domain: "example", Label: label.KeyRelease, Version: 1, Release: "v1", Commit: "c", PCRs: pcrs}, Signature: some}
	return label.Confirmations{Confirmations: []label.Confirmation{{Statement: s, Signature: some, Quote: label.Signed{Attest: some, Signature: some},
		PCRs: pcrs, Value: v, Chain: [][]byte{some}, Platform: some, Authority: some}}}, nil
}

// Challengers are bounded, in all and from one source, and whoever leaves makes room.
func TestChallengersAreBounded(t *testing.T) {
	c := newChallengers()
	one := netip.MustParseAddr("192.0.2.1")
	for i := range maxChallengersFrom {
		if !c.enter(one) {
			t.Fatalf("challenger %d of one source is turned away", i)
		}
	}
	if c.enter(one) {
		t.Error("one source has more than its share")
	}
	others := []netip.Addr{}
	for a := netip.MustParseAddr("198.51.100.1"); len(others) < maxChallengers-maxChallengersFrom; a = a.Next() {
		if !c.enter(a) {
			t.Fatalf("%s is turned away", a)
		}
		others = append(others, a)
	}
	if c.enter(netip.MustParseAddr("203.0.113.1")) {
		t.Error("more wait than may")
	}
	for _, a := range append(others, one, one) {
		c.leave(a)
	}
	if c.all != 0 || len(c.from) != 0 || !c.enter(one) {
		t.Errorf("%d wait, %d sources are kept", c.all, len(c.from))
	}
}

// A slowProver is a TPM that takes its time.
type slowProver struct {
	authority
	began chan struct{} // one for each answer that it begins
	end   chan struct{} // one for each that it may end
}

func (p slowProver) Confirm(ctx context.Context, c label.Challenge, channel []byte) (label.Confirmations, error) {
	p.began <- struct{}{}
	<-p.end
	return p.authority.Confirm(ctx, c, channel)
}

// Who hangs up leaves no work behind him that others have to wait for: his turn lasts until the TPM is done.
func TestChallengerHangsUp(t *testing.T) {
	w := newWorldOn(t, newToken(t))
	p := slowProver{w.box, make(chan struct{}, 64), make(chan struct{})}
	w.server.o.Prover = p
	w.start()
	body := label.Challenge{Nonce: make([]byte, label.NonceSize), Label: label.KeyRelease}.Bytes()
	ask := func(ctx context.Context) (int, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+w.addr+kra.PathChallenge, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", kra.ContentType)
		resp, err := w.client().Do(req)
		if err != nil {
			return 0, err
		}
		resp.Body.Close()
		return resp.StatusCode, nil
	}
	ctx, hangUp := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() { _, err := ask(ctx); gone <- err }()
	<-p.began
	hangUp()
	if err := <-gone; err == nil {
		t.Fatal("nobody hung up")
	}
	patient := make(chan int, 1)
	go func() { code, _ := ask(t.Context()); patient <- code }()
	for until := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		w.server.challengers.mu.Lock()
		n := w.server.challengers.all
		w.server.challengers.mu.Unlock()
		if n == 2 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("%d hold a place, want who hung up and who waits", n)
		}
	}
	if len(p.began) != 0 {
		t.Error("the TPM has two challenges at once")
	}
	close(p.end)
	if code := <-patient; code != http.StatusOK {
		t.Errorf("who waited got %d", code)
	}
}

// Half a challenge holds no place.
func TestHalfAChallengeHoldsNoPlace(t *testing.T) {
	w := newWorld(t)
	pr, pw := io.Pipe()
	defer pw.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+w.addr+kra.PathChallenge, pr)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = 100
	req.Header.Set("Content-Type", kra.ContentType)
	go func() { _, _ = w.client().Do(req) }()
	if _, err := pw.Write([]byte("{")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // for a place that it must not take
	w.server.challengers.mu.Lock()
	defer w.server.challengers.mu.Unlock()
	if w.server.challengers.all != 0 {
		t.Error("half a challenge holds a place")
	}
}
