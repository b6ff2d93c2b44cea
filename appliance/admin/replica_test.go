package admin

import (
	"bytes"
	"context"
	"crypto/hpke"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/receipt"
)

// peer admits a box of which there is only a transport key.
func (w *world) peer(name string) store.Peer {
	w.t.Helper()
	key, err := hpke.MLKEM768P256().GenerateKey()
	if err != nil {
		w.t.Fatal(err)
	}
	p := store.Peer{Box: name, Label: label.Digest{1}, Transport: key.PublicKey().Bytes(), Request: label.Digest{2}, Since: time.Now()}
	pins := w.store.State().PINs()
	var files hsm.Files
	p.Letter, files, err = w.fault.Admit(w.t.Context(), hsm.Token{PIN: pins.User.Bytes(), SOPIN: pins.SO.Bytes()}, hsmtest.Request(w.t, name, p.Transport))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.store.Commit(w.t.Context(), store.PeerSet{Peer: p, Files: files}); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// sent reads every statement in what a line showed.
func (w *world) sent(shown string) (all []label.Replica) {
	w.t.Helper()
	for rest := []byte(shown); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return all
		}
		r, by, err := label.OpenReplica(pem.EncodeToMemory(b), w.desk.Domain(), time.Now())
		if err != nil || by.Box != "box1" {
			w.t.Fatalf("statement of %+v: %v", by, err)
		}
		all = append(all, r)
	}
}

// show runs a line whose answer is a PEM block, which is no text for a narrow terminal.
func (w *world) show(line string, answers ...string) string {
	w.t.Helper()
	out, o := w.try(line, answers...)
	if o.Error != "" || o.Ask != nil {
		w.t.Fatalf("%s: %+v\n%s", line, o, out)
	}
	return out
}

func TestReplicaSend(t *testing.T) {
	w := enrolled(t)
	for _, line := range []string{"access add legal-team", "access add board Board", "access add secrets", "key generate p256 for legal-team",
		"key generate p256 bound for board", "key generate p256 for board", "key generate p256 bound for secrets"} {
		w.do(line)
	}
	w.fail("replica send to box2 legal-team", []string{"yes"}, "was not admitted")
	p := w.peer("box2")
	w.has("replica list", "box2")
	w.fail("replica send to box2 secrets", []string{"yes"}, "never leaves")
	w.fail("replica send to box2 nosuch", []string{"yes"}, "no access identifier")
	w.fail("replica send to box2 legal-team", []string{"no"}, "Not confirmed")
	if out, o := w.try("replica send to box2 legal-team"); out != "" || o.Ask == nil || !strings.Contains(o.Ask.Prompt, "box2") || !strings.Contains(o.Ask.Prompt, p.Label.String()) {
		t.Errorf("asks %+v, shows %q; want the box's name and its label key", o.Ask, out)
	}
	shown := w.show("replica send all to box2", "yes")
	all := w.sent(shown)
	if len(all) != 1 || len(all[0].Keys) != 2 || len(all[0].Access) != 2 || all[0].To != "box2" || !bytes.Equal(all[0].Letter, p.Letter) || all[0].Peer != label.Digest(p.ID()) {
		t.Fatalf("sent %+v", all)
	}
	for _, a := range all[0].Access {
		st, _ := w.store.State().Access(parseAccess(t, a.ID))
		if got := block.KeyIDOfSPKI(all[0].Keys[a.Keys[0]].SPKI); len(a.Keys) != 1 || got != st.Keys[0] {
			t.Errorf("%s has keys %v, the first %v; want its current one alone", a.ID, a.Keys, got)
		}
	}
	if n := strings.Count(shown, "Not sent: key"); n != 2 {
		t.Errorf("says of %d keys that they stay, want 2:\n%s", n, shown)
	}
	w.departed(p, all[0].Keys)
	w.has("system secrets", "1: transfer key for another box — box2")
	w.do("replica dismiss box2", "yes")
	if strings.Contains(w.do("system secrets"), "transfer key") {
		t.Error("a transfer key is counted of a box that was dismissed")
	}
	w.fail("replica send to box2 legal-team", []string{"yes"}, "was not admitted")
	if _, _, err := w.fault.Pack(t.Context(), p.ID(), []block.KeyID{w.store.State().Keys()[0].ID}); err == nil {
		t.Error("the token still packs for a box that was dismissed")
	}
}

// departed sees that the log has hsmd's own word about each key, and nothing that hsmd did besides.
func (w *world) departed(to store.Peer, keys []label.ReplicaKey) {
	w.t.Helper()
	items, head, err := w.fault.ChainSince(w.t.Context(), 0)
	if err != nil || len(items) != len(keys) || w.log.Head().HSM != head {
		w.t.Fatalf("%d items of the chain up to %+v, %v; the log has them up to %+v", len(items), head, err, w.log.Head().HSM)
	}
	for i, k := range keys {
		p := hsm.Parcel{SPKI: k.SPKI, Wrapped: k.Wrapped, SeedKey: k.SeedKey, Seed: k.Seed}
		if items[i].Peer != receipt.Hash(to.ID()) || items[i].Ciphertext != receipt.Hash(p.Hash()) {
			w.t.Errorf("item %d is %+v", i+1, items[i])
		}
	}
	if out := w.do("log verify"); !strings.Contains(out, "copy") {
		w.t.Errorf("the report has no copies:\n%s", out)
	}
}

