package release

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// TestKeyThatOpens: the key is opened by the key of the access identifier that passed. Only where the HSM does not have that
// any more, another key of the same header is used, and the log says so.
func TestKeyThatOpens(t *testing.T) {
	w := newWorld(t)
	w.server.delay = time.Millisecond
	w.hsm.add("old")
	w.hsm.add("own")
	w.def.Access = append(w.def.Access, policy.AccessDef{ID: "own", Keys: []block.KeyID{w.hsm.names["own"]}, Lists: []string{"staff"}},
		policy.AccessDef{ID: "old", Keys: []block.KeyID{w.hsm.names["old"]}, Lists: []string{"staff"}})
	w.publish()
	const said = `"key":"any of the header"`
	h := w.hsm.header(t, "board", "own")
	if code, resp := w.ask(w.alice(), "", h); code != http.StatusOK || !w.opens(h, resp, 0) || resp.Results[0].Access() != "own" {
		t.Fatal(code)
	}
	if e := w.jour.last(1)[0]; e.Item.Key != receipt.Hash(w.hsm.names["own"]) || strings.Contains(entryText(e), said) {
		t.Errorf("own key: logged as %s", entryText(e))
	}
	if err := w.hsm.real.destroy(w.hsm.names["old"]); err != nil {
		t.Fatal(err)
	}
	gone := w.hsm.header(t, "old", "board")
	code, resp := w.ask(w.alice(), "", gone)
	if code != http.StatusOK || !w.opens(gone, resp, 0) || resp.Results[0].Access() != "old" {
		t.Errorf("own key destroyed: %d", code)
	}
	tries := w.jour.last(2)
	if tries[0].Kind != receipt.Refusal || tries[0].Item.Key != receipt.Hash(w.hsm.names["old"]) || strings.Contains(entryText(tries[0]), said) {
		t.Errorf("first try: logged as %s", entryText(tries[0]))
	}
	if tries[1].Kind != receipt.Release || tries[1].Item.Key != receipt.Hash(w.hsm.names["board"]) || !strings.Contains(entryText(tries[1]), said) || tries[1].Access != "old" {
		t.Errorf("second try: logged as %s", entryText(tries[1]))
	}
	if w.log.Head().HSM.N != w.hsm.chain.N {
		t.Errorf("log has %d unwraps, the HSM %d", w.log.Head().HSM.N, w.hsm.chain.N)
	}
}

// TestSelfMadeStanza: a stanza that somebody made himself, beside one that he took from another block, never opens that:
// neither while his own key is there nor when it is not.
func TestSelfMadeStanza(t *testing.T) {
	w := newWorld(t)
	w.server.delay = time.Millisecond
	w.hsm.add("own")
	w.def.Access = append(w.def.Access, policy.AccessDef{ID: "own", Keys: []block.KeyID{w.hsm.names["own"]}, Lists: []string{"staff"}})
	w.publish()
	victim := w.hsm.header(t, "board")
	own, err := block.NewRecipient(w.hsm.pubs["own"])
	if err != nil {
		t.Fatal(err)
	}
	made := headerOf(t, own, wrapper{victim.Wraps()[0].Stanza()})
	code, resp := w.ask(w.alice(), "", made)
	if code != http.StatusOK || !w.opens(made, resp, 0) { // his own key, which he knew
		t.Errorf("own stanza: %d", code)
	}
	if err := w.hsm.real.destroy(w.hsm.names["own"]); err != nil {
		t.Fatal(err)
	}
	if code, _ := w.ask(w.alice(), "", made); code != http.StatusForbidden {
		t.Errorf("the foreign stanza was opened: %d", code)
	}
	if e := w.jour.last(1)[0]; e.Item == nil || e.Item.Key != receipt.Hash(w.hsm.names["board"]) || !strings.Contains(entryText(e), "header MAC") {
		t.Errorf("logged as %s", entryText(e))
	}
}

func headerOf(t *testing.T, to ...age.Recipient) block.Header {
	t.Helper()
	var out strings.Builder
	enc, err := age.Encrypt(&out, to...)
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
