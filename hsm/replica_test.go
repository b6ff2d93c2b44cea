package hsm_test

import (
	"bytes"
	"crypto/elliptic"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

// box returns a custodian whose token is not open yet: a process has one token open at a time.
func box(t *testing.T, chain byte) *hsm.Custodian {
	t.Helper()
	return must(hsm.New(hsmtest.Config(t), [32]byte{chain}))
}

func openBox(t *testing.T, c *hsm.Custodian) wire.Token {
	t.Helper()
	token := hsmtest.Token()
	i, err := c.Open(hsmtest.Again(token, nil))
	if err != nil {
		t.Fatal(err)
	}
	return hsmtest.Again(token, i.Files)
}

// A transfer is replicable keys of each kind on their way from a token to another box.
type transfer struct {
	keys    []wire.Key
	letter  []byte
	parcels []wire.Parcel
}

var replicaSuites = []wire.Suite{wire.P256, wire.RSA2048, wire.RSA3072, wire.Hybrid, wire.P384}

// pack makes keys in the open token of c and packs them for another box.
func pack(t *testing.T, c, to *hsm.Custodian, token wire.Token) (x transfer) {
	t.Helper()
	var err error
	if x.letter, _, err = c.Admit(hsmtest.Again(token, nil), asked(t, must(to.Transport()))); err != nil {
		t.Fatal(err)
	}
	var ids []block.KeyID
	for _, s := range replicaSuites {
		k := custodyKey(t, c, s, wire.Replicable)
		x.keys, ids = append(x.keys, k), append(ids, k.ID)
	}
	x.parcels, _, err = c.Pack(wire.PeerOf(must(to.Transport())), ids)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// asked is a request of another box of the domain.
func asked(t testing.TB, transport []byte) []byte { return hsmtest.Request(t, "box2", transport) }

// TestAdmitsBoxesOfTheDomain: an agent that has the PINs, and whose box has anything signed in its name, admits no key of its own: only
// what another box of the domain has asked for, whole.
func TestAdmitsBoxesOfTheDomain(t *testing.T) {
	a := box(t, 1)
	token := openBox(t, a)
	own := must(box(t, 2).Transport())
	good := asked(t, own)
	flipped := bytes.Clone(good)
	at := bytes.Index(flipped, []byte("\n\n")) + len(flipped)/2
	flipped[at] ^= 1
	before := a.Objects()
	for name, x := range map[string]struct {
		why     string
		request []byte
	}{
		"a bare key":        {"no block", own},
		"nothing":           {"no block", nil},
		"this box's own":    {"is this box", hsmtest.Request(t, hsmtest.Box, own)},
		"an altered one":    {"", flipped},
		"a part of one":     {"", good[:len(good)/2]},
		"of another domain": {"verify signatory", hsmtest.Foreign(t, "box2", own)},
	} {
		letter, _, err := a.Admit(hsmtest.Again(token, nil), x.request)
		if !errors.As(err, new(wire.Refused)) || !strings.Contains(err.Error(), x.why) || letter != nil {
			t.Errorf("%s: %v, want a refusal with %q", name, err, x.why)
		}
		if n := a.Objects(); n != before {
			t.Fatalf("%s: %d objects were made", name, n-before)
		}
	}
	if _, _, err := a.Admit(hsmtest.Again(token, nil), good); err != nil {
		t.Errorf("another box of the domain: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*hsm.Config){"no domain": func(c *hsm.Config) { c.Domain = label.Domain{} }, "no name": func(c *hsm.Config) { c.Box = "" }} {
		config := hsmtest.Config(t)
		spoil(&config)
		b := must(hsm.New(config, [32]byte{1}))
		if _, _, err := b.Admit(hsmtest.Again(openBox(t, b), nil), good); err == nil || !strings.Contains(err.Error(), "told of no domain") {
			t.Errorf("%s: %v", name, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReplicate carries keys of each kind from one token to another, where they open what was wrapped to them, also after
// a restart, and can be carried on.
func TestReplicate(t *testing.T) {
	a, b, other := box(t, 1), box(t, 2), box(t, 3)
	token := openBox(t, a)
	x := pack(t, a, b, token)
	for i, k := range x.keys {
		if r, _ := unwrap(t, a, wrapTo(t, k, byte(i))); !isKey(r[0], byte(i)) {
			t.Errorf("%v: does not open where it came from any more: %v", k.Suite, r[0].Err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	token = openBox(t, b)
	keys, changed, err := b.Receive(x.letter, x.parcels, wire.Resident)
	if err != nil {
		t.Fatal(err)
	}
	apply(token.Files, changed)
	for i, k := range keys {
		want := x.keys[i]
		if k.ID != want.ID || k.Suite != want.Suite || k.Custody != wire.Replicable || k.Origin != wire.Imported {
			t.Errorf("received %v, want %v", k, want)
		}
	}
	if left := b.TransferKeys(); len(left) != 0 {
		t.Errorf("%d transfer keys stay with the receiver", len(left))
	}
	reopen(t, b, token)
	for i, k := range x.keys {
		if r, _ := unwrap(t, b, wrapTo(t, k, byte(i))); !isKey(r[0], byte(i)) {
			t.Errorf("%v: copy does not open: %v", k.Suite, r[0].Err)
		}
	}
	if _, _, err := b.Admit(hsmtest.Again(token, nil), asked(t, must(other.Transport()))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Pack(wire.PeerOf(must(other.Transport())), []block.KeyID{x.keys[0].ID, x.keys[3].ID}); err != nil {
		t.Errorf("a copy cannot be carried on: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReceiveRefused: what is not whole, not for this token, or not what it says, leaves nothing in it.
func TestReceiveRefused(t *testing.T) {
	a, b, other := box(t, 1), box(t, 2), box(t, 3)
	x := pack(t, a, b, openBox(t, a))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	openBox(t, b)
	defer b.Close()
	objects := b.Objects()
	change := func(i int, f func(*wire.Parcel)) []wire.Parcel {
		all := slices.Clone(x.parcels)
		f(&all[i])
		return all
	}
	flip := func(b []byte, i int) []byte { b = bytes.Clone(b); b[i] ^= 1; return b }
	for name, c := range map[string]struct {
		letter  []byte
		parcels []wire.Parcel
	}{
		"no keys":                   {x.letter, nil},
		"too many":                  {x.letter, make([]wire.Parcel, wire.MaxParcels+1)},
		"altered letter":            {flip(x.letter, len(x.letter)-1), x.parcels},
		"no letter":                 {nil, x.parcels},
		"the last altered":          {x.letter, change(3, func(p *wire.Parcel) { p.Wrapped = flip(p.Wrapped, 9) })},
		"altered seed key":          {x.letter, change(3, func(p *wire.Parcel) { p.SeedKey = flip(p.SeedKey, 9) })},
		"altered seed":              {x.letter, change(3, func(p *wire.Parcel) { p.Seed = flip(p.Seed, 20) })},
		"another's public half":     {x.letter, change(0, func(p *wire.Parcel) { p.SPKI = must(newECSPKI(t)) })},
		"RSA under another's name":  {x.letter, change(1, func(p *wire.Parcel) { p.Wrapped = x.parcels[2].Wrapped })},
		"EC where RSA is said":      {x.letter, change(1, func(p *wire.Parcel) { p.Wrapped = x.parcels[0].Wrapped })},
		"the same twice":            {x.letter, append(slices.Clone(x.parcels), x.parcels[0])},
		"no private half":           {x.letter, change(0, func(p *wire.Parcel) { p.Wrapped = nil })},
		"hybrid without its seed":   {x.letter, change(3, func(p *wire.Parcel) { p.Seed = nil })},
		"seed where none belongs":   {x.letter, change(0, func(p *wire.Parcel) { p.Seed = x.parcels[3].Seed })},
		"a key of no kind we keep":  {x.letter, change(0, func(p *wire.Parcel) { p.SPKI = []byte("key") })},
		"first an attacker's guess": {x.letter, change(0, func(p *wire.Parcel) { p.Wrapped = make([]byte, 144) })},
	} {
		if _, _, err := b.Receive(c.letter, c.parcels, wire.Resident); err == nil {
			t.Errorf("%s: received", name)
		}
		if n := b.Objects(); n != objects {
			t.Errorf("%s: leaves %d objects", name, n-objects)
		}
		if keys := must(b.List()); len(keys) != 0 {
			t.Fatalf("%s: %d keys stay", name, len(keys))
		}
	}
	if _, _, err := other.Receive(x.letter, x.parcels, wire.Resident); err == nil || !strings.Contains(err.Error(), "not sealed to this box") {
		t.Errorf("another box opens the letter: %v", err)
	}
	if _, _, err := b.Receive(x.letter, x.parcels, wire.Resident); err != nil {
		t.Fatalf("what is as it was: %v", err)
	}
	if _, _, err := b.Receive(x.letter, x.parcels, wire.Resident); err == nil || !strings.Contains(err.Error(), "in the token already") {
		t.Errorf("received twice: %v", err)
	}
}

func newECSPKI(t *testing.T) ([]byte, error) {
	t.Helper()
	return block.MarshalPublicKey(newEC(t, elliptic.P256()).Public())
}

// TestPackRefused: what is bound stays, and nothing leaves for who was not admitted.
func TestPackRefused(t *testing.T) {
	a, b := box(t, 1), box(t, 2)
	token := openBox(t, a)
	defer a.Close()
	to := must(b.Transport())
	k, bound := custodyKey(t, a, wire.P256, wire.Replicable), custodyKey(t, a, wire.P256, wire.Bound)
	refused := func(what, why string, ids ...block.KeyID) {
		t.Helper()
		if all, _, err := a.Pack(wire.PeerOf(to), ids); err == nil || all != nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want an error with %q", what, err, why)
		}
	}
	refused("to a box that was not admitted", "admit it again", k.ID)
	if _, _, err := a.Admit(wire.Token{PIN: []byte("another"), SOPIN: token.SOPIN}, asked(t, to)); !errors.Is(err, wire.ErrPIN) {
		t.Errorf("admitted with a wrong PIN: %v", err)
	}
	if _, _, err := a.Admit(wire.Token{PIN: token.PIN, SOPIN: token.PIN}, asked(t, to)); !errors.Is(err, wire.ErrPIN) {
		t.Errorf("admitted with the user's PIN in place of the officer's: %v", err)
	}
	if _, _, err := a.Admit(hsmtest.Again(token, nil), asked(t, to[1:])); err == nil {
		t.Error("a transport key that is none was admitted")
	}
	select {
	case <-a.Failed():
		t.Error("an admission with a wrong PIN cost the token its log-in")
	default:
	}
	refused("after admissions that failed", "admit it again", k.ID)
	if _, _, err := a.Admit(hsmtest.Again(token, nil), asked(t, to)); err != nil {
		t.Fatal(err)
	}
	refused("bound", "never leaves", bound.ID)
	refused("bound among others", "never leaves", k.ID, bound.ID)
	if _, _, err := a.Pack(wire.PeerOf(to), []block.KeyID{{1}}); !errors.Is(err, wire.ErrNoKey) {
		t.Errorf("absent key: %v", err)
	}
	refused("no key", "limit 1 to")
	refused("too many", "limit 1 to", make([]block.KeyID, wire.MaxParcels+1)...)
	if _, err := a.Dismiss(wire.PeerOf(to)); err != nil {
		t.Fatal(err)
	}
	refused("after the dismissal", "admit it again", k.ID)
	if _, err := a.Dismiss(wire.PeerOf(to)); !errors.Is(err, wire.ErrNoKey) {
		t.Errorf("dismissed twice: %v", err)
	}
}

// TestOnlyTheOfficerLetsKeysOut: who has the PIN and a session, but not the officer's PIN, can make no key under which a
// replicable key leaves, and can get at nothing by the one that the officer has made.
func TestOnlyTheOfficerLetsKeysOut(t *testing.T) {
	a, b := box(t, 1), box(t, 2)
	token := openBox(t, a)
	defer a.Close()
	x := pack(t, a, b, token)
	transfers := a.TransferKeys()
	if len(transfers) != 1 {
		t.Fatalf("%d transfer keys, want 1", len(transfers))
	}
	a.Bare(x.keys[0].ID, func(lib *p11.Ctx, sh p11.SessionHandle, key p11.ObjectHandle) {
		by := transfers[0]
		readAll(t, lib, sh, by)
		oaep := []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_OAEP, p11.NewOAEPParams(p11.CKM_SHA_1, p11.CKG_MGF1_SHA1, p11.CKZ_DATA_SPECIFIED, nil))}
		kwp := []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_WRAP_PAD, nil)}
		rsa := newRSA(t, 2048)
		mine := []*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY), attr(p11.CKA_KEY_TYPE, p11.CKK_RSA), attr(p11.CKA_TOKEN, false), attr(p11.CKA_PRIVATE, false),
			attr(p11.CKA_WRAP, true), attr(p11.CKA_MODULUS, rsa.N.Bytes()), attr(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1})}
		if _, err := lib.CreateObject(sh, append(mine, attr(p11.CKA_TRUSTED, true))); err == nil {
			t.Error("the user can make a trusted public key")
		}
		pub := must(lib.CreateObject(sh, mine))
		aes := must(lib.CreateObject(sh, []*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attr(p11.CKA_KEY_TYPE, p11.CKK_AES), attr(p11.CKA_TOKEN, false),
			attr(p11.CKA_WRAP, true), attr(p11.CKA_UNWRAP, true), attr(p11.CKA_VALUE, make([]byte, 32))}))
		for _, h := range []p11.ObjectHandle{pub, aes} {
			if lib.SetAttributeValue(sh, h, []*p11.Attribute{attr(p11.CKA_TRUSTED, true)}) == nil {
				t.Error("the user can make a key trusted")
			}
			if _, err := lib.CopyObject(sh, h, []*p11.Attribute{attr(p11.CKA_TOKEN, false), attr(p11.CKA_TRUSTED, true)}); err == nil {
				t.Error("the user can make a trusted copy")
			}
		}
		for what, h := range map[string]p11.ObjectHandle{"a replicable key": key, "the transfer key": by, "the key over a seed": a.SeedKey(x.keys[3].ID)} {
			if _, err := lib.WrapKey(sh, oaep, pub, h); err == nil {
				t.Errorf("%s leaves under the user's RSA key", what)
			}
			if _, err := lib.WrapKey(sh, kwp, aes, h); err == nil {
				t.Errorf("%s leaves under the user's AES key", what)
			}
		}
		open := []*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), attr(p11.CKA_KEY_TYPE, p11.CKK_EC), attr(p11.CKA_TOKEN, false),
			attr(p11.CKA_SENSITIVE, false), attr(p11.CKA_EXTRACTABLE, true)}
		for what, h := range map[string]p11.ObjectHandle{"the transfer key": by, "the key-encryption key": a.KEK(), "a copy of its own": aes} {
			if _, err := lib.UnwrapKey(sh, kwp, h, x.parcels[0].Wrapped, open); err == nil {
				t.Errorf("%s takes a parcel apart", what)
			}
		}
		if lib.DecryptInit(sh, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_ECB, nil)}, by) == nil {
			t.Error("the transfer key decrypts")
		}
	})
}

// TestWeakTransferKeysAreRefused: the attack that each transfer key must stand finds every weakness.
func TestWeakTransferKeysAreRefused(t *testing.T) {
	a, b := box(t, 1), box(t, 2)
	token := openBox(t, a)
	x := pack(t, a, b, token)
	if err := a.AttackTransferOut(hsmtest.Again(token, nil)); err != nil {
		t.Errorf("a proper sender's key: %v", err)
	}
	for name, but := range map[string][]*p11.Attribute{
		"readable":    {attr(p11.CKA_SENSITIVE, false), attr(p11.CKA_EXTRACTABLE, true)},
		"extractable": {attr(p11.CKA_EXTRACTABLE, true)},
		"changeable":  {attr(p11.CKA_MODIFIABLE, true)},
		"unwraps":     {attr(p11.CKA_UNWRAP, true)},
		"decrypts":    {attr(p11.CKA_DECRYPT, true)},
		"encrypts":    {attr(p11.CKA_ENCRYPT, true)},
		"not trusted": {attr(p11.CKA_TRUSTED, false)},
	} {
		if err := a.AttackTransferOut(hsmtest.Again(token, nil), but...); err == nil {
			t.Errorf("sender's key, %s: not found", name)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	openBox(t, b)
	defer b.Close()
	for _, p := range x.parcels[:2] {
		if err := b.AttackTransferIn(x.letter, p); err != nil {
			t.Errorf("a proper receiver's key: %v", err)
		}
		for name, but := range map[string][]*p11.Attribute{
			"readable":    {attr(p11.CKA_SENSITIVE, false), attr(p11.CKA_EXTRACTABLE, true)},
			"extractable": {attr(p11.CKA_EXTRACTABLE, true)},
			"changeable":  {attr(p11.CKA_MODIFIABLE, true)},
			"decrypts":    {attr(p11.CKA_DECRYPT, true)},
			"no template": {attr(p11.CKA_UNWRAP_TEMPLATE, []byte{})},
		} {
			if err := b.AttackTransferIn(x.letter, p, but...); err == nil {
				t.Errorf("receiver's key, %s: not found", name)
			}
		}
	}
}

// TestReleasesGoOnDuringAnAdmission: the officer's log-in ends the user's, and nobody notices.
func TestReleasesGoOnDuringAnAdmission(t *testing.T) {
	a, b := box(t, 1), box(t, 2)
	token := openBox(t, a)
	defer a.Close()
	keys := []wire.Key{custodyKey(t, a, wire.P256, wire.Bound), custodyKey(t, a, wire.Hybrid, wire.Replicable)}
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for i, k := range keys {
					if r, _ := unwrap(t, a, wrapTo(t, k, byte(i)), wrapTo(t, k, byte(i))); !isKey(r[0], byte(i)) || !isKey(r[1], byte(i)) {
						t.Errorf("%v: %v %v", k.Suite, r[0].Err, r[1].Err)
						return
					}
				}
			}
		})
	}
	for range 10 {
		if _, _, err := a.Admit(hsmtest.Again(token, nil), asked(t, must(b.Transport()))); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	all.Wait()
	if n := len(a.TransferKeys()); n != 1 {
		t.Errorf("%d transfer keys, want 1", n)
	}
}
