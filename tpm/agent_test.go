package tpm

import (
	"testing"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

func TestEnrolAndBoot(t *testing.T) {
	b := newBench(t, newAuthority(t, "example"))
	b.boot(v1)
	if s, err := b.Status(t.Context()); err != nil || s.State != wire.Factory || s.Stage != "none" {
		t.Fatalf("Status() = %+v, %v; want factory", s, err)
	}
	i := b.enrol()
	key, err := i.StoreKey()
	if err != nil || !i.NeedsStore || i.Officer.Name != "alice" || i.Approvals != 2 {
		t.Fatalf("installed %+v, %v", i, err)
	}
	for range 2 {
		b.boot(v1)
		store, chain := wire.Derive(b.serves())
		if store != key || chain == store {
			t.Error("the keys derived at boot are not the ones of the enrolment")
		}
		s, err := b.Status(t.Context())
		if err != nil || s.State != wire.Enrolled || s.Stage != "running" || s.Epoch != 1 || s.Box.Name != "box1" {
			t.Errorf("Status() = %+v, %v", s, err)
		}
		for _, v := range s.Versions {
			if !v.Matches {
				t.Errorf("approval %+v does not match what runs", v)
			}
		}
	}
	if err := b.WriteRecord(t.Context(), record(2)); err != nil {
		t.Fatal(err)
	}
	if r, err := b.Record(t.Context()); err != nil || r != record(2) {
		t.Errorf("Record() = %+v, %v; want generation 2", r, err)
	}
	wantRefused(t, b.WriteRecord(t.Context(), record(1)), "go back")
}

func TestUnsealOncePerBoot(t *testing.T) {
	b := enrolled(t)
	b.boot(v1)
	b.serves()
	_, _, err := b.Unseal(t.Context())
	wantRefused(t, err, "PCR 14 (stage)", `expected stage "open"`, `found stage "running"`)
	_ = label.Open
}
