package release

import (
	"net/http"
	"testing"
)

func TestReleaseOverChannel(t *testing.T) {
	w := newWorld(t)
	h := w.hsm.header(t, "legal")
	code, resp := w.ask(w.alice(), "", h)
	if code != http.StatusOK || !w.opens(h, resp, 0) {
		t.Fatalf("alice: %d, refused %v", code, resp.Results[0].Refused())
	}
	code, resp = w.ask(w.mallory(), "", h)
	if code != http.StatusForbidden || !resp.Results[0].Refused() {
		t.Fatalf("mallory: %d", code)
	}
}
