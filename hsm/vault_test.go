package hsm_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// newVault returns a custodian with room for so many loaded keys, and what opens its token again.
func newVault(t testing.TB, loaded int) (*hsm.Custodian, wire.Token) {
	t.Helper()
	return vaultOf(t, loaded, [32]byte{1})
}

func vaultOf(t testing.TB, loaded int, key [32]byte) (*hsm.Custodian, wire.Token) {
	t.Helper()
	config := hsmtest.Config(t)
	config.Loaded = loaded
	c := must(hsm.New(config, key))
	token := hsmtest.Token()
	i, err := c.Open(hsmtest.Again(token, nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, hsmtest.Again(token, i.Files)
}

// vaultKey makes a key in the vault, with its file among those of the token.
func vaultKey(t testing.TB, c *hsm.Custodian, token wire.Token, s wire.Suite, custody wire.Custody) (k wire.Key) {
	t.Helper()
	var changed wire.Files
	var err error
	if s == wire.RSA2048 {
		k, changed, err = c.Import(rsaKey(t), custody, wire.Vault)
	} else {
		k, changed, err = c.Generate(s, custody, wire.Vault)
	}
	if err != nil {
		t.Fatalf("%v, %v: %v", s, custody, err)
	}
	if len(changed) != 1 || len(changed[vaultFile(k)]) == 0 {
		t.Fatalf("%v, %v: %d files changed, want the key's own", s, custody, len(changed))
	}
	apply(token.Files, changed)
	return k
}

func vaultFile(k wire.Key) string { return "vault/" + k.ID.String() }

// vaultSuites are all kinds of keys; RSA-2048 is imported.
var vaultSuites = []wire.Suite{wire.P256, wire.P384, wire.RSA2048, wire.RSA3072, wire.Hybrid}

// TestVaultKeys: a key of each kind and custody is kept in a file and no object of the token, opens, is listed as what it is, comes back
// with the file after a restart, and is gone with it when it is destroyed.
func TestVaultKeys(t *testing.T) {
	c, token := newVault(t, 0)
	resident := custodyKey(t, c, wire.P256, wire.Bound)
	before, sessions := c.Objects(), c.SessionObjects()
	var keys []wire.Key
	for _, s := range vaultSuites {
		for _, custody := range []wire.Custody{wire.Bound, wire.Replicable} {
			k := vaultKey(t, c, token, s, custody)
			origin := wire.Generated
			if s == wire.RSA2048 {
				origin = wire.Imported
			}
			if k.Mode != wire.Vault || k.Custody != custody || k.Suite != s || k.Origin != origin || k.ID != block.KeyIDOfSPKI(k.SPKI) {
				t.Errorf("%v, %v: %+v", s, custody, k)
			}
			keys = append(keys, k)
		}
	}
	if n, m := c.Objects(), c.SessionObjects(); n != before || m != sessions {
		t.Errorf("%d objects stay in the token, %d in sessions", n-before, m-sessions)
	}
	checkKeys(t, c, append(slices.Clone(keys), resident))
	for range 2 { // cold, warm
		for _, k := range keys {
			if err := opens(t, c, k); err != nil {
				t.Errorf("%v, %v: %v", k.Suite, k.Custody, err)
			}
		}
	}
	if _, changed, err := c.Generate(wire.P256, wire.Bound, wire.Resident); err != nil || len(changed) == 0 {
		t.Fatal(err)
	} else {
		apply(token.Files, changed)
	}
	reopen(t, c, token)
	for _, k := range keys {
		if err := opens(t, c, k); err != nil {
			t.Errorf("%v, %v, after a restart: %v", k.Suite, k.Custody, err)
		}
	}
	twice := rsaKey(t)
	k, changed, err := c.Import(twice, wire.Replicable, wire.Vault)
	if err != nil {
		t.Fatal(err)
	}
	apply(token.Files, changed)
	keys = append(keys, k)
	for _, m := range []wire.Mode{wire.Vault, wire.Resident} {
		if _, _, err := c.Import(twice, wire.Bound, m); !errors.As(err, new(wire.Refused)) {
			t.Errorf("the same key twice, %v: %v", m, err)
		}
	}
	for _, k := range keys {
		changed, err := c.Destroy(k.ID)
		if data, there := changed[vaultFile(k)]; err != nil || !there || data != nil || len(changed) != 1 {
			t.Errorf("%v, %v: destroyed with %d files, %v", k.Suite, k.Custody, len(changed), err)
		}
		apply(token.Files, changed)
		if err := opens(t, c, k); !errors.Is(err, wire.ErrNoKey) {
			t.Errorf("%v, %v, destroyed: %v, want %v", k.Suite, k.Custody, err, wire.ErrNoKey)
		}
		if _, err := c.Destroy(k.ID); !errors.Is(err, wire.ErrNoKey) {
			t.Errorf("%v, %v, destroyed again: %v", k.Suite, k.Custody, err)
		}
	}
	if n := c.SessionObjects(); n != sessions {
		t.Errorf("%d objects stay in sessions", n-sessions)
	}
	reopen(t, c, token)
	for _, k := range keys {
		if err := opens(t, c, k); !errors.Is(err, wire.ErrNoKey) {
			t.Errorf("%v, %v, destroyed, after a restart: %v", k.Suite, k.Custody, err)
		}
	}
}

// TestVaultKeyStaysInside uses the PKCS#11 session of hsmd itself to get at a key in vault mode while it is loaded, whatever its custody,
// and at what is in its file.
func TestVaultKeyStaysInside(t *testing.T) {
	c, token := newVault(t, 0)
	for _, s := range vaultSuites {
		for _, custody := range []wire.Custody{wire.Bound, wire.Replicable} {
			k := vaultKey(t, c, token, s, custody)
			if err := opens(t, c, k); err != nil {
				t.Fatal(err)
			}
			t.Run(s.String()+" "+custody.String(), func(t *testing.T) {
				c.BareLoaded(k.ID, func(lib *p11.Ctx, sh p11.SessionHandle, h p11.ObjectHandle) {
					readAll(t, lib, sh, h)
					changeAll(t, lib, sh, h, wire.Bound)
					for _, by := range []p11.ObjectHandle{c.KEK(), c.VaultKey()} {
						wrapAll(t, lib, sh, h, by, wire.Bound)
					}
					useAll(t, lib, sh, h, s)
					for _, must := range []*p11.Attribute{attr(p11.CKA_SENSITIVE, true), attr(p11.CKA_EXTRACTABLE, false), attr(p11.CKA_TOKEN, false),
						attr(p11.CKA_MODIFIABLE, false), attr(p11.CKA_WRAP_WITH_TRUSTED, true)} {
						if a, err := lib.GetAttributeValue(sh, h, []*p11.Attribute{attr(must.Type, nil)}); err != nil || !bytes.Equal(a[0].Value, must.Value) {
							t.Errorf("attribute %#x is not %v: %v", must.Type, must.Value, err)
						}
					}
				})
				unwrapWeaker(t, c, k)
				if err := opens(t, c, k); err != nil {
					t.Errorf("key does not open any more: %v", err)
				}
			})
		}
	}
}

// unwrapWeaker tries to unwrap what is kept of a key as one that can be read, and a bound one as one that can be wrapped.
func unwrapWeaker(t *testing.T, c *hsm.Custodian, k wire.Key) {
	t.Helper()
	weaker := []*p11.Attribute{attr(p11.CKA_SENSITIVE, false), attr(p11.CKA_WRAP_WITH_TRUSTED, false)}
	if k.Custody == wire.Bound {
		weaker = append(weaker, attr(p11.CKA_EXTRACTABLE, true))
	}
	for _, a := range weaker {
		if err := c.UnwrapVault(k.ID, a); err == nil {
			t.Errorf("it can be unwrapped with another attribute %#x", a.Type)
		}
	}
	if err := c.UnwrapVault(k.ID, attr(p11.CKA_SENSITIVE, true)); err != nil {
		t.Errorf("as it is meant to be, it is not unwrapped either: %v", err)
	}
}

// TestVaultRefused: a file that was changed, cut, exchanged with another key's, or made by another box is refused before anything is
// opened; so is one without the token that wrapped it.
func TestVaultRefused(t *testing.T) {
	stranger, strange := vaultOf(t, 0, [32]byte{2})
	x := vaultKey(t, stranger, strange, wire.P256, wire.Bound)
	if err := stranger.Close(); err != nil {
		t.Fatal(err)
	}
	c, token := newVault(t, 0)
	a, b := vaultKey(t, c, token, wire.P256, wire.Bound), vaultKey(t, c, token, wire.P256, wire.Bound)
	resident, changed, err := c.Generate(wire.P256, wire.Bound, wire.Resident)
	if err != nil {
		t.Fatal(err)
	}
	apply(token.Files, changed)
	fileA, fileB := token.Files[vaultFile(a)], token.Files[vaultFile(b)]
	flipped := func(i int) []byte { d := bytes.Clone(fileA); d[(i+len(d))%len(d)] ^= 1; return d }
	for name, with := range map[string]wire.Files{
		"changed":               {vaultFile(a): flipped(40)},
		"changed at its end":    {vaultFile(a): flipped(-1)},
		"cut":                   {vaultFile(a): fileA[:len(fileA)-1]},
		"cut to nothing":        {vaultFile(a): {}},
		"longer":                {vaultFile(a): append(bytes.Clone(fileA), 0)},
		"exchanged":             {vaultFile(a): fileB, vaultFile(b): fileA},
		"twice":                 {vaultFile(a): fileB},
		"under another name":    {"vault/" + strings.Repeat("00", 32): fileA},
		"of another box":        {vaultFile(x): strange.Files[vaultFile(x)]},
		"sealed, exchanged":     {vaultFile(a): c.SealVault(vaultFile(a), c.Vaulted(b.ID))},
		"sealed, another's":     {vaultFile(a): c.SealVault(vaultFile(a), c.Vaulted(b.ID)), vaultFile(b): nil},
		"sealed, no key":        {vaultFile(a): c.SealVault(vaultFile(a), []byte("x"))},
		"sealed, longer":        {vaultFile(a): c.SealVault(vaultFile(a), append(c.Vaulted(a.ID), 0))},
		"sealed, no custody":    {vaultFile(a): c.SealVault(vaultFile(a), append([]byte{0}, c.Vaulted(a.ID)[1:]...))},
		"sealed, as labelled":   {vaultFile(a): c.SealVault(vaultFile(a), append([]byte{byte(wire.Labelled)}, c.Vaulted(a.ID)[1:]...))},
		"sealed, of no origin":  {vaultFile(a): c.SealVault(vaultFile(a), slices.Concat(c.Vaulted(a.ID)[:1], []byte{9}, c.Vaulted(a.ID)[2:]))},
		"sealed, of no suite":   {vaultFile(a): c.SealVault(vaultFile(a), slices.Concat(c.Vaulted(a.ID)[:2], []byte{99}, c.Vaulted(a.ID)[3:]))},
		"a key that is in both": {vaultFile(resident): c.SealVault(vaultFile(resident), c.VaultedAs(a.ID, resident.SPKI))},
	} {
		files := maps.Clone(token.Files)
		maps.Copy(files, with)
		maps.DeleteFunc(files, func(_ string, data []byte) bool { return data == nil })
		if i, err := c.Open(hsmtest.Again(token, files)); err == nil {
			t.Errorf("%s: opened, with %d keys", name, i.Report.Keys)
		}
		reopen(t, c, token)
		if err := errors.Join(opens(t, c, a), opens(t, c, b)); err != nil {
			t.Fatalf("%s: as it was, it does not open: %v", name, err)
		}
	}
	alone := wire.Files{vaultFile(a): fileA}
	if _, err := c.Open(hsmtest.Again(token, alone)); !errors.As(err, new(wire.Refused)) {
		t.Errorf("keys without their token: %v", err)
	}
}

// TestVaultOtherHalf: a key that is said to be of another suite, or whose wrapped half is another's, opens nothing.
func TestVaultOtherHalf(t *testing.T) {
	c, token := newVault(t, 0)
	a, b := vaultKey(t, c, token, wire.P256, wire.Replicable), vaultKey(t, c, token, wire.P256, wire.Replicable)
	other := bytes.Clone(c.Vaulted(a.ID))
	other[2] = byte(wire.P384)
	for name, x := range map[string][]byte{"suite": other, "half": c.VaultedAs(b.ID, a.SPKI)} {
		files := maps.Clone(token.Files)
		files[vaultFile(a)] = c.SealVault(vaultFile(a), x)
		if _, err := c.Open(hsmtest.Again(token, files)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := opens(t, c, a); err == nil {
			t.Errorf("another %s opens", name)
		}
		if err := opens(t, c, b); err != nil {
			t.Errorf("another %s: the key beside it: %v", name, err)
		}
	}
}

// TestVaultWrappingKeyLost: without the keys that wrap, nothing in the vault is taken for usable, and nothing is made there.
func TestVaultWrappingKeyLost(t *testing.T) {
	for label, custody := range map[string]wire.Custody{"kra-vault-key": wire.Bound, "kra-key-encryption-key": wire.Replicable} {
		c, token := newVault(t, 0)
		k := vaultKey(t, c, token, wire.P256, custody)
		apply(token.Files, c.DestroyTrusted(label))
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Open(hsmtest.Again(token, token.Files)); err == nil || !strings.Contains(err.Error(), "lost what wraps it") {
			t.Errorf("without %s: %v", label, err)
		}
		delete(token.Files, vaultFile(k))
		reopen(t, c, token)
		if _, _, err := c.Generate(wire.P256, custody, wire.Vault); !errors.As(err, new(wire.Refused)) || !strings.Contains(err.Error(), "no trusted wrapping") {
			t.Errorf("without %s, a new key: %v", label, err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestVaultTakesOneOperation: loaded, a key takes one private-key operation and nothing else; the first time, one unwrapping more, two for
// a hybrid key.
func TestVaultTakesOneOperation(t *testing.T) {
	c, token := newVault(t, 0)
	for _, s := range vaultSuites {
		k := vaultKey(t, c, token, s, wire.Replicable)
		for i, want := range []uint64{1, 0, 0} {
			if s == wire.Hybrid {
				want *= 2
			}
			uses, loads := c.Uses(), c.Loads()
			if err := opens(t, c, k); err != nil {
				t.Fatal(err)
			}
			if u, l := c.Uses()-uses, c.Loads()-loads; u != 1 || l != want {
				t.Errorf("%v, time %d: %d operations, %d unwrapped; want 1, %d", s, i+1, u, l, want)
			}
		}
		other := vaultKey(t, c, token, wire.P256, wire.Replicable)
		loads := c.Loads()
		if s != wire.P256 { // a wrap for another kind of key
			wrap, of := wrapTo(t, other, 1), k.ID
			r, _ := unwrap(t, c, must(block.NewWrap(wrap.Suite(), block.KeyIDRef(of), wrap.Enc(), wrap.Body(), nil)))
			if !errors.Is(r[0].Err, wire.ErrUnwrap) || c.Loads() != loads {
				t.Errorf("%v: a wrap of another kind: %v, with %d keys unwrapped", s, r[0].Err, c.Loads()-loads)
			}
		}
	}
}

// TestVaultSmallCache: more keys than may be loaded, asked for at random by many at once, all open; no more stay loaded than may, and no
// object is left behind.
func TestVaultSmallCache(t *testing.T) {
	for _, room := range []int{1, 3, 20} {
		c, token := newVault(t, room)
		sessions := c.SessionObjects()
		var keys []wire.Key
		for i := range 24 {
			s := wire.P256
			if i%8 == 7 {
				s = wire.Hybrid
			}
			keys = append(keys, vaultKey(t, c, token, s, wire.Replicable))
		}
		var wg sync.WaitGroup
		var failed atomic.Int64
		for g := range 12 {
			r := rand.New(rand.NewPCG(uint64(room), uint64(g)))
			wg.Go(func() {
				for range 20 {
					var wraps []block.Wrap
					for range 1 + r.IntN(6) {
						wraps = append(wraps, wrapTo(t, keys[r.IntN(len(keys))], 7))
					}
					for _, x := range unwrapAll(c, wraps) {
						if !isKey(x, 7) {
							failed.Add(1)
						}
					}
				}
			})
		}
		wg.Wait()
		if n := failed.Load(); n != 0 {
			t.Errorf("room for %d: %d did not open", room, n)
		}
		if n := c.LoadedNow(); n > room || n == 0 {
			t.Errorf("room for %d: %d are loaded", room, n)
		}
		if want, n := c.LoadedObjects(), c.SessionObjects()-sessions; n != want {
			t.Errorf("room for %d: %d objects in sessions, %d belong to what is loaded", room, n, want)
		}
		for _, k := range keys {
			if _, err := c.Destroy(k.ID); err != nil {
				t.Error(err)
			}
		}
		if n := c.SessionObjects() - sessions; n != 0 {
			t.Errorf("room for %d: %d objects are left", room, n)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// unwrapAll is unwrap for a goroutine: what is refused as a whole is one failed result.
func unwrapAll(c *hsm.Custodian, w []block.Wrap) []wire.Result {
	done := make(chan []wire.Result, 1)
	if err := c.Unwrap(w, func(r []wire.Result, _ receipt.ChainHead) { done <- r }); err != nil {
		return []wire.Result{{Err: err}}
	}
	return <-done
}

// TestVaultDestroyedInUse: a key that is destroyed while many use it opens until then and never after, and the others go on.
func TestVaultDestroyedInUse(t *testing.T) {
	c, token := newVault(t, 2)
	sessions := c.SessionObjects()
	var keys []wire.Key
	for range 4 {
		keys = append(keys, vaultKey(t, c, token, wire.P256, wire.Bound))
	}
	var wg sync.WaitGroup
	var gone atomic.Bool
	stop, used := make(chan struct{}), make(chan struct{}, 1)
	var wrong atomic.Pointer[error]
	for g := range 6 {
		wg.Go(func() {
			for i := g; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				k := keys[i%len(keys)]
				before := gone.Load()
				r := unwrapAll(c, []block.Wrap{wrapTo(t, k, 7)})[0]
				switch ok := isKey(r, 7); {
				case k.ID == keys[0].ID && ok && before, k.ID != keys[0].ID && !ok, !ok && !errors.Is(r.Err, wire.ErrNoKey):
					err := errors.Join(errors.New("key opened, or failed, at the wrong time"), r.Err)
					wrong.Store(&err)
				}
				select {
				case used <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 20 {
		<-used
	}
	if _, err := c.Destroy(keys[0].ID); err != nil {
		t.Error(err)
	}
	gone.Store(true)
	for range 20 {
		<-used
	}
	close(stop)
	wg.Wait()
	if err := wrong.Load(); err != nil {
		t.Error(*err)
	}
	for _, k := range keys[1:] {
		if _, err := c.Destroy(k.ID); err != nil {
			t.Error(err)
		}
	}
	if n := c.SessionObjects() - sessions; n != 0 {
		t.Errorf("%d objects are left", n)
	}
}

// TestVaultFindsAgain: a loaded key whose objects went behind our back, with a session or alone, is unwrapped once more.
func TestVaultFindsAgain(t *testing.T) {
	c, token := newVault(t, 0)
	for _, s := range vaultSuites {
		k := vaultKey(t, c, token, s, wire.Bound)
		if err := opens(t, c, k); err != nil {
			t.Fatal(err)
		}
		c.BareLoaded(k.ID, func(lib *p11.Ctx, sh p11.SessionHandle, h p11.ObjectHandle) {
			if err := lib.DestroyObject(sh, h); err != nil {
				t.Error(err)
			}
		})
		if err := opens(t, c, k); err != nil {
			t.Errorf("%v, its object gone: %v", s, err)
		}
		if s == wire.Hybrid {
			c.MisplaceLoadedSeedKey(k.ID)
			if err := opens(t, c, k); err != nil {
				t.Errorf("the key over its seed gone: %v", err)
			}
		}
		c.LoseSessions()
		for range 16 { // each session finds that it is lost
			if err := opens(t, c, k); err != nil {
				t.Errorf("%v, all sessions lost: %v", s, err)
			}
		}
	}
}

// TestVaultFull: what would not go into one message when the token is opened is not made.
func TestVaultFull(t *testing.T) {
	c, token := newVault(t, 0)
	k := vaultKey(t, c, token, wire.P256, wire.Bound)
	if size, want := c.VaultBytes(), len(vaultFile(k))+9+len(token.Files[vaultFile(k)]); size != want {
		t.Errorf("a file takes %d bytes in a message, counted are %d", want, size)
	}
	c.FillVault(wire.MaxVault)
	if _, _, err := c.Generate(wire.P256, wire.Bound, wire.Vault); !errors.As(err, new(wire.Refused)) || !strings.Contains(err.Error(), "limit") {
		t.Errorf("a full vault: %v", err)
	}
	if _, _, err := c.Generate(wire.P256, wire.Bound, wire.Resident); err != nil {
		t.Errorf("a resident key beside it: %v", err)
	}
	c.FillVault(wire.MaxFrame - wire.MaxVault - 4<<20)
	der := pkcs8(t, newRSA(t, 2048))
	for what, make := range map[string]func() error{
		"generate": func() error { _, _, err := c.Generate(wire.P256, wire.Bound, wire.Resident); return err },
		"import":   func() error { _, _, err := c.Import(der, wire.Bound, wire.Resident); return err },
	} {
		if err := make(); !errors.As(err, new(wire.Refused)) || !strings.Contains(err.Error(), "all that can be opened") {
			t.Errorf("%s more than can be opened: %v", what, err)
		}
	}
	if err := opens(t, c, k); err != nil {
		t.Error(err)
	}
}

// TestVaultRace: a change of keys, opening and destruction at once.
func TestVaultRace(t *testing.T) {
	c, token := newVault(t, 2)
	old := []wire.Key{vaultKey(t, c, token, wire.P256, wire.Replicable), vaultKey(t, c, token, wire.P256, wire.Bound), vaultKey(t, c, token, wire.P256, wire.Bound)}
	ended := time.Now().Add(2 * time.Second)
	var wg sync.WaitGroup
	var failed atomic.Int64
	for g := range 6 {
		wg.Go(func() {
			for i := g; time.Now().Before(ended); i++ {
				if !isKey(unwrapAll(c, []block.Wrap{wrapTo(t, old[i%len(old)], 7)})[0], 7) {
					failed.Add(1)
				}
			}
		})
	}
	wg.Go(func() {
		for time.Now().Before(ended) {
			k, _, err := c.Generate(wire.P256, wire.Bound, wire.Vault)
			if err == nil {
				_, err = c.Destroy(k.ID)
			}
			if err != nil {
				failed.Add(1)
			}
		}
	})
	wg.Wait()
	if n := failed.Load(); n != 0 {
		t.Errorf("%d failed", n)
	}
}

// TestVaultReplicas: replicable keys in vault mode are packed for another box, which takes them into its vault or its token; bound ones are
// not. A log-out in between takes all objects, and no key.
func TestVaultReplicas(t *testing.T) {
	a, b := box(t, 1), box(t, 2)
	token := openBox(t, a)
	var keys []wire.Key
	var ids []block.KeyID
	for _, s := range replicaSuites {
		k := vaultKey(t, a, token, s, wire.Replicable)
		keys, ids = append(keys, k), append(ids, k.ID)
	}
	bound := vaultKey(t, a, token, wire.P256, wire.Bound)
	openAll := func(c *hsm.Custodian, when string) {
		t.Helper()
		for _, k := range keys {
			if err := opens(t, c, k); err != nil {
				t.Errorf("%v, %s: %v", k.Suite, when, err)
			}
		}
	}
	openAll(a, "made")
	letter, _, err := a.Admit(hsmtest.Again(token, nil), asked(t, must(b.Transport())))
	if err != nil {
		t.Fatal(err)
	}
	if n := a.LoadedNow(); n != 0 {
		t.Errorf("%d keys are loaded after a log-out", n)
	}
	openAll(a, "after a log-out")
	sessions := a.SessionObjects()
	parcels, _, err := a.Pack(wire.PeerOf(must(b.Transport())), ids)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Pack(wire.PeerOf(must(b.Transport())), []block.KeyID{bound.ID}); !errors.As(err, new(wire.Refused)) || !strings.Contains(err.Error(), "bound") {
		t.Errorf("a bound key is packed: %v", err)
	}
	if n := a.SessionObjects() - sessions; n != 0 {
		t.Errorf("%d objects are left", n)
	}
	openAll(a, "packed")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	there := openBox(t, b)
	defer b.Close()
	for _, m := range []wire.Mode{wire.Vault, wire.Resident, wire.Vault} {
		got, changed, err := b.Receive(letter, parcels, m)
		if err != nil {
			t.Fatalf("%v: %v", m, err)
		}
		apply(there.Files, changed)
		for i, k := range got {
			if k.Mode != m || k.ID != keys[i].ID || k.Custody != wire.Replicable {
				t.Errorf("%v: received as %+v", m, k)
			}
		}
		openAll(b, "received, "+m.String())
		reopen(t, b, there)
		openAll(b, "received, after a restart, "+m.String())
		for _, id := range ids {
			changed, err := b.Destroy(id)
			if err != nil {
				t.Fatal(err)
			}
			apply(there.Files, changed)
		}
	}
	// One of several does not come: none stays.
	spoilt := slices.Clone(parcels)
	spoilt[2].Wrapped = parcels[0].Wrapped
	objects := b.Objects()
	if _, _, err := b.Receive(letter, spoilt, wire.Vault); err == nil {
		t.Error("a key that is another was received")
	}
	_, changed, err := b.Generate(wire.P256, wire.Bound, wire.Vault)
	if len(must(b.List())) != 1 || b.Objects() != objects || err != nil || len(changed) != 1 {
		t.Errorf("of a receipt that failed, %d keys stay, %d objects, %d files; %v", len(must(b.List()))-1, b.Objects()-objects, len(changed)-1, err)
	}
}

// TestVaultOutlivesHsmd: hsmd is killed while keys in vault mode are in use; the client opens the token again, with what was committed, and the
// keys go on, cold. One that was destroyed and committed is not back.
func TestVaultOutlivesHsmd(t *testing.T) {
	d := hsmtest.Start(t)
	client := d.Client()
	token := hsmtest.Token()
	i, err := client.Open(t.Context(), hsmtest.Again(token, nil))
	if err != nil {
		t.Fatal(err)
	}
	token.Files = i.Files
	var keys []wire.Key
	for range 4 {
		k, changed, err := client.Generate(t.Context(), wire.P256, wire.Replicable, wire.Vault)
		if err != nil {
			t.Fatal(err)
		}
		apply(token.Files, changed)
		keys = append(keys, k)
	}
	changed, err := client.Destroy(t.Context(), keys[3].ID)
	if err != nil {
		t.Fatal(err)
	}
	apply(token.Files, changed)
	client.Recover(committed{token})
	openAll := func() {
		t.Helper()
		for _, k := range keys[:3] {
			if err := unwrapOver(client, []block.Wrap{wrapTo(t, k, 7)}); err != nil {
				t.Errorf("key %v: %v", k.ID, err)
			}
		}
		if err := unwrapOver(client, []block.Wrap{wrapTo(t, keys[3], 7)}); !errors.Is(err, wire.ErrNoKey) {
			t.Errorf("a destroyed key: %v, want %v", err, wire.ErrNoKey)
		}
	}
	for range 2 {
		openAll()
		d.Restart()
	}
	openAll()
	listed, err := client.List(t.Context())
	if err != nil || len(listed) != 3 || slices.ContainsFunc(listed, func(k wire.Key) bool { return k.Mode != wire.Vault }) {
		t.Errorf("%+v, %v; want three keys in vault mode", listed, err)
	}
}

// committed yields a token as it was last committed.
type committed struct{ token wire.Token }

func (c committed) Token(context.Context) (wire.Token, error) {
	return hsmtest.Again(c.token, c.token.Files), nil
}
func (committed) Opened(wire.Instance) {}
