package policy

import (
	"crypto/ecdh"
	"crypto/rand"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// workday is a Wednesday, 10:30 in Berlin.
func workday() time.Time { return time.Date(2026, 11, 18, 9, 30, 0, 0, time.UTC) }

func decryptor(t testing.TB, s string) kra.Decryptor {
	t.Helper()
	d, err := kra.ParseDecryptor(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// facts are those of alice, who sits in Berlin's office.
func facts(t testing.TB) Facts {
	return Facts{Decryptor: decryptor(t, "corp:CN=alice,O=Example"), Source: netip.MustParseAddr("10.20.3.4"), ClockTrusted: true, Channel: Authenticated}
}

func newKey(t testing.TB) *ecdh.PublicKey {
	t.Helper()
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k.PublicKey()
}

func keyID(t testing.TB, k *ecdh.PublicKey) block.KeyID {
	t.Helper()
	id, err := block.KeyIDOf(k)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// header returns the header of a block encrypted to the keys, in their order.
func header(t testing.TB, keys ...*ecdh.PublicKey) block.Header {
	t.Helper()
	var to []age.Recipient
	for _, k := range keys {
		r, err := block.NewRecipient(k)
		if err != nil {
			t.Fatal(err)
		}
		to = append(to, r)
	}
	var out strings.Builder
	w, err := age.Encrypt(&out, to...)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h, _, err := block.ParseHeader(strings.NewReader(out.String()), block.MaxHeader)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// nothing is the empty book, whose tools all others share.
var nothing = sync.OnceValues(func() (*Book, error) { return Compile(1, Definition{}, nil) })

func compile(t testing.TB, d Definition) *Book {
	t.Helper()
	none, err := nothing()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Compile(1, d, none)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// one is a definition with one rule, one group and one access identifier whose only list is that rule.
func one(expr string, keys ...block.KeyID) Definition {
	return Definition{
		Rules:  []RuleDef{{"r", expr}},
		Groups: []GroupDef{{Name: "legal", Members: []string{"corp:CN=alice,O=Example"}}, {Name: "empty"}},
		Access: []AccessDef{{ID: "legal-team", Title: "Legal team", Keys: keys, Lists: []string{"r"}}},
	}
}
