package release

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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
	for i := byte(1); len(others) < maxChallengers-maxChallengersFrom; i++ {
		a := netip.AddrFrom4([4]byte{198, 51, i, 1})
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

// A neighbourhood has a share, however many sources it has; so other neighbourhoods find room.
func TestPlacesOfANeighbourhood(t *testing.T) {
	for name, near := range map[string]func(i int) netip.Addr{
		"IPv4": func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) },
		"IPv6": func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, 0, byte(i)}) },
	} {
		other := netip.MustParseAddr("203.0.113.1")
		c, s := newChallengers(), &strangers{}
		waiting, working := 0, 0
		for i := range 256 {
			if c.enter(near(i)) {
				waiting++
			}
			if s.enter(near(i), 1) {
				working++
			}
		}
		if waiting != maxChallengersNear || !c.enter(other) {
			t.Errorf("%s: %d challengers of one neighbourhood, want %d and room for another", name, waiting, maxChallengersNear)
		}
		if working != maxFromNear || !s.enter(other, maxBodiesFromOne) {
			t.Errorf("%s: %d strangers of one neighbourhood, want %d and room for another", name, working, maxFromNear)
		}
		c.leave(near(0))
		s.leave(near(0), 1)
		if !c.enter(near(255)) || !s.enter(near(255), 1) {
			t.Errorf("%s: who left makes no room", name)
		}
		full := &strangers{}
		for i := range maxBodiesFromNear / maxBodiesFromOne {
			if !full.enter(near(i), maxBodiesFromOne) {
				t.Errorf("%s: body %d is refused", name, i)
			}
		}
		if full.enter(near(255), 1) {
			t.Errorf("%s: one neighbourhood sends more bytes than may be", name)
		}
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
	c, err := tls.Dial("tcp", w.addr, w.client().Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: box\r\nContent-Type: %s\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n", kra.PathChallenge, kra.ContentType)
	if err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, len("HTTP/1.1 100 Continue"))
	if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "HTTP/1.1 100 Continue" {
		t.Fatalf("%q, %v", answer, err)
	}
	// The server says so when it begins to read the body: from here on, until the body is there, it does nothing else.
	w.server.challengers.mu.Lock()
	defer w.server.challengers.mu.Unlock()
	if w.server.challengers.all != 0 {
		t.Error("half a challenge holds a place")
	}
}
