package receipt_test

import (
	"strings"
	"testing"
	"time"

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