// TestReplicaSendsManyTexts: what is too much for one paste goes in several.
func TestReplicaSendsManyTexts(t *testing.T) {
	w := enrolled(t)
	w.do("access add legal-team")
	for range label.MaxReplicaKeys + 3 {
		w.do("key generate p256 for legal-team")
	}
	w.peer("box2")
	all := w.sent(w.show("replica send to box2 legal-team", "yes"))
	if len(all) != 2 || len(all[0].Keys) != label.MaxReplicaKeys || len(all[1].Keys) != 3 {
		t.Fatalf("%d texts", len(all))
	}
	a, _ := w.store.State().Access("legal-team")
	if got := block.KeyIDOfSPKI(all[0].Keys[all[0].Access[0].Keys[0]].SPKI); got != a.Keys[0] {
		t.Errorf("the first key is %v, want the current one, %v", got, a.Keys[0])
	}
}

// TestReplicaLeavesAfterItsRecord: with no room in the log no key is shown.
func TestReplicaLeavesAfterItsRecord(t *testing.T) {
	w := enrolled(t)
	w.do("access add legal-team")
	w.do("key generate p256 for legal-team")
	w.peer("box2")
	var broken failing
	w.Agent.c.Log = &broken
	told := 0
	w.Agent.c.Unlogged = func() { told++ }
	for after := range 3 {
		broken = failing{auditLog: w.log, after: after}
		out, o := w.try("replica send to box2 legal-team", "yes")
		leaves := after == 2 // asked and sends are recorded, and what came of it is not
		if o.Error == "" || strings.Contains(out, "BEGIN KRA REPLICA") != leaves {
			t.Errorf("log fails after %d records: %q\n%s", after, o.Error, out)
		}
	}
	if told != 1 {
		t.Errorf("told %d times that the module did what the log lacks, want once", told)
	}
}

// TestReplicaSendChecksFirst: what could not be said of the keys is known before one of them is wrapped, and then none is.
func TestReplicaSendChecksFirst(t *testing.T) {
	w := enrolled(t)
	w.do("access add legal-team")
	w.peer("box2")
	k, files, err := w.fault.Generate(t.Context(), hsm.P256, hsm.Replicable, hsm.Resident)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.Commit(t.Context(), store.KeyAdd{Key: k, Made: time.Unix(0, 0), Files: files, Access: "legal-team"}); err != nil {
		t.Fatal(err)
	}
	w.fail("replica send to box2 legal-team", []string{"yes"}, "Nothing was sent")
	if items, _, err := w.fault.ChainSince(t.Context(), 0); err != nil || len(items) != 0 {
		t.Errorf("%d keys were wrapped, %v; want none", len(items), err)
	}
}

// TestAdmittedAgain: who admits a box again is told whether it is who it was.
func TestAdmittedAgain(t *testing.T) {
	w := enrolled(t)
	p := w.peer("box2")
	s := &step{a: w.Agent}
	for _, x := range []struct {
		what, want string
		change     func(*store.Peer)
	}{
		{"the same", "who it was", func(*store.Peer) {}},
		{"another token", "its token is another", func(p *store.Peer) { p.Transport = bytes.Repeat([]byte{9}, hsm.TransportSize) }},
		{"another label key", label.Digest{3}.String(), func(p *store.Peer) { p.Label = label.Digest{3} }},
	} {
		now := p
		x.change(&now)
		if got := s.wasAdmitted(now); !strings.Contains(got, x.want) || now.Label != p.Label && !strings.Contains(got, p.Label.String()) {
			t.Errorf("%s: %q, want %q", x.what, got, x.want)
		}
	}
	p.Box = "box3"
	if got := s.wasAdmitted(p); got != "" {
		t.Errorf("a box that is new: %q", got)
	}
}

// TestIncomingKeys: only what may be a copy is taken for one.
func TestIncomingKeys(t *testing.T) {
	good := label.ReplicaKey{SPKI: []byte("spki"), Suite: "p256", Custody: "replicable", State: "active"}
	in := incoming{by: label.Member{Box: "box1"}}
	if err := in.add(store.Empty(), 0, good); err != nil || len(in.ids) != 1 {
		t.Fatal(in, err)
	}
	k := hsm.Key{ID: block.KeyIDOfSPKI(good.SPKI), SPKI: good.SPKI, Suite: hsm.P256, Custody: hsm.Replicable, Origin: hsm.Generated, Mode: hsm.Resident}
	gone, err := store.Apply(store.Empty(), store.KeyAdd{Key: k}, store.KeyRemove{ID: k.ID})
	if err != nil {
		t.Fatal(err)
	}
	if err := in.add(gone, 1, good); err == nil || !strings.Contains(err.Error(), "was destroyed here") {
		t.Errorf("a destroyed key comes back: %v", err)
	}
	for why, spoil := range map[string]func(*label.ReplicaKey){
		"not known":     func(k *label.ReplicaKey) { k.Suite = "rsa-1024" },
		"is bound":      func(k *label.ReplicaKey) { k.Custody = "bound" },
		"unknown state": func(k *label.ReplicaKey) { k.State = "new" },
	} {
		k := good
		spoil(&k)
		if err := in.add(store.Empty(), 1, k); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want an error with %q", err, why)
		}
	}
}

// A failing log takes so many records and then no more.
type failing struct {
	auditLog
	after int
}

func (f *failing) Append(ctx context.Context, e ...audit.Entry) (audit.Committed, error) {
	if f.after--; f.after < 0 {
		return audit.Committed{}, errors.New("disk full")
	}
	return f.auditLog.Append(ctx, e...)
}

func parseAccess(t *testing.T, s string) kra.AccessID {
	t.Helper()
	id, err := kra.ParseAccessID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
