package release

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A cause is one way in which a well-formed request comes to nothing.
type cause struct {
	tls    *tls.Certificate
	req    kra.Request
	before func() (undo func())
	reason string // in the log
}

// causes are all that a stranger, or a decryptor, could wish to tell apart.
func causes(t *testing.T, w *world) map[string]cause {
	legal := w.hsm.header(t, "legal")
	key, signer := newECDSA(t), w.corp.person(t, "alice", "Example")
	ec := w.corp.second(t, key, aliceName)
	mallory := w.corp.second(t, key, pkix.Name{CommonName: "mallory", Organization: []string{"Elsewhere"}})
	foreigner := w.stranger.second(t, key, aliceName)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	expired := leafOf(t, w.corp.issue(t, aliceName, x509.ExtKeyUsageEmailProtection, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))
	to, dFor := toCertificate(t), func(box string, headers ...block.Header) kra.Delivery {
		d, err := kra.SignDelivery("example", box, newECDH(t).PublicKey(), rawOf(headers), signer.PrivateKey.(crypto.Signer))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := func(headers ...block.Header) kra.Delivery { return dFor("box1", headers...) }
	shows := func(c ...*x509.Certificate) kra.Presented { return kra.Presented{Certificates: c} }
	with := func(p kra.Presented, attributes, token string) kra.Presented {
		if attributes != "" {
			p.Attributes = [][]byte{[]byte(attributes)}
		}
		if token != "" {
			p.Tokens = []string{token}
		}
		return p
	}
	sealed := func(p kra.Presented, h block.Header) kra.Request { return compose(t, "", p, to, h) }
	channel, err := kra.NewRequest(rawOf([]block.Header{legal}), "")
	if err != nil {
		t.Fatal(err)
	}
	unknown, malloryTLS := w.info.said.Load(), w.corp.person(t, "mallory", "Elsewhere")
	revoke := func(cert *x509.Certificate) func() func() {
		return func() func() {
			w.info.said.Store(&sayings{repository: unknown.repository, revoked: []*x509.Certificate{cert}})
			return func() { w.info.said.Store(unknown) }
		}
	}
	fault := func() func() { w.hsm.before = errFault; return func() { w.hsm.before = nil } }
	return map[string]cause{
		"stranger: unknown key":                 {nil, sealed(shows(ec), strange(t)), nil, "no key of this box"},
		"stranger: no list passes":              {nil, sealed(shows(ec), w.hsm.header(t, "board")), nil, "not permitted"},
		"stranger: wrong person":                {nil, sealed(shows(mallory), legal), nil, "not permitted"},
		"stranger: channel only":                {nil, sealed(shows(ec), w.hsm.header(t, "payroll")), nil, "not permitted"},
		"stranger: rule on the address":         {nil, sealed(shows(ec), w.hsm.header(t, "lobby")), nil, "not permitted"},
		"stranger: unknown authority":           {nil, sealed(shows(foreigner), legal), nil, "unknown authority"},
		"stranger: expired certificate":         {nil, sealed(shows(expired), legal), nil, "expired"},
		"stranger: revoked certificate":         {nil, sealed(shows(ec), legal), revoke(ec), "revoked"},
		"stranger: certificate for signatures":  {nil, sealed(shows(leafOf(t, signer)), legal), nil, "not for encryption"},
		"stranger: certificate of another kind": {nil, sealed(shows(w.corp.second(t, p384, aliceName)), legal), nil, "P-256"},
		"stranger: claims another":              {nil, compose(t, "corp:CN=bob", shows(ec), to, legal), nil, "claims to be another"},
		"stranger: unknown person":              {nil, compose(t, "corp:CN=bob", kra.Presented{}, to, legal), nil, "no certificate of that decryptor"},
		"stranger: not a name":                  {nil, compose(t, "whoever", kra.Presented{}, to, legal), nil, "no certificate of that decryptor"},
		"stranger: person without right":        {nil, compose(t, "corp:CN=mallory,O=Elsewhere", kra.Presented{}, to, legal), nil, "not permitted"},
		"stranger: key signed by another":       {nil, compose(t, "", shows(mallory), d(legal), legal), nil, "verify delivery key"},
		"stranger: key signed for another box":  {nil, compose(t, "", shows(leafOf(t, signer)), dFor("box2", legal), legal), nil, "verify delivery key"},
		"stranger: key signed for other blocks": {nil, compose(t, "", shows(leafOf(t, signer)), d(legal, legal), legal), nil, "verify delivery key"},
		"stranger: forged attributes":           {nil, sealed(with(shows(ec), "forged", ""), legal), nil, "not signed"},
		"stranger: forged token":                {nil, sealed(with(shows(ec), "", "forged"), legal), nil, "not signed"},
		"stranger: stolen stanza":               {nil, sealed(shows(ec), foreign(t, legal)), nil, "header MAC"},
		"stranger: does not open":               {nil, sealed(shows(ec), damaged(t, legal)), nil, "unwrap"},
		"stranger: HSM fails":                   {nil, sealed(shows(ec), legal), fault, "custody"},
		"decryptor: wrong person":               {&malloryTLS, channel, nil, "not permitted"},
		"decryptor: revoked certificate":        {&signer, channel, revoke(leafOf(t, signer)), "revoked"},
		"decryptor: certificate of another":     {&signer, compose(t, "", shows(mallory), to, legal), nil, "certificate of another"},
		"decryptor: unknown authority":          {&signer, compose(t, "", shows(foreigner), to, legal), nil, "unknown authority"},
		"decryptor: cannot be delivered to":     {&signer, compose(t, "", kra.Presented{}, to, legal), nil, "not for encryption"},
		"decryptor: forged attributes":          {&signer, compose(t, "", with(kra.Presented{}, "forged", ""), to, legal), nil, "not for encryption"},
		"decryptor: forged token":               {&signer, compose(t, "", with(shows(ec), "", "forged"), to, legal), nil, "not signed"},
	}
}

// TestNothingTellsAStranger compares the answers of all causes, byte for byte with their heads, and to the nanosecond when
// they leave: each at the same time after its arrival, however long anything took before. The clock is the test's.
func TestNothingTellsAStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := hsmtest.New(t)
		w := newWorldOn(t, tokenOf(inside{c}))
		w.clock.Store(&moment{time.Now(), true})
		w.strangersWorld()
		first, firstName := "", ""
		for name, tt := range causes(t, w) {
			undo := func() {}
			if tt.before != nil {
				undo = tt.before()
			}
			for _, slow := range []time.Duration{0, 7 * time.Millisecond, 99 * time.Millisecond} {
				w.info.slow.Store(int64(slow))
				begin := time.Now()
				answer := w.serveOne(tt.tls, tt.req.Encode())
				if took := time.Since(begin); took != RefusalDelay {
					t.Errorf("%s: left after %v; want %v", name, took, RefusalDelay)
				}
				if first == "" {
					first, firstName = answer, name
				}
				if answer != first {
					t.Errorf("%s:\n%s\nbut %s:\n%s", name, answer, firstName, first)
				}
			}
			undo()
			e := w.jour.last(1)[0]
			if e.Kind != receipt.Refusal || !strings.Contains(entryText(e), tt.reason) || strings.Contains(entryText(e), `"channel":"re-encrypted"`) != (tt.tls == nil) {
				t.Errorf("%s: logged as %s; want %q", name, entryText(e), tt.reason)
			}
		}
		if !strings.Contains(first, `{"results":[{"refused":true}]}`) {
			t.Errorf("refused with %s", first)
		}
		ok := compose(t, alice, kra.Presented{}, toCertificate(t), w.hsm.header(t, "legal"))
		w.info.slow.Store(0)
		if answer := w.serveOne(nil, ok.Encode()); !strings.Contains(answer, `{"sealed":`) {
			t.Errorf("what is not refused: %s", answer)
		}
	})
}

