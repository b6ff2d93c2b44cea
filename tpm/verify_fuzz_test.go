package tpm

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/keyrelease/krabox/kra/label"
)

// fuzzDomain is fixed, so that seeds stay true: its keys are public points nobody holds the scalars of any more.
func fuzzDomain(t testing.TB) label.Domain {
	t.Helper()
	b, err := os.ReadFile("testdata/domain.json")
	if err != nil {
		t.Fatal(err)
	}
	d, err := label.ParseDomain(b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A request comes from whoever holds a console: nothing in it may bring the desk down, and nothing changed may pass.
func FuzzVerifyRequest(f *testing.F) {
	seeds, err := os.ReadDir("testdata/fuzz/FuzzVerifyRequest")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	whole, err := os.ReadFile("testdata/request.pem")
	if err != nil {
		f.Fatal(err)
	}
	genuine, err := label.ParseRequest(whole)
	if err != nil {
		f.Fatal(err)
	}
	d := fuzzDomain(f)
	if _, err := VerifyRequest(genuine, d); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint16, with byte, tail []byte) {
		r := clone(t, genuine)
		parts := []*[]byte{&r.SRK, &r.AK, &r.Keys[0].Public, &r.Keys[0].Creation.Data, &r.Keys[0].Creation.Attest.Attest, &r.Keys[0].Creation.Attest.Signature,
			&r.Keys[3].Public, &r.Keys[3].Creation.Data, &r.Keys[3].Creation.Attest.Attest, &r.Keys[3].Creation.Attest.Signature,
			&r.Quote.Attest, &r.Quote.Signature, &r.EventLog, &r.Escrow.Owner, &r.EK.Public}
		p := parts[int(which)%len(parts)]
		if len(*p) == 0 {
			return
		}
		i := int(at) % len(*p)
		changed := append(append((*p)[:i:i], with), (*p)[i+1:]...)
		if len(tail) > 0 {
			changed = append(changed[:i], tail...)
		}
		same := string(changed) == string(*p)
		*p = changed
		if _, err := VerifyRequest(r, d); (err == nil) != same {
			t.Errorf("part %d changed at %d: verified", int(which)%len(parts), i)
		}
	})
}

func clone(t *testing.T, r label.EnrolRequest) (c label.EnrolRequest) {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return c
}
