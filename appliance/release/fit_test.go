package release

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/kra"
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
	if released < alwaysFit || released == len(headers) {
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

// bulky is information of nearly 32 KiB, the most that there can be.
func bulky() []policy.Item {
	items := make([]policy.Item, 32)
	for i := range items {
		items[i] = policy.Item{Kind: policy.Attribute, Name: "note", Value: strings.Repeat(string(rune('a'+i%26)), 900) + string(rune('0'+i/26)), Authority: "corp", Via: policy.Directory}
	}
	return items
}
