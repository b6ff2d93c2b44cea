package release

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// entryText is what a record says: its kind, and the private part.
func entryText(e audit.Entry) string {
	return fmt.Sprintf("%s %s", e.Kind, e.Private)
}

func TestReleaseOverChannel(t *testing.T) { // a client certificate for signing is all that a decryptor needs
	w := newWorld(t)
	h := w.hsm.header(t, "legal")
	code, resp := w.ask(w.alice(), "", h)
	if code != http.StatusOK || !w.opens(h, resp, 0) || resp.Results[0].Access() != "legal-team" {
		t.Fatalf("alice: %d, refused %v", code, resp.Results[0].Refused())
	}
	code, resp = w.ask(w.mallory(), "", h)
	if code != http.StatusForbidden || !resp.Results[0].Refused() {
		t.Fatalf("mallory: %d", code)
	}
}

func TestDecidedLongAfterEncryption(t *testing.T) { // denied, rule changed, released, changed back: the same block
	w := newWorld(t)
	h, c := w.hsm.header(t, "legal"), w.mallory()
	for i, rule := range []string{testRule, `id.under("corp:O=Elsewhere")`, "false", "true"} {
		w.def.Rules[0].Expr = rule
		w.publish()
		code, resp := w.ask(c, "", h)
		if want := i%2 == 1; w.opens(h, resp, 0) != want || (code == http.StatusOK) != want {
			t.Errorf("rule %s: %d", rule, code)
		}
	}
}

