package book

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"maps"
	"math/big"
	mrand "math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
)

// An author makes keys and certificates.
type author struct {
	t      testing.TB
	key    *ecdsa.PrivateKey
	serial int64
}

func newAuthor(t testing.TB) *author {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &author{t: t, key: k}
}

func (a *author) certify(pub any, ca bool) []byte {
	a.t.Helper()
	a.serial++
	c := &x509.Certificate{SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: ca, BasicConstraintsValid: true, SubjectKeyId: []byte{byte(a.serial >> 8), byte(a.serial), 1}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, pub, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// newKey returns a key that the token could have made.
func (a *author) newKey() (hsm.Key, any) {
	a.t.Helper()
	k := newAuthor(a.t).key
	spki, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		a.t.Fatal(err)
	}
	return hsm.Key{ID: block.KeyIDOfSPKI(spki), SPKI: spki, Suite: hsm.P256, Custody: hsm.Bound, Origin: hsm.Generated, Mode: hsm.Resident}, k.Public()
}

var keySet = []byte(`{"keys":[{"kty":"OKP"}]}`)

// changes makes changes of all that a book is made of, over few names, so that they meet.
func (a *author) changes(r *mrand.Rand, n int) (out []store.Change) {
	name := func() string { return []string{"a", "b", "c", "d"}[r.IntN(4)] }
	type made struct {
		hsm.Key
		pub any
	}
	var keys []made
	for range 5 {
		k, pub := a.newKey()
		keys = append(keys, made{k, pub})
	}
	ca := a.certify(a.key.Public(), true)
	for range n {
		k := keys[r.IntN(len(keys))]
		access := kra.AccessID(name())
		who := "a:CN=" + name()
		out = append(out, []store.Change{
			store.RuleAdd{Name: name(), Expr: "true"}, store.RuleSet{Name: name(), Expr: `id == "` + who + `"`}, store.RuleRemove{Name: name()},
			store.AccessAdd{ID: access, Title: name()}, store.AccessRemove{ID: access}, store.AccessDelivery{ID: access, Delivery: store.ToAnyone},
			store.AccessLists{ID: access, Lists: []string{name()}}, store.GroupAdd{Group: name(), Member: who}, store.GroupRemove{Group: name(), Member: who},
			store.GroupRemove{Group: name()}, store.GroupNest{Group: name(), In: name()}, store.GroupUnnest{Group: name(), From: name()},
			store.MaintainerAdd{Group: name(), Maintainer: who}, store.RoleSet{Name: name(), Needs: []store.Need{{Kind: store.GroupInformation, Name: name()}}},
			store.RoleRemove{Name: name()}, store.LevelsSet{Names: []string{name()}}, store.LevelsSet{},
			store.AnchorAdd{Alias: kra.Anchor(name()), Naming: kra.WholeName, Cert: ca}, store.AnchorRemove{Alias: kra.Anchor(name())},
			store.SourceSet{Source: store.Source{Alias: kra.Anchor(name()), May: []store.InformationKind{store.RoleInformation, store.DeviceInformation},
				Issuer: &store.TokenIssuer{Issuer: name(), Audience: "kra", Keys: keySet}}},
			store.SourceSet{Source: store.Source{Alias: kra.Anchor(name()), Service: &store.Service{URL: "https://pay.example.com", CA: [][]byte{ca},
				Mode: store.Verify, TimeoutMS: 100, InFlight: 1, Charge: store.ChargePlatform}}},
			store.SourceRemove{Alias: kra.Anchor(name())},
			store.KeyAdd{Key: k.Key, Access: access, Chain: [][]byte{a.certify(k.pub, false)}}, store.KeyRemove{ID: k.ID},
			store.AccessKeys{ID: access, Keys: []block.KeyID{k.ID}}, store.CertificateSet{Access: access, Key: k.ID, Chain: [][]byte{a.certify(k.pub, false)}},
			store.KeyTag{ID: k.ID}, store.KeyUntag{ID: k.ID}, store.KeyMark{ID: k.ID, State: store.Suspended}, store.KeyMark{ID: k.ID, State: store.Active},
			store.KeyDoom{ID: k.ID, At: time.Unix(1800000000, 0)}, store.KeyDoom{ID: k.ID},
		}[r.IntN(32)])
	}
	return out
}

// TestEditsRebuild: the edits of any sequence of changes, one after the other, come to the definition that all records make
// at once; and what an edit is made of is not written to.
func TestEditsRebuild(t *testing.T) {
	for seed := range uint64(30) {
		a := newAuthor(t)
		var st *store.State
		var step policy.Definition
		applied := 0
		base, err := store.Apply(store.Empty(), store.OfficerAdd{Name: "root", Hash: "$argon2id$x", Duty: store.Chief})
		if err != nil {
			t.Fatal(err)
		}
		st = base
		for _, c := range a.changes(mrand.New(mrand.NewPCG(seed, 1)), 300) {
			next, err := store.Apply(st, c)
			var invalid *store.Invalid
			if errors.As(err, &invalid) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			edit, err := Edit(next, st, next.Since(st))
			if err != nil {
				t.Fatal(err)
			}
			if step, err = step.Apply(edit); err != nil {
				t.Fatalf("seed %d: %T %+v: %v", seed, c, c, err)
			}
			st = next
			applied++
		}
		if applied < 60 {
			t.Fatalf("seed %d: %d changes are valid", seed, applied)
		}
		whole, err := Edit(st, nil, st.Since(nil))
		if err != nil {
			t.Fatal(err)
		}
		atOnce, err := policy.Definition{}.Apply(whole)
		if err != nil {
			t.Fatal(err)
		}
		if d := policy.Diff(step, atOnce); !d.IsZero() {
			t.Errorf("seed %d: one by one and at once differ: %+v", seed, d)
		}
	}
}

// TestEditsCompile: what the console can make, the book understands: roles, sources, services, levels, nested groups, names
// of keys.
func TestEditsCompile(t *testing.T) {
	a := newAuthor(t)
	k, pub := a.newKey()
	ca := a.certify(a.key.Public(), true)
	chain := [][]byte{a.certify(pub, false)}
	st, err := store.Apply(store.Empty(), store.AnchorAdd{Alias: "corp", Naming: kra.WholeName, Cert: ca},
		store.SourceSet{Source: store.Source{Alias: "idp", May: []store.InformationKind{store.RoleInformation, store.ClearanceInformation},
			Issuer: &store.TokenIssuer{Issuer: "i", Audience: "kra", Keys: keySet}}},
		store.LevelsSet{Names: []string{"open", "closed"}}, store.GroupAdd{Group: "staff", Member: "corp:CN=a"}, store.GroupAdd{Group: "all"},
		store.GroupNest{Group: "staff", In: "all"}, store.RoleSet{Name: "teller", Needs: []store.Need{{Kind: store.GroupInformation, Name: "all"}}},
		store.RuleAdd{Name: "r", Expr: `roles.has("teller") && roles.has("x","idp") && clearance.dominates("closed") && aliases.has("mail:a@example.com","corp")`},
		store.AccessAdd{ID: "legal"}, store.AccessLists{ID: "legal", Lists: []string{"r"}}, store.AccessDelivery{ID: "legal", Delivery: store.ToAnyone},
		store.KeyAdd{Key: k, Access: "legal", Chain: chain})
	if err != nil {
		t.Fatal(err)
	}
	edit, err := Edit(st, nil, st.Since(nil))
	if err != nil {
		t.Fatal(err)
	}
	var none *policy.Book
	if _, err := none.Revise(1, edit); err != nil {
		t.Fatal(err)
	}
	key, _ := st.Key(k.ID)
	refs, err := key.Refs()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range refs {
		named := slices.ContainsFunc(edit.Put.Aliases, func(x policy.KeyAlias) bool { return x.Ref == r && x.Key == k.ID })
		if named == (r.Kind() == block.RefKeyID) {
			t.Errorf("%s is an alias: %v", r, named)
		}
	}
	if r, err := block.AgeRecipient(pub); err != nil || fmt.Sprint(edit.Put.Tagged) != "["+r+"]" {
		t.Errorf("tagged %v, %v", edit.Put.Tagged, err)
	}
}

// TestNamesInOrder: names are in the order of their text, as replay compares them, whatever they begin with; each is there once, and the
// first of the keys that share one has it.
func TestNamesInOrder(t *testing.T) {
	r := mrand.New(mrand.NewPCG(1, 2))
	var names []name
	for range 2000 {
		value := make([]byte, 1+r.IntN(32))
		for i := range value {
			value[i] = byte(r.IntN(3)) * 0x7e // beginnings that repeat, and both ends of base64url
		}
		ski, err := block.SKIRef(value)
		if err != nil {
			t.Fatal(err)
		}
		for _, ref := range []block.Ref{ski, block.ThumbprintRef([32]byte(append(value, make([]byte, 32)...))), block.IssuerSerialRef(value, nil)} {
			names = append(names, newName(ref, block.KeyID{byte(r.IntN(256))}))
		}
	}
	want := map[string]block.KeyID{}
	for _, n := range names {
		if key, ok := want[n.text]; !ok || bytes.Compare(n.key[:], key[:]) < 0 {
			want[n.text] = n.key
		}
	}
	got := inOrder(names)
	if texts := slices.Sorted(maps.Keys(want)); len(got) != len(texts) {
		t.Fatalf("%d names, want %d", len(got), len(texts))
	} else {
		for i, n := range got {
			if n.text != texts[i] || n.ref.String() != n.text || n.key != want[n.text] {
				t.Fatalf("name %d is %s of %s, want %s of %s", i, n.text, n.key, texts[i], want[texts[i]])
			}
		}
	}
}
