package release

import (
	"bytes"
	"crypto"
	"net/http"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/cms"
	"github.com/keyrelease/krabox/kra/block/jwe"
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

// TestOtherKeysOnlyWhereBound: in CMS and JWE, and in an age header without its MAC, nothing ties the wraps together. There
// the key is opened by the access identifier's own key or by none.
func TestOtherKeysOnlyWhereBound(t *testing.T) {
	w := newWorld(t)
	w.server.delay = time.Millisecond
	w.hsm.add("own")
	w.def.Access = append(w.def.Access, policy.AccessDef{ID: "own", Keys: []block.KeyID{w.hsm.names["own"]}, Lists: []string{"staff"}, Portion: policy.AnyPortion})
	for _, name := range []string{"own", "board"} {
		spki, err := block.MarshalPublicKey(w.hsm.pubs[name])
		if err != nil {
			t.Fatal(err)
		}
		refs, err := block.RefsOf(spki)
		if err != nil {
			t.Fatal(err)
		}
		for _, ref := range refs {
			if ref.Kind() != block.RefKeyID {
				w.def.Aliases = append(w.def.Aliases, policy.KeyAlias{Ref: ref, Key: w.hsm.names[name]})
			}
		}
	}
	w.publish()
	heads := map[string][]byte{"CMS": cmsHead(t, w.hsm.pubs["own"], w.hsm.pubs["board"]), "JWE": jweHead(t, w.hsm.pubs["own"], w.hsm.pubs["board"]),
		"age without MAC": detachedHead(t, w.hsm.header(t, "own", "board"))}
	c := w.alice()
	for name, h := range heads {
		if code, body := w.post(c, request(t, h)); code != http.StatusOK {
			t.Errorf("%s: own key: %d %s", name, code, body)
		}
	}
	if err := w.hsm.real.destroy(w.hsm.names["own"]); err != nil {
		t.Fatal(err)
	}
	for name, h := range heads {
		items := w.hsm.items
		if code, body := w.post(c, request(t, h)); code != http.StatusForbidden || w.hsm.items != items+1 {
			t.Errorf("%s: own key destroyed: %d %.100s, after %d unwraps", name, code, body, w.hsm.items-items)
		}
	}
}

// TestPortionOfAHeader: an age header without its MAC is refused, unless the officers said otherwise for the access
// identifier that passed.
func TestPortionOfAHeader(t *testing.T) {
	w := newWorld(t)
	w.server.delay = time.Millisecond
	c, part := w.alice(), detachedHead(t, w.hsm.header(t, "legal"))
	for _, p := range []policy.Portion{policy.WholeHeader, policy.AnyPortion, policy.WholeHeader} {
		w.def.Access[0].Portion = p
		w.publish()
		items, want := w.hsm.items, map[policy.Portion]int{policy.WholeHeader: http.StatusForbidden, policy.AnyPortion: http.StatusOK}[p]
		if code, body := w.post(c, request(t, part)); code != want || (w.hsm.items == items) != (want == http.StatusForbidden) {
			t.Errorf("portion %q: %d %.100s after %d unwraps", p, code, body, w.hsm.items-items)
		}
		if e := w.jour.last(1)[0]; want == http.StatusForbidden && !strings.Contains(entryText(e), "header without its MAC") {
			t.Errorf("logged as %s", entryText(e))
		}
	}
}

func cmsHead(t *testing.T, keys ...crypto.PublicKey) []byte {
	t.Helper()
	var to []cms.Target
	for _, pub := range keys {
		k, err := cms.ToKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		to = append(to, k)
	}
	var out bytes.Buffer
	enc, err := cms.Encrypt(&out, cms.Unsized, to...)
	if err == nil {
		err = enc.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := cms.ReadHead(&out)
	if err != nil {
		t.Fatal(err)
	}
	e, err := h.Envelope()
	if err != nil {
		t.Fatal(err)
	}
	return e.Bytes()
}

func jweHead(t *testing.T, keys ...crypto.PublicKey) []byte {
	t.Helper()
	raw, err := jwe.Encrypt([]byte("text"), keys...)
	if err != nil {
		t.Fatal(err)
	}
	m, err := jwe.Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	e, err := m.Head().Envelope()
	if err != nil {
		t.Fatal(err)
	}
	return e.Bytes()
}

func detachedHead(t *testing.T, h block.Header) []byte {
	t.Helper()
	var stanzas []*age.Stanza
	for _, w := range h.Wraps() {
		stanzas = append(stanzas, w.Stanza())
	}
	d, err := block.NewHeader(stanzas)
	if err != nil {
		t.Fatal(err)
	}
	return d.Bytes()
}
