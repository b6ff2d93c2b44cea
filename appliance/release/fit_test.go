package release

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// TestRecordsOfARequestFit asks with a full request by somebody about whom as much is known as can be: all of it would not
// fit one append of the log. What would not fit is refused before the HSM is asked, and everything is in the log.
func TestRecordsOfARequestFit(t *testing.T) {
	w := newWorld(t)
	w.info.said.Store(&sayings{items: bulky(), slow: &w.info.slow})
	headers := make([][]byte, kra.MaxHeaders)
	h := w.hsm.header(t, "legal")
	for i := range headers {
		headers[i] = h.Bytes()
	}
	req, err := kra.NewRequest(headers, "")
	if err != nil {
		t.Fatal(err)
	}
	code, body := w.post(w.alice(), req.Encode())
	if code != 200 {
		t.Fatalf("post = %d %s", code, body)
	}
	resp, err := kra.ParseResponse(body, len(headers))
	if err != nil {
		t.Fatal(err)
	}
	released := 0
	for _, r := range resp.Results {
		if !r.Refused() {
			released++
		}
	}
	if released < 6 || released == len(headers) {
		t.Errorf("%d of %d released; want some, not all", released, len(headers))
	}
	size, items := 0, 0
	for _, e := range w.jour.last(len(headers)) {
		size += len(e.Private.(json.RawMessage))
		if e.Kind == receipt.Release {
			items++
		} else if !strings.Contains(string(e.Private.(json.RawMessage)), "too much to record") {
			t.Errorf("refused for another reason: %.200s", e.Private)
		}
	}
	if items != released || size > audit.MaxAppend/(1+maxOthers) {
		t.Errorf("%d records of releases for %d keys, %d bytes", items, released, size)
	}
}

// TestRecordTooLongForTheLog asks for one header with so much to record that its release, or the failure of one, would be
// longer than the log takes: the HSM is not asked, and the refusal is in the log.
func TestRecordTooLongForTheLog(t *testing.T) {
	w := newWorld(t)
	w.server.delay = time.Millisecond
	longest := strings.Repeat("<", maxNote) // JSON writes each of them as six bytes
	items := bulky()
	rules := make([]string, 0, policy.MaxLists)
	for i := range cap(rules) - 1 {
		name := fmt.Sprintf("%s%02d", strings.Repeat("r", policy.MaxRuleName-2), i)
		w.def.Rules = append(w.def.Rules, policy.RuleDef{Name: policy.RuleName(name), Expr: "false"})
		rules = append(rules, name)
	}
	w.def.Access[0].Lists = append(rules, "staff")
	w.publish()
	h := w.hsm.header(t, "legal")
	for notes, want := range map[int]int{0: http.StatusOK, maxNotes / 2: http.StatusOK, maxNotes: http.StatusForbidden} {
		w.info.said.Store(&sayings{items: items, slow: &w.info.slow, notes: slices.Repeat([]string{longest}, notes)})
		calls := w.hsm.calls
		code, body := w.post(w.alice(), request(t, h.Bytes()))
		if asked := w.hsm.calls - calls; code != want || (asked != 0) != (want == http.StatusOK) {
			t.Errorf("%d notes: %d %.80s, the HSM asked %d times; want %d", notes, code, body, asked, want)
		}
		if e := w.jour.last(1)[0]; want == http.StatusForbidden && !strings.Contains(entryText(e), tooMuch) {
			t.Errorf("logged as %.200s", entryText(e))
		}
	}
}

// TestLargestRecords: no record of a job that passed fit is longer than the log takes, whatever becomes of it.
func TestLargestRecords(t *testing.T) {
	w := newWorldOn(t, newToken(t))
	who, err := kra.ParseDecryptor(alice)
	if err != nil {
		t.Fatal(err)
	}
	var missing []kra.Anchor
	for i := range 20 {
		missing = append(missing, kra.Anchor(fmt.Sprintf("%s%02d", strings.Repeat("m", 40), i)))
	}
	info, err := policy.NewInformation(bulky(), missing)
	if err != nil {
		t.Fatal(err)
	}
	c := &claimant{facts: policy.Facts{Decryptor: who, ClockTrusted: true, Channel: policy.Authenticated, Information: info}, now: time.Now(), to: kra.ToChannel}
	passed, longest := 0, 0
	for n := range maxNote { // around the limit
		c.notes = append(slices.Repeat([]string{strings.Repeat("<", maxNote)}, maxNotes-1), strings.Repeat("<", n))
		jobs, err := parse(requestOf(t, w.hsm.header(t, "legal")))
		if err != nil {
			t.Fatal(err)
		}
		j := &jobs[0]
		g, err := w.snap.Load().Book.Decide(policy.Request{Envelope: j.envelope, Facts: c.facts}, c.now)
		if err != nil {
			t.Fatal(err)
		}
		j.grant, j.trace = g, g.Trace()
		if fit(c, jobs); !j.grant.Valid() {
			continue
		}
		passed++
		j.other = true
		j.refuse(c, strings.Repeat("<", 2*maxNote))
		longest = max(longest, len(j.entry.Private.(json.RawMessage)))
	}
	if longest > receipt.MaxPrivate || longest < receipt.MaxPrivate-6-len(`,"inside":true`) || passed == maxNote {
		t.Errorf("%d passed, the longest has %d bytes", passed, longest)
	}
}

// TestUnloggedIsToldAtOnce: when the log does not take what the HSM did, or nobody knows, somebody is told; else nobody is.
func TestUnloggedIsToldAtOnce(t *testing.T) {
	w := newWorld(t)
	w.server.delay = time.Millisecond
	var told atomic.Int64
	w.server.o.Unlogged = func() { told.Add(1) }
	yes, no := request(t, w.hsm.header(t, "legal").Bytes()), request(t, w.hsm.header(t, "board").Bytes())
	for name, fault := range map[string]*atomic.Bool{"not done": &w.jour.before, "done": &w.jour.after} {
		for _, x := range []struct {
			body []byte
			want int64
		}{{yes, 1}, {no, 0}} {
			told.Store(0)
			fault.Store(true)
			code, _ := w.post(w.alice(), x.body)
			if fault.Store(false); code != http.StatusServiceUnavailable || told.Load() != x.want {
				t.Errorf("append failed, %s: %d, told %d times; want %d", name, code, told.Load(), x.want)
			}
		}
	}
	told.Store(0)
	if code, _ := w.post(w.alice(), yes); code == http.StatusOK && told.Load() != 0 {
		t.Errorf("without a fault: told %d times", told.Load())
	}
}

func requestOf(t *testing.T, h block.Header) kra.Request {
	t.Helper()
	r, err := kra.NewRequest([][]byte{h.Bytes()}, "")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// bulky is information of nearly 32 KiB, the most that there can be.
func bulky() []policy.Item {
	items := make([]policy.Item, 32)
	for i := range items {
		items[i] = policy.Item{Kind: policy.Attribute, Name: "note", Value: strings.Repeat(string(rune('a'+i%26)), 900) + string(rune('0'+i/26)), Authority: "corp", Via: policy.Directory}
	}
	return items
}