func TestGroupGrowsUnseen(t *testing.T) { // the encryptor knows nothing of it: same keys to encrypt to, same block
	w := newWorld(t)
	w.server.delay = time.Millisecond
	w.def.Groups = []policy.GroupDef{{Name: "legal"}}
	w.def.Rules[0].Expr = `groups.has("legal")`
	w.publish()
	h, c := w.hsm.header(t, "legal"), w.alice()
	directory := func() string {
		b, err := w.snap.Load().Directory.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	before := directory()
	for i, members := range [][]string{{"corp:CN=bob,O=Example"}, {"corp:CN=bob,O=Example", "corp:CN=alice,O=Example"}} {
		w.def.Groups[0].Members = members
		w.publish()
		if code, resp := w.ask(c, "", h); w.opens(h, resp, 0) != (i == 1) {
			t.Errorf("members %q: %d", members, code)
		}
	}
	if directory() != before {
		t.Error("the directory changed with the group")
	}
}

func TestClaimedDecryptor(t *testing.T) { // the decryptor is who the channel says; a body that says otherwise is refused
	w := newWorld(t)
	w.server.delay = time.Millisecond
	h, c := w.hsm.header(t, "legal"), w.alice()
	for claim, want := range map[string]bool{
		"": true, "CN=alice,O=Example": true, "corp:CN=alice,O=Example": true,
		"CN=bob,O=Example": false, "other:CN=alice,O=Example": false, "CN=alice": false, "alice": false, "corp:": false, "corp": false,
		"cn=alice,o=example": false, " corp:CN=alice,O=Example": false,
	} {
		calls := w.hsm.calls
		code, resp := w.ask(c, claim, h)
		if got := w.opens(h, resp, 0); got != want || (code == http.StatusOK) != want {
			t.Errorf("claim %q: %d, released %v", claim, code, got)
		}
		if !want && w.hsm.calls != calls {
			t.Errorf("claim %q reached the HSM", claim)
		}
		if e := w.jour.last(1)[0]; !want && !strings.Contains(entryText(e), `"reason":"claims to be another decryptor"`) {
			t.Errorf("claim %q: logged as %s", claim, entryText(e))
		}
	}
}

// A wrapper puts a given stanza into a header, whatever the file key is.
type wrapper struct{ s *age.Stanza }

func (w wrapper) Wrap([]byte) ([]*age.Stanza, error) { return []*age.Stanza{w.s}, nil }

// withStanza is the header of a block that has only that stanza and whose key is another.
func withStanza(t *testing.T, s *age.Stanza) block.Header {
	t.Helper()
	var out strings.Builder
	enc, err := age.Encrypt(&out, wrapper{s})
	if err != nil {
		t.Fatal(err)
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	h, _, err := block.ParseHeader(strings.NewReader(out.String()), block.MaxHeader)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// foreign is the header of somebody's own block with a stanza that he took from another.
func foreign(t *testing.T, other block.Header) block.Header {
	t.Helper()
	return withStanza(t, other.Wraps()[0].Stanza())
}

// damaged is such a header, with a bit of the stanza changed.
func damaged(t *testing.T, h block.Header) block.Header {
	t.Helper()
	s := h.Wraps()[0].Stanza()
	s.Body = slices.Clone(s.Body)
	s.Body[0] ^= 1
	return withStanza(t, s)
}

func TestStolenStanza(t *testing.T) { // a stanza of another block opens nothing, and the attempt is in the log
	w := newWorld(t)
	victim := w.hsm.header(t, "legal")
	h := foreign(t, victim)
	code, resp := w.ask(w.alice(), "", h)
	if code != http.StatusForbidden || !resp.Results[0].Refused() {
		t.Fatalf("a stolen stanza was opened: %d", code)
	}
	e := w.jour.last(1)[0]
	if e.Kind != receipt.Refusal || e.Item == nil || e.Item.N != w.hsm.chain.N || !strings.Contains(entryText(e), "header MAC") {
		t.Errorf("logged as %s, item %v", entryText(e), e.Item)
	}
}

func TestUniformRefusal(t *testing.T) { // one answer, one time, whatever the reason
	w := newWorld(t)
	legal := w.hsm.header(t, "legal")
	for name, tt := range map[string]struct {
		client *http.Client
		claim  string
		header block.Header
		reason string
	}{
		"unknown key":   {w.alice(), "", strange(t), "no key of this box"},
		"no list":       {w.alice(), "", w.hsm.header(t, "board"), "not permitted"},
		"wrong person":  {w.mallory(), "", legal, "not permitted"},
		"claim":         {w.alice(), "corp:CN=bob", legal, "claims to be another decryptor"},
		"stolen stanza": {w.alice(), "", foreign(t, legal), "header MAC"},
		"does not open": {w.alice(), "", damaged(t, legal), "unwrap"},
	} {
		req, err := kra.NewRequest([][]byte{tt.header.Bytes()}, tt.claim)
		if err != nil {
			t.Fatal(err)
		}
		w.post(tt.client, req.Encode()) // the handshake is done
		start := time.Now()
		code, body := w.post(tt.client, req.Encode())
		took := time.Since(start)
		if code != http.StatusForbidden || string(body) != `{"results":[{"refused":true}]}` {
			t.Errorf("%s: %d %s", name, code, body)
		}
		if took < RefusalDelay || took > 20*RefusalDelay { // how long after a multiple, the machine's load decides
			t.Errorf("%s: after %v; want %v", name, took, RefusalDelay)
		}
		if e := w.jour.last(1)[0]; e.Kind != receipt.Refusal || !strings.Contains(entryText(e), tt.reason) {
			t.Errorf("%s: logged as %s", name, entryText(e))
		}
	}
}

func TestSeveralCiphertextsOnePermitted(t *testing.T) {
	w := newWorld(t)
	for _, extra := range []string{"x1", "x2", "x3"} {
		w.hsm.add(extra)
	}
	w.def.Access = append(w.def.Access, policy.AccessDef{ID: "x1", Keys: []block.KeyID{w.hsm.names["x1"]}, Lists: []string{"nobody"}})
	w.publish()
	h := w.hsm.header(t, "x1", "board", "x2", "legal")
	items := w.hsm.items
	_, resp := w.ask(w.alice(), "", h)
	if !w.opens(h, resp, 0) || resp.Results[0].Access() != "legal-team" || w.hsm.items != items+1 {
		t.Errorf("released %v as %q with %d unwraps", !resp.Results[0].Refused(), resp.Results[0].Access(), w.hsm.items-items)
	}
	if e := w.jour.last(1)[0]; !strings.Contains(entryText(e), `"lists":[{"access":"x1","list":1,"outcome":"failed"},{"access":"board","list":1,"outcome":"failed"},{"access":"legal-team","list":1,"outcome":"failed"},{"access":"legal-team","list":2,"outcome":"passed"}]`) {
		t.Errorf("logged as %s", entryText(e))
	}
}

func TestBatch(t *testing.T) { // many headers: one operation of the HSM, one append, results in order
	w := newWorld(t)
	var headers []block.Header
	for i := range kra.MaxHeaders {
		switch i % 4 {
		case 0, 1:
			headers = append(headers, w.hsm.header(t, "legal"))
		case 2:
			headers = append(headers, w.hsm.header(t, "board"))
		case 3:
			headers = append(headers, strange(t))
		}
	}
	calls, appends := w.hsm.calls, w.jour.calls.Load()
	start := time.Now()
	code, resp := w.ask(w.alice(), "", headers...)
	if time.Since(start) < RefusalDelay {
		t.Error("an answer with refusals left early")
	}
	if code != http.StatusOK || w.hsm.calls != calls+1 || w.jour.calls.Load() != appends+1 {
		t.Fatalf("%d with %d HSM calls and %d appends", code, w.hsm.calls-calls, w.jour.calls.Load()-appends)
	}
	for i, h := range headers {
		if got := w.opens(h, resp, i); got != (i%4 < 2) {
			t.Errorf("result %d: released %v", i, got)
		}
	}
	if n := w.log.Head().HSM.N; n != uint64(w.hsm.items) || n != kra.MaxHeaders/2 {
		t.Errorf("checkpoint has %d unwraps, the HSM %d", n, w.hsm.items)
	}
}

func TestNoReceiptNoKey(t *testing.T) { // failed and not done; failed, but done
	w := newWorld(t)
	h, c := w.hsm.header(t, "legal"), w.alice()
	for name, fault := range map[string]interface{ Store(bool) }{"not done": &w.jour.before, "done": &w.jour.after} {
		fault.Store(true)
		code, body := w.post(c, request(t, h.Bytes()))
		if code != http.StatusServiceUnavailable || bytes.Contains(body, []byte("key")) {
			t.Errorf("%s: %d %s", name, code, body)
		}
		fault.Store(false)
		if _, resp := w.ask(c, "", h); !w.opens(h, resp, 0) {
			t.Errorf("%s: no release after the fault was gone", name)
		}
	}
}

func TestClosedLogReleasesNothing(t *testing.T) {
	w := newWorld(t)
	h, c := w.hsm.header(t, "legal"), w.alice()
	w.log.Close()
	if code, body := w.post(c, request(t, h.Bytes())); code != http.StatusServiceUnavailable || bytes.Contains(body, []byte("key")) {
		t.Errorf("%d %s", code, body)
	}
}

func TestEveryUnwrapIsLogged(t *testing.T) { // also those that opened nothing
	w := newWorld(t)
	legal := w.hsm.header(t, "legal")
	w.ask(w.alice(), "", legal, damaged(t, legal), foreign(t, legal), w.hsm.header(t, "board"))
	if w.hsm.items != 3 {
		t.Fatalf("%d unwraps; want 3", w.hsm.items)
	}
	entries := w.jour.last(4)
	for i, want := range []receipt.Kind{receipt.Release, receipt.Refusal, receipt.Refusal, receipt.Refusal} {
		e := entries[i]
		if e.Kind != want || (e.Item != nil) != (i < 3) || e.Item != nil && e.Item.N != uint64(i+1) {
			t.Errorf("entry %d: %s, item %v", i, entryText(e), e.Item)
		}
	}
	if h := w.log.Head().HSM; h.N != 3 || h.Head != w.hsm.chain.Head {
		t.Errorf("checkpoint has %d unwraps", h.N)
	}
}

func TestHSMFaults(t *testing.T) { // not done; done, but the answer lost: neither gives a key, both are in the log
	w := newWorld(t)
	h, c := w.hsm.header(t, "legal"), w.alice()
	for name, fault := range map[string]*error{"not done": &w.hsm.before, "done": &w.hsm.after} {
		*fault = errFault
		code, body := w.post(c, request(t, h.Bytes()))
		if code != http.StatusServiceUnavailable || bytes.Contains(body, []byte("key")) {
			t.Errorf("%s: %d %s", name, code, body)
		}
		if e := w.jour.last(1)[0]; e.Kind != receipt.Refusal || e.Item != nil || !strings.Contains(entryText(e), "custody: fault injected") {
			t.Errorf("%s: logged as %s", name, entryText(e))
		}
		*fault = nil
	}
}

func TestRecordSaysWhy(t *testing.T) { // enough to replay the decision: book, facts, rules, lists
	w := newWorld(t)
	w.ask(w.alice(), "", w.hsm.header(t, "legal"))
	e := w.jour.last(1)[0]
	var p struct {
		Decision struct {
			Decryptor, Source, Clock string
			Time                     time.Time
			Rules, Lists             []map[string]any
		}
	}
	if err := json.Unmarshal(e.Private.(json.RawMessage), &p); err != nil {
		t.Fatal(err)
	}
	d := p.Decision
	if e.Book != 1 || e.Access != "legal-team" || d.Decryptor != "corp:CN=alice,O=Example" || d.Source != "127.0.0.1" || d.Clock != "trusted" ||
		time.Since(d.Time) > time.Minute || len(d.Rules) != 2 || len(d.Lists) != 2 {
		t.Errorf("record: book %d, access %q, %s", e.Book, e.Access, e.Private)
	}
}

func TestClockUntrusted(t *testing.T) { // a rule that asks the clock denies; one that does not, does not
	w := newWorld(t)
	w.server.delay = time.Millisecond
	h, c := w.hsm.header(t, "legal"), w.alice()
	w.clock.Store(&moment{time.Now(), false})
	if code, _ := w.ask(c, "", h); code != http.StatusForbidden {
		t.Errorf("clock rule with an untrusted clock: %d", code)
	}
	w.def.Rules[0].Expr = `id.under("corp:")`
	w.publish()
	if code, _ := w.ask(c, "", h); code != http.StatusOK {
		t.Errorf("rule without a clock: %d", code)
	}
}

func TestCounts(t *testing.T) {
	w := newWorld(t)
	w.server.delay = time.Millisecond
	h := w.hsm.header(t, "legal")
	w.ask(w.alice(), "", h, h, w.hsm.header(t, "board"))
	w.hsm.before = errors.New("gone")
	w.post(w.alice(), request(t, h.Bytes()))
	if got, want := w.server.Counts(), (Counts{Requests: 2, Released: 2, Refused: 1, Failed: 1}); got != want {
		t.Errorf("Counts = %+v; want %+v", got, want)
	}
	if n := w.server.count.inFlight.Load() + w.server.count.bodies.Load(); n != 0 {
		t.Errorf("%d left in flight", n)
	}
}

func TestUnwrapOutlivesClient(t *testing.T) { // a client that goes away leaves its record behind
	w := newWorld(t)
	h, c := w.hsm.header(t, "legal"), w.alice()
	w.ask(c, "", h) // the handshake is done
	held := make(chan struct{})
	w.hsm.hold.Store(&held)
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+w.addr+kra.PathRelease, bytes.NewReader(request(t, h.Bytes())))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", kra.ContentType)
	gone := make(chan error, 1)
	go func() {
		_, err := c.Do(req)
		gone <- err
	}()
	<-w.hsm.entered
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // the server hears of it
	close(held)
	deadline := time.Now().Add(time.Minute)
	for w.log.Head().HSM.N != 2 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	w.hsm.mu.Lock()
	defer w.hsm.mu.Unlock()
	if n := w.log.Head().HSM.N; n != 2 || w.hsm.items != 2 {
		t.Errorf("log has %d unwraps, the HSM %d", n, w.hsm.items)
	}
}
