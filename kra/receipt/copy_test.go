package receipt_test

import (
	"errors"
	"testing"

	"github.com/keyrelease/krabox/kra/receipt"
)

// TestCopyIsNoUnwrap: what hsmd let out of the token, and to whom, is in the head of its chain. Nobody can log it as an
// unwrap, or as gone to another box.
func TestCopyIsNoUnwrap(t *testing.T) {
	i := receipt.Instance{1}
	left := receipt.Item{Instance: i, N: 1, Key: receipt.Hash{2}, Ciphertext: receipt.Hash{3}, Peer: receipt.Hash{4}}
	head := receipt.ChainHead{Instance: i, N: 1, Head: left.After(receipt.FirstHead(i))}
	unwrap, elsewhere := left, left
	unwrap.Peer, elsewhere.Peer = receipt.Hash{}, receipt.Hash{5}
	for name, c := range map[string]struct {
		logged receipt.Item
		want   error
	}{"as it was": {left, nil}, "as an unwrap": {unwrap, receipt.ErrChain}, "to another": {elsewhere, receipt.ErrChain}} {
		l := receipt.NewLife(i)
		if err := l.Add(c.logged); err != nil {
			t.Fatal(err)
		}
		if err := l.Prove(head); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for _, k := range []receipt.Kind{receipt.Copy, receipt.HSMOrphan} {
		b, err := receipt.Public{Kind: k, Item: &left}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if p, err := receipt.ParsePublic(b); err != nil || *p.Item != left {
			t.Errorf("%s: read as %+v, %v", k, p.Item, err)
		}
	}
}