// TestRefusalOutlastsItsContext: net/http ends a request's context when the time to read it is over, and a decision may take
// longer. The refusal leaves at a multiple of the delay all the same.
func TestRefusalOutlastsItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := hsmtest.New(t)
		w := newWorldOn(t, tokenOf(inside{c}))
		w.clock.Store(&moment{time.Now(), true})
		w.strangersWorld()
		mallory := w.corp.person(t, "mallory", "Elsewhere")
		ask := request(t, w.hsm.header(t, "legal").Bytes())
		for slow, want := range map[time.Duration]time.Duration{0: RefusalDelay, bodyWithin + time.Millisecond: bodyWithin + RefusalDelay, bodyWithin + 3*RefusalDelay/2: bodyWithin + 2*RefusalDelay} {
			w.info.slow.Store(int64(slow))
			for _, within := range []time.Duration{0, bodyWithin} {
				ctx, cancel := context.WithTimeout(context.Background(), within)
				begin := time.Now()
				answer := w.serveIn(ctx, &mallory, ask)
				if took := time.Since(begin); took != want || !strings.Contains(answer, `{"refused":true}`) {
					t.Errorf("decided after %v, context over after %v: left after %v; want %v\n%s", slow, within, took, want, answer)
				}
				cancel()
			}
		}
	})
}

