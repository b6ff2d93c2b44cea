package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"testing"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/jwe"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/client/clienttest"
)

func pairOf(t *testing.T) func(cert, key []byte) *tls.Certificate {
	return func(cert, key []byte) *tls.Certificate {
		t.Helper()
		c, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return &c
	}
}

// headerFor is the header of a new block for legal-team.
func headerFor(t *testing.T, a *clienttest.Agent) block.Header {
	t.Helper()
	c := as(t, a, "")
	h, _, err := client.ReadHeader(bytes.NewReader(encrypt(t, "text", to(t, c, []kra.AccessID{"legal-team"})...)))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestDelivery: keys sealed to a second pair, or to a key that a certificate's key signed, with and without a certificate
// in the channel; and what an agent that does otherwise comes to.
func TestDelivery(t *testing.T) {
	a := clienttest.New(t)
	a.AddKey(t, "legal-team", "Legal team", block.SuiteP256)
	a.Allow(func(_ kra.AccessID, name string) bool { return name == "alice" })
	trust, err := client.ParseTrust(a.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	channel, ec, rs := pairOf(t)(a.Person(t, "alice")), pairOf(t)(a.Second(t, "alice", block.SuiteP256)), pairOf(t)(a.Second(t, "alice", block.SuiteRSAOAEP))
	mallory := pairOf(t)(a.Second(t, "mallory", block.SuiteP256))
	only := &tls.Certificate{PrivateKey: rs.PrivateKey}
	h := headerFor(t, a)
	for name, tt := range map[string]struct {
		channel *tls.Certificate
		deliver client.Delivery
		lie     func(*clienttest.Lie)
		want    error
	}{
		"second pair EC":              {channel, client.Delivery{To: kra.ToCertificate, Pair: ec}, nil, nil},
		"second pair RSA":             {channel, client.Delivery{To: kra.ToCertificate, Pair: rs}, nil, nil},
		"key signed by the channel's": {channel, client.Delivery{To: kra.ToKey}, nil, nil},
		"nobody proved, EC":           {nil, client.Delivery{To: kra.ToCertificate, Pair: ec}, nil, nil},
		"nobody proved, RSA":          {nil, client.Delivery{To: kra.ToCertificate, Pair: rs}, nil, nil},
		"nobody proved, named":        {nil, client.Delivery{To: kra.ToCertificate, Pair: only, Decryptor: "corp:CN=alice"}, nil, nil},
		"nobody proved, key":          {nil, client.Delivery{To: kra.ToKey, Pair: channel}, nil, nil},
		"refused":                     {nil, client.Delivery{To: kra.ToCertificate, Pair: mallory}, nil, client.ErrRefused},
		"in the clear":                {nil, client.Delivery{To: kra.ToCertificate, Pair: ec}, func(l *clienttest.Lie) { l.InTheClear = true }, &client.Untrusted{}},
		"sealed by the HSM, unasked":  {nil, client.Delivery{To: kra.ToCertificate, Pair: rs}, func(l *clienttest.Lie) { l.Unasked = true }, &client.Untrusted{}},
		"answer to another header":    {nil, client.Delivery{To: kra.ToCertificate, Pair: ec}, func(l *clienttest.Lie) { l.Elsewhere = 1 }, &client.Untrusted{}},
		"another key":                 {channel, client.Delivery{To: kra.ToCertificate, Pair: ec}, func(l *clienttest.Lie) { l.Key[0] ^= 1 }, &client.Untrusted{}},
	} {
		agent, err := client.NewAgent(client.Config{URL: a.URL, Trust: trust, Certificate: tt.channel, Delivery: tt.deliver})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a.Lie(tt.lie)
		answers, err := agent.Release(context.Background(), []block.Header{h})
		agent.Close()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var untrusted *client.Untrusted
		switch got := answers[0].Err; {
		case tt.want == nil:
			if got != nil || answers[0].Release.Key.Use(h.VerifyMAC) != nil {
				t.Errorf("%s: %v", name, got)
			}
		case errors.Is(tt.want, client.ErrRefused) != errors.Is(got, client.ErrRefused), !errors.Is(tt.want, client.ErrRefused) && !errors.As(got, &untrusted):
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestDeliveryKeyNamesTheBox: what a key signs for is the box at the other end of the connection. Who comes to another one
// next signs for that, too.
func TestDeliveryKeyNamesTheBox(t *testing.T) {
	a := clienttest.New(t)
	a.AddKey(t, "legal-team", "Legal team", block.SuiteP256)
	a.Allow(func(_ kra.AccessID, name string) bool { return name == "alice" })
	trust, err := client.ParseTrust(a.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	h, alice := headerFor(t, a), pairOf(t)(a.Person(t, "alice"))
	for elsewhere, want := range map[int]int{0: 1, 1: 2, 100: 1} { // requests
		a.Elsewhere(t, elsewhere)
		agent, err := client.NewAgent(client.Config{URL: a.URL, Trust: trust, Delivery: client.Delivery{To: kra.ToKey, Pair: alice}})
		if err != nil {
			t.Fatal(err)
		}
		before := a.Requests()
		answers, err := agent.Release(context.Background(), []block.Header{h})
		agent.Close()
		if err != nil {
			t.Fatalf("%d connections elsewhere: %v", elsewhere, err)
		}
		if elsewhere == 100 { // it is box1 that refuses what is for box2
			if !errors.Is(answers[0].Err, client.ErrRefused) {
				t.Errorf("signed for another box: %v", answers[0].Err)
			}
		} else if answers[0].Err != nil || answers[0].Release.Key.Use(h.VerifyMAC) != nil {
			t.Errorf("%d connections elsewhere: %v", elsewhere, answers[0].Err)
		}
		if n := a.Requests() - before; n != want {
			t.Errorf("%d connections elsewhere: %d requests; want %d", elsewhere, n, want)
		}
	}
}

func TestDeliveryRefused(t *testing.T) { // what could never be opened, or would be for nobody, is not asked
	a := clienttest.New(t)
	trust, err := client.ParseTrust(a.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]client.Delivery{
		"no pair":    {To: kra.ToCertificate},
		"no key":     {To: kra.ToKey, Pair: &tls.Certificate{}},
		"nobody":     {To: kra.ToCertificate, Pair: &tls.Certificate{PrivateKey: pairOf(t)(a.Person(t, "x")).PrivateKey}},
		"signatures": {To: kra.ToCertificate, Pair: pairOf(t)(a.Person(t, "x"))},
		"not a cert": {To: kra.ToCertificate, Pair: &tls.Certificate{Certificate: [][]byte{{1}}, PrivateKey: pairOf(t)(a.Person(t, "x")).PrivateKey}},
	} {
		if _, err := client.NewAgent(client.Config{URL: a.URL, Trust: trust, Delivery: d}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPresentedAlong(t *testing.T) { // with every request of a batch that needs several
	a := clienttest.New(t)
	a.AddKey(t, "legal-team", "Legal team", block.SuiteP256)
	a.Allow(func(kra.AccessID, string) bool { return true })
	trust, err := client.ParseTrust(a.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	agent, err := client.NewAgent(client.Config{URL: a.URL, Trust: trust, Certificate: pairOf(t)(a.Person(t, "alice")),
		Delivery: client.Delivery{Attributes: [][]byte{make([]byte, kra.MaxCertificate)}, Tokens: []string{"a.b.c"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	headers := make([]block.Header, kra.MaxHeaders+1)
	for i := range headers {
		headers[i] = headerFor(t, a)
	}
	answers, err := agent.Release(context.Background(), headers)
	if err != nil || answers[kra.MaxHeaders].Err != nil {
		t.Fatal(err, answers)
	}
	if p := a.Last().Presented(); a.Requests() != 2 || len(p.Attributes) != 1 || len(p.Tokens) != 1 || len(a.Last().Headers()) != 1 {
		t.Errorf("%d requests, the last with %d headers", a.Requests(), len(a.Last().Headers()))
	}
	who, err := agent.WhoAmI(context.Background())
	if err != nil || who.Decryptor != "corp:CN=alice" || len(who.Access) != 1 {
		t.Errorf("WhoAmI = %+v, %v", who, err)
	}
}

// TestDeliveryInside: a key that the agent's HSM sealed is taken only with a receipt that ties this very ciphertext to the
// request and to its place, and such a receipt goes with nothing else.
func TestDeliveryInside(t *testing.T) {
	a := clienttest.New(t)
	a.AddKey(t, "board", "Board", block.SuiteRSAOAEP)
	a.Allow(func(_ kra.AccessID, name string) bool { return name == "alice" })
	trust, err := client.ParseTrust(a.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	agent, err := client.NewAgent(client.Config{URL: a.URL, Trust: trust, Delivery: client.Delivery{To: kra.ToCertificate, Pair: pairOf(t)(a.Second(t, "alice", block.SuiteRSAOAEP))}})
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	dir, err := agent.Directory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte{7}, 32)
	w, err := block.Seal(block.SuiteOAEPSHA1, dir.Keys()[0].Public(), want, nil)
	if err != nil {
		t.Fatal(err)
	}
	head, err := jwe.ParseHead(fmt.Appendf(nil, `{"protected":"eyJlbmMiOiJBMjU2R0NNIn0","recipients":[{"encrypted_key":"%s","header":{"alg":"RSA-OAEP","kid":"%v"}}]}`,
		base64.RawURLEncoding.EncodeToString(w.Body()), w.KeyID()))
	if err != nil {
		t.Fatal(err)
	}
	e, err := head.Envelope()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		lie func(*clienttest.Lie)
		ok  bool
	}{
		"as it should be":          {nil, true},
		"answer to another header": {func(l *clienttest.Lie) { l.Elsewhere = 1 }, false},
		"another ciphertext":       {func(l *clienttest.Lie) { l.Unsaid = true }, false},
		"in the clear":             {func(l *clienttest.Lie) { l.InTheClear = true }, false},
	} {
		a.Lie(tt.lie)
		answers, err := agent.ReleaseEnvelopes(t.Context(), []block.Envelope{e})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var untrusted *client.Untrusted
		got := answers[0].Release.Key.Use(func(k []byte) error {
			if !bytes.Equal(k, want) {
				return errors.New("another key")
			}
			return nil
		})
		if tt.ok != (answers[0].Err == nil && got == nil) || !tt.ok && !errors.As(answers[0].Err, &untrusted) {
			t.Errorf("%s: %v, %v", name, answers[0].Err, got)
		}
	}
}
