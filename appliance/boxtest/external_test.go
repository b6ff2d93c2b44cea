package boxtest_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/receipt"
	"github.com/keyrelease/krabox/kra/replay"
)

// A cashier is a service that knows which values are good, and notes what it is asked. It follows PROTOCOL.md of package
// external by its text alone.
type cashier struct {
	good []string

	mu     sync.Mutex
	events []string
}

func (s *cashier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Decryptor, Charge string
		Value             []byte
	}
	_ = json.NewDecoder(r.Body).Decode(&q)
	a := map[string]string{"id": r.Header.Get("Idempotency-Key"), "answer": "no", "reason": "unknown value"}
	if do := path.Base(r.URL.Path); do == "capture" || do == "cancel" || slices.Contains(s.good, string(q.Value)) {
		a["answer"], a["reason"] = "yes", "good"
	}
	s.mu.Lock()
	s.events = append(s.events, strings.TrimSuffix(path.Base(r.URL.Path)+" "+q.Charge, " ")+" "+a["answer"])
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a)
}

func (s *cashier) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := strings.Join(s.events, ", ")
	s.events = nil
	return e
}

// open starts the service and has the box ask it.
func (s *cashier) open(t *testing.T, b *boxtest.Box, alias, mode, charge string, answers ...string) {
	t.Helper()
	h := httptest.NewTLSServer(s)
	t.Cleanup(h.Close)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}))
	b.Do("source add service "+alias+" at "+h.URL+"/v1 "+mode+" charge "+charge, append([]string{ca}, answers...)...)
	b.Do(`rule add ` + alias + ` is external.allows("` + alias + `")`)
}

// withValues is an agent's client that presents values to services.
func withValues(t *testing.T, b *boxtest.Box, person string, values ...string) *client.Agent {
	t.Helper()
	cert := b.Person(person)
	c := client.Config{URL: "https://" + b.Up().Release.String(), Trust: trust(t, b), Certificate: &cert}
	for i := 0; i+1 < len(values); i += 2 {
		v, err := kra.ValueToken(values[i], []byte(values[i+1]))
		if err != nil {
			t.Fatal(err)
		}
		c.Delivery.Tokens = append(c.Delivery.Tokens, v)
	}
	a, err := client.NewAgent(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// A whole box asks services before it releases: a bank where the box has an account, a shop that takes vouchers, a server
// that identifies people. Right to use is any rule over all of them, and every decision can be replayed.
func TestServicesAreAsked(t *testing.T) {
	b := boxtest.Start(t)
	legalTeam(b)
	bank, shop, people := &cashier{good: []string{"account 7"}}, &cashier{good: []string{"voucher"}}, &cashier{good: []string{"my secret"}}
	bank.open(t, b, "bank", "reserve", "platform", "account 7")
	shop.open(t, b, "shop", "reserve", "subject")
	people.open(t, b, "people", "verify", "subject")
	b.Do(`rule add anybody is true`)
	all := []string{"shop", "voucher", "people", "my secret"}
	for _, c := range []struct {
		name, lists, who     string
		values               []string
		yes                  bool
		bank, shop, identify string
	}{
		{"the box pays", "counsel && bank", "bob", nil, true, "reserve platform yes, capture yes", "", ""},
		{"credentials come first", "counsel && bank", "carol", nil, false, "", "", ""},
		{"irrespective of credentials", "anybody", "carol", nil, true, "", "", ""},
		{"a voucher, whoever has it", "shop", "carol", all, true, "", "reserve subject yes, capture yes", ""},
		{"no voucher", "shop", "carol", nil, false, "", "", ""},
		{"a false voucher", "shop", "bob", []string{"shop", "forged"}, false, "", "reserve subject no", ""},
		{"a user's secret", "people", "bob", all, true, "", "", "verify subject yes"},
		{"a secret for another service", "people", "bob", []string{"shop", "my secret"}, false, "", "", ""},
		{"all kinds at once", "counsel && bank && shop && people", "bob", all, true, "reserve platform yes, capture yes", "reserve subject yes, capture yes", "verify subject yes"},
		{"given back", "counsel && bank && people", "bob", []string{"people", "guess"}, false, "reserve platform yes, cancel yes", "", "verify subject no"},
		{"whichever says yes", "shop || bank", "bob", []string{"shop", "forged"}, true, "reserve platform yes, capture yes", "reserve subject no", ""},
	} {
		b.Do("access lists legal-team is " + c.lists)
		agent := withValues(t, b, c.who, c.values...)
		h, _ := header(t, agent, "x")
		answers, err := agent.Release(context.Background(), []block.Header{h})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := answers[0].Err; (err == nil) != c.yes || err != nil && !errors.Is(err, client.ErrRefused) {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := [3]string{bank.take(), shop.take(), people.take()}; got != [3]string{c.bank, c.shop, c.identify} {
			t.Errorf("%s: asked %q", c.name, got)
		}
	}
	export := b.Do("log export")
	for _, charged := range []string{`"service":"bank","outcome":"passed","reason":"platform pays, `, `"service":"shop","outcome":"passed","reason":"subject pays, `,
		`"service":"people","outcome":"passed","reason":"value of subject, `} {
		if !strings.Contains(export, charged) {
			t.Errorf("the log does not say %s", charged)
		}
	}
	for _, secret := range []string{"account 7", "voucher", "my secret"} {
		if strings.Contains(export, secret) {
			t.Errorf("the log shows %q", secret)
		}
	}
	p := replay.New()
	if _, err := receipt.ReadExport(strings.NewReader(export), trust(t, b).Roots(), p.Record); err != nil {
		t.Fatal(err)
	}
	if r, err := p.Report(); err != nil || r.Releases != 6 || r.Refusals != 5 {
		t.Errorf("replay: %+v, %v", r, err)
	}
}