// strangersWorld has, besides legal-team for anyone, one access identifier for the channel only and one with a rule that
// asks for what no certificate vouches.
func (w *world) strangersWorld() {
	w.t.Helper()
	w.def.Rules = append(w.def.Rules, policy.RuleDef{Name: "here", Expr: `source.net("0.0.0.0/0") || source.net("::/0")`})
	w.def.Access = append(w.def.Access,
		policy.AccessDef{ID: "payroll", Keys: []block.KeyID{w.hsm.add("payroll")}, Lists: []string{"staff"}},
		policy.AccessDef{ID: "lobby", Keys: []block.KeyID{w.hsm.add("lobby")}, Lists: []string{"here"}, Delivery: policy.ToAnyone})
	w.anyone()
	key := newECDSA(w.t)
	w.info.said.Store(&sayings{slow: &w.info.slow, repository: map[string][][]*x509.Certificate{
		alice:                         {{w.corp.second(w.t, key, aliceName)}},
		"corp:CN=mallory,O=Elsewhere": {{w.corp.second(w.t, key, pkix.Name{CommonName: "mallory", Organization: []string{"Elsewhere"}})}},
	}})
}

// serveOne serves one request without a network and returns all that leaves.
func (w *world) serveOne(cert *tls.Certificate, body []byte) string {
	w.t.Helper()
	return w.serveIn(context.Background(), cert, body)
}

// serveIn does so in a context, as that of a connection.
func (w *world) serveIn(ctx context.Context, cert *tls.Certificate, body []byte) string {
	w.t.Helper()
	r := httptest.NewRequest(http.MethodPost, kra.PathRelease, strings.NewReader(string(body)))
	r.Header.Set("Content-Type", kra.ContentType)
	r.TLS = &tls.ConnectionState{}
	p := &peer{addr: netip.MustParseAddr("192.0.2.7")}
	if cert != nil {
		r.TLS.PeerCertificates = []*x509.Certificate{leafOf(w.t, *cert)}
	}
	rec := httptest.NewRecorder()
	w.server.serve(rec, r.WithContext(withThisPeer(ctx, p)))
	rec.Header().Del("Connection") // a connection without an accepted certificate is closed, whatever the answer
	var head strings.Builder
	if err := rec.Header().Write(&head); err != nil {
		w.t.Fatal(err)
	}
	return http.StatusText(rec.Code) + "\n" + head.String() + rec.Body.String()
}

func TestStrangersAreBounded(t *testing.T) { // by their address; and counted by it
	w := newWorld(t)
	w.anyone()
	w.server.delay = time.Millisecond
	h, key := w.hsm.header(t, "legal"), newECDSA(t)
	req := compose(t, "", kra.Presented{Certificates: []*x509.Certificate{w.corp.second(t, key, aliceName)}}, toCertificate(t), h)
	if err := w.sealedTo(w.client(), req, key, h); err != nil {
		t.Fatal(err)
	}
	here := netip.MustParseAddr("127.0.0.1")
	for range maxFromOne {
		if !w.server.strangers.enter(here, 1000) {
			t.Fatal("refused below the bound")
		}
	}
	if code, body := w.post(w.client(), req.Encode()); code != http.StatusServiceUnavailable || !strings.Contains(string(body), kra.CodeBusy) {
		t.Errorf("above the bound: %d", code)
	}
	if code, _ := w.ask(w.alice(), "", h); code != http.StatusOK {
		t.Errorf("a decryptor whom the channel proves: %d", code)
	}
	if !w.server.strangers.enter(netip.MustParseAddr("192.0.2.1"), 1000) {
		t.Error("another address is refused")
	}
	w.server.strangers.leave(netip.MustParseAddr("192.0.2.1"), 1000)
	for range maxFromOne {
		w.server.strangers.leave(here, 1000)
	}
	if err := w.sealedTo(w.client(), req, key, h); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	got := w.server.Sources()
	if len(got) != 1 || got[0] != (Source{netip.MustParsePrefix("127.0.0.1/32"), 2, 2}) {
		t.Errorf("Sources = %v", got)
	}
	if s := &w.server.strangers; s.all != 0 || s.bytes != 0 || len(s.at) != 0 {
		t.Errorf("%d at work, %d bytes", s.all, s.bytes)
	}
	for i := range maxSources + 10 {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		w.server.strangers.charge(a, 1, time.Now())
	}
	if n := len(w.server.Sources()); n > maxSources+1 {
		t.Errorf("%d sources are counted", n)
	}
	if sourceOf(netip.MustParseAddr("2001:db8::1")) != sourceOf(netip.MustParseAddr("2001:db8::ffff:2")) {
		t.Error("one subscriber's addresses are many sources")
	}
}

