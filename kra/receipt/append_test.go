package receipt_test

import (
	"encoding/json"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyrelease/krabox/kra/receipt"
)

func TestAppendIsTheOneForm(t *testing.T) {
	for _, proof := range []tlog.RecordProof{nil, {}, {{1}}, {{1}, {0xff, 0xfe}, {}}} {
		r := receipt.Receipt{Index: 1 << 40, Public: json.RawMessage(`{"kind":"release","time":"2026-11-18T09:30:00.000Z"}`), Commitment: receipt.Hash{0xab}, Proof: proof}
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Append([]byte("x")); string(got) != "x"+string(want) {
			t.Errorf("Append = %s; want %s", got, want)
		}
	}
}
