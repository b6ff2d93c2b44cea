package release

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A bank answers as told and writes down what it is asked, in order. Package external has the real client.
type bank struct {
	mu      sync.Mutex
	yes     []string // services that say yes
	fails   string   // "capture": it does not keep its word
	events  []string
	logSize func() int64
	decided []Question
}

func (b *bank) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, fmt.Sprintf(format, args...))
}

func (b *bank) Ask(_ context.Context, service string, q Question) (policy.Answer, Held) {
	b.note("ask %s", service)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.decided = append(b.decided, q)
	if !slices.Contains(b.yes, service) {
		return policy.Answer{Outcome: policy.Failed, Reason: "no credit"}, nil
	}
	return policy.Answer{Outcome: policy.Passed, Reason: "reserved"}, reservation{b, service}
}

type reservation struct {
	b       *bank
	service string
}

func (r reservation) Capture(context.Context) error {
	r.b.note("capture %s with %d records", r.service, r.b.logSize())
	if r.b.fails == "capture" {
		return errors.New("the bank has changed its mind")
	}
	return nil
}

func (r reservation) Cancel(context.Context) error {
	r.b.note("cancel %s", r.service)
	return nil
}

// paid is a world whose access identifiers cost something.
func paid(t *testing.T) (*world, *bank) {
	w := newWorld(t)
	w.server.delay = time.Millisecond
	w.def.Services = []string{"credit", "quota", "spare"}
	w.def.Rules = append(w.def.Rules, policy.RuleDef{Name: "solvent", Expr: `external.allows("credit")`},
		policy.RuleDef{Name: "quota", Expr: `external.allows("quota")`}, policy.RuleDef{Name: "spare", Expr: `external.allows("spare")`})
	w.def.Access = append(w.def.Access,
		policy.AccessDef{ID: "films", Keys: []block.KeyID{w.hsm.add("films")}, Lists: []string{"staff && solvent"}, Delivery: policy.ToAnyone},
		policy.AccessDef{ID: "books", Keys: []block.KeyID{w.hsm.add("books")}, Lists: []string{"spare && nobody", "spare && quota", "solvent"}})
	w.publish()
	b := &bank{logSize: func() int64 { return w.log.Head().Size }}
	w.outside = b
	return w, b
}

// TestServicesSettled: what a service set aside is captured when the release is in the log and before the key leaves, and
// given back however else the request ends.
func TestServicesSettled(t *testing.T) {
	w, b := paid(t)
	c := w.alice()
	for _, tt := range []struct {
		name   string
		key    string
		yes    []string
		before func() func()
		code   int
		events string // # is the number of records before
	}{
		{"yes", "films", []string{"credit"}, nil, 200, "ask credit; capture credit with +1 records"},
		{"no", "films", nil, nil, 403, "ask credit"},
		{"no log", "films", []string{"credit"}, func() func() { w.jour.before.Store(true); return func() { w.jour.before.Store(false) } }, 503, "ask credit; cancel credit"},
		{"log, answer lost", "films", []string{"credit"}, func() func() { w.jour.after.Store(true); return func() { w.jour.after.Store(false) } }, 503, "ask credit; cancel credit"},
		{"no HSM", "films", []string{"credit"}, func() func() { w.hsm.before = errFault; return func() { w.hsm.before = nil } }, 503, "ask credit; cancel credit"},
		{"HSM, answer lost", "films", []string{"credit"}, func() func() { w.hsm.after = errFault; return func() { w.hsm.after = nil } }, 503, "ask credit; cancel credit"},
		{"not captured", "films", []string{"credit"}, func() func() { b.fails = "capture"; return func() { b.fails = "" } }, 403, "ask credit; capture credit with +1 records"},
		{"only what was needed", "books", []string{"credit", "spare"}, nil, 200, "ask spare; ask quota; ask credit; capture credit with +1 records; cancel spare"},
		{"second list", "books", []string{"quota", "spare"}, nil, 200, "ask spare; ask quota; capture spare with +1 records; capture quota with +1 records"},
		{"none asked", "legal", nil, nil, 200, ""},
	} {
		b.yes, b.events = tt.yes, nil
		undo := func() {}
		if tt.before != nil {
			undo = tt.before()
		}
		size := w.log.Head().Size
		code, body := w.post(c, request(t, w.hsm.header(t, tt.key).Bytes()))
		undo()
		want := strings.ReplaceAll(tt.events, "+1", fmt.Sprint(size+1))
		if got := strings.Join(b.events, "; "); code != tt.code || got != want || (code != 200) == strings.Contains(string(body), `"key"`) {
			t.Errorf("%s: %d, %s; want %d, %s", tt.name, code, got, tt.code, want)
		}
		if tt.name == "not captured" {
			if e := w.jour.last(1)[0]; e.Kind != receipt.Refusal || !strings.Contains(entryText(e), "external: capture credit") {
				t.Errorf("%s: logged as %s", tt.name, entryText(e))
			}
		}
	}
}

func TestServicesAskedOncePerHeader(t *testing.T) { // a batch: each header its own question, each service once
	w, b := paid(t)
	b.yes = []string{"credit"}
	h := w.hsm.header(t, "films")
	if code, resp := w.ask(w.alice(), "", h, h, w.hsm.header(t, "legal")); code != http.StatusOK || !w.opens(h, resp, 1) {
		t.Fatal(code)
	}
	if got := len(b.decided); got != 2 || b.decided[0].Header != h.Hash() || b.decided[0].Decryptor.String() != alice || !b.decided[0].Source.IsLoopback() {
		t.Errorf("%d questions: %+v", got, b.decided)
	}
}

func TestServicesNotForStrangers(t *testing.T) { // what nobody can be charged for is not asked
	w, b := paid(t)
	b.yes = []string{"credit"}
	cert := w.corp.second(t, newECDSA(t), aliceName)
	req := compose(t, "", kra.Presented{Certificates: []*x509.Certificate{cert}}, toCertificate(t), w.hsm.header(t, "films"))
	if code, _ := w.post(w.client(), req.Encode()); code != http.StatusForbidden || len(b.events) != 0 {
		t.Errorf("%d, %s", code, b.events)
	}
}