// TestStrangersAllowance: one source, and all together, may do so much at once, and then so much a second.
func TestStrangersAllowance(t *testing.T) {
	var s strangers
	now := time.Now()
	ask := func(a netip.Addr, headers int, now time.Time) (let int) { // headers that are let in, each time as many as one request has
		for range 2 * burstFromOne / headers {
			if s.charge(a, headers, now) {
				let += headers
			}
		}
		return let
	}
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for _, tt := range []struct {
		from    netip.Addr
		headers int
		at      time.Duration
		want    int
	}{{one, 1, 0, burstFromOne}, {one, 1, 0, 0}, {other, 64, 0, burstFromOne}, {one, 1, time.Second, rateFromOne}, {one, 1, time.Second, 0},
		{other, 64, 3 * time.Second, 0}, {other, 64, 4 * time.Second, 64}, {other, 1, 4 * time.Second, 0},
		{one, 1, 90 * time.Second, burstFromOne}, {other, 16, time.Hour, burstFromOne}, {one, 64, time.Hour, burstFromOne}} {
		if got := ask(tt.from, tt.headers, now.Add(tt.at)); got != tt.want {
			t.Errorf("%s after %v, %d at a time: %d headers; want %d", tt.from, tt.at, tt.headers, got, tt.want)
		}
	}
	let := 0
	for i := range 20 {
		let += ask(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 64, now.Add(2*time.Hour))
	}
	if let != burstOfAll {
		t.Errorf("all together: %d headers; want %d", let, burstOfAll)
	}
}

// TestStrangersAreForgotten: however many there were, a source that comes later has an allowance of its own, once others
// have rested; what is forgotten is still counted.
func TestStrangersAreForgotten(t *testing.T) {
	var srv Server
	s, now := &srv.strangers, time.Now()
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	busy, late := at(1<<20), at(1<<21)
	for range burstFromOne {
		s.charge(busy, 1, now)
	}
	const all = 3*maxSources + burstFromOne + 1
	for i := range 3 * maxSources {
		s.charge(at(i), 1, now)
	}
	s.released(at(5), 1)
	if n := len(srv.Sources()); n > maxSources+1 {
		t.Fatalf("%d sources are counted", n)
	}
	now = now.Add(2 * time.Second)
	if !s.charge(late, burstFromOne, now) || s.charge(late, 1, now) {
		t.Error("a source that came late has no allowance of its own")
	}
	if s.charge(busy, 3*rateFromOne, now) {
		t.Error("a source that did not rest was forgotten")
	}
	var requests, released uint64
	for _, of := range srv.Sources() {
		requests, released = requests+of.Requests, released+of.Released
	}
	if n := len(srv.Sources()); requests != all+2 || released != 1 || n > 10 {
		t.Errorf("%d requests and %d keys of %d sources; want %d, 1", requests, released, n, all+2)
	}
}

// TestStrangersPayByTheHeader asks over the network for more headers than one source may have decided.
func TestStrangersPayByTheHeader(t *testing.T) {
	w := newWorld(t)
	w.anyone()
	w.server.delay = time.Millisecond
	h, here := w.hsm.header(t, "legal"), netip.MustParseAddr("127.0.0.1")
	later := time.Now().Add(time.Hour) // the allowance does not grow until then
	if !w.server.strangers.charge(here, burstFromOne-5, later) {
		t.Fatal("refused below the bound")
	}
	shown := kra.Presented{Certificates: []*x509.Certificate{w.corp.second(t, newECDSA(t), aliceName)}}
	for i, tt := range []struct{ headers, want int }{{3, http.StatusOK}, {3, http.StatusServiceUnavailable}, {2, http.StatusOK}, {1, http.StatusServiceUnavailable}} {
		calls := w.hsm.calls
		req := compose(t, "", shown, toCertificate(t), slices.Repeat([]block.Header{h}, tt.headers)...)
		if code, _ := w.post(w.client(), req.Encode()); code != tt.want || (w.hsm.calls != calls) != (code == http.StatusOK) {
			t.Errorf("request %d, with %d headers: %d; want %d", i, tt.headers, code, tt.want)
		}
	}
}

func TestStrangerNeverOverTheChannel(t *testing.T) { // whoever proves nothing gets no key in the clear, whatever he shows
	w := newWorld(t)
	w.anyone()
	over := overChannel(t)
	cert := w.corp.second(t, newECDSA(t), aliceName)
	for name, req := range map[string]kra.Request{
		"with a certificate": compose(t, "", kra.Presented{Certificates: []*x509.Certificate{cert}}, over, w.hsm.header(t, "legal")),
		"with a name":        compose(t, alice, kra.Presented{}, over, w.hsm.header(t, "legal")),
		"with nothing":       compose(t, "", kra.Presented{}, toCertificate(t), w.hsm.header(t, "legal")),
	} {
		calls := w.hsm.calls
		if code, body := w.post(w.client(), req.Encode()); code != http.StatusUnauthorized || w.hsm.calls != calls {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
}
