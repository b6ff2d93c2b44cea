package hsm_test

import (
	"testing"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// TestChainRecordsWhatLeaves: each key that is packed is an item of the chain, of its kind, with the box it goes to and what
// goes there; what is refused is none.
func TestChainRecordsWhatLeaves(t *testing.T) {
	a, b := box(t, 1), box(t, 2)
	token := openBox(t, a)
	defer a.Close()
	x := pack(t, a, b, token)
	peer := wire.PeerOf(must(b.Transport()))
	again, head, err := a.Pack(peer, []block.KeyID{x.keys[1].ID})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Pack(peer, []block.KeyID{x.keys[0].ID, {1}}); err == nil {
		t.Fatal("a key that is not there was packed")
	}
	items, last, err := a.Since(0)
	if err != nil || len(items) != len(x.keys)+1 || last != head || a.Check(head) != nil {
		t.Fatalf("%d items, head %+v, %v; want %d and %+v", len(items), last, err, len(x.keys)+1, head)
	}
	want := receipt.FirstHead(head.Instance)
	for n, p := range append(x.parcels, again...) {
		i := items[n]
		if i.Key != receipt.Hash(block.KeyIDOfSPKI(p.SPKI)) || i.Peer != receipt.Hash(peer) || i.Ciphertext != receipt.Hash(p.Hash()) || i.N != uint64(n+1) {
			t.Errorf("item %d is %+v", n+1, i)
		}
		want = i.After(want)
	}
	if head.Head != want {
		t.Errorf("head %v, want %v", head.Head, receipt.Hash(want))
	}
	if got := wire.Departed(peer, again, head); len(got) != 1 || got[0] != items[len(items)-1] {
		t.Errorf("told of %+v, want %+v", got, items[len(items)-1])
	}
}
