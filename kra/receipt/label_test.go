package receipt_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/receipt"
	"github.com/keyrelease/krabox/kra/receipt/receipttest"
)

// A box of the same domain certifies a receipt key in the name of another.
func TestLabelSpeaksForItsOwnBox(t *testing.T) {
	d, now := receipttest.New(t, "example"), time.Now()
	_, own := d.Key(t, "box1", now)
	if n, err := own.Verify(d.Roots, now); err != nil || n.Box != "box1" {
		t.Fatalf("Verify(own) = %v, %v; want box1", n, err)
	}
	_, lent := d.KeyUnder(t, "box2", "box1", now)
	if n, err := lent.Verify(d.Roots, now); err == nil || !strings.Contains(err.Error(), `no label certificate of box "box1"`) {
		t.Errorf("Verify(box1's name under box2's label key) = %v, %v; want a refusal", n, err)
	}
}

// What a box says of its service is signed under its label: a receipt is dropped, and a log too, when the key that signed it was certified as
// anything else than the key-release label of this very box in this domain, however well it is signed.
func TestServiceDataCarriesItsLabel(t *testing.T) {
	for name, c := range map[string]struct{ by, why string }{
		"its label":         {"kra://example/label/key-release/box1", ""},
		"root":              {"kra://example/label/root/box1", "no label certificate"},
		"maintenance":       {"kra://example/label/maintenance/box1", "no label certificate"},
		"attended":          {"kra://example/label/attended/box1", "no label certificate"},
		"another box":       {"kra://example/label/key-release/box2", "no label certificate"},
		"another domain":    {"kra://other.example/label/key-release/box1", "no label certificate"},
		"a platform":        {"kra://example/platform/box1", "no label certificate"},
		"another's receipt": {"kra://example/receipt/box1", "no label certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBoxOf(t, c.by)
			all, heads := items(receipt.Instance{1}, 1)
			r := b.record(release(all[0]))
			checkpoint := b.checkpoint(heads[1])
			_, err := receipt.Verify(b.receipt(1, r), checkpoint, b.signer.Path(), b.domain.Roots)
			if (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
				t.Errorf("receipt: %v; want %q", err, c.why)
			}
			_, err = b.verify()
			if (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
				t.Errorf("log: %v; want %q", err, c.why)
			}
		})
	}
}
