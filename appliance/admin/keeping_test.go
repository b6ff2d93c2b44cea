package admin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// vaultFiles are the names of the files of keys in vault mode, as they are on the disk.
func (w *world) vaultFiles() (names []string) {
	w.t.Helper()
	files, err := w.store.Files()
	if err != nil {
		w.t.Fatal(err)
	}
	for name := range files {
		if strings.HasPrefix(name, "vault/") {
			names = append(names, name)
		}
	}
	return names
}

// modes are those of an access identifier's keys, the current one first.
func (w *world) modes(id string) (all []hsm.Mode) {
	w.t.Helper()
	for _, key := range w.keysOf(id) {
		k, _ := w.store.State().Key(key)
		all = append(all, k.Mode)
	}
	return all
}

// TestKeyMode: where new keys are kept is a setting of the box, which a second officer must want too. It holds for what is generated,
// imported, and rotated by hand or by the clock; keys that are there stay. Wherever a key is told of, it is told which kind it is; what is
// kept of one goes with it.
func TestKeyMode(t *testing.T) {
	w := enrolled(t)
	now, trusted := time.Now(), true
	w.at(&now, &trusted)
	w.do("access add legal-team")
	w.has("key mode", "new keys", "resident", "0 resident, 0 in the vault")
	w.fail("key mode resident", []string{"yes"}, "kept so already")
	w.do("key generate p256 bound for legal-team")
	w.do("officer add otto", "a long passphrase", "a long passphrase")
	w.do("key mode vault", "yes")
	if w.store.State().KeyMode() != hsm.Resident {
		t.Fatal("one officer alone has new keys kept in the vault")
	}
	w.as("otto", "a long passphrase", func() {
		w.do("officer passphrase", "a long passphrase", paulPass, paulPass)
		w.do("approve 1", "yes")
	})
	w.has("key mode", "wrapped by the HSM", "1 resident, 0 in the vault")
	w.fail("key mode vault", []string{"yes"}, "kept so already")

	w.has("key rotate legal-team", "p256, vault, bound")
	w.has("key generate mlkem768p256 for legal-team", "vault, replicable")
	outsider, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	outside, err := x509.MarshalPKCS8PrivateKey(outsider)
	if err != nil {
		t.Fatal(err)
	}
	w.do("key import for legal-team", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: outside})))
	r, v := hsm.Resident, hsm.Vault
	if got := w.modes("legal-team"); !slices.Equal(got, []hsm.Mode{v, v, v, r}) {
		t.Fatalf("keys are kept as %v", got)
	}
	keys := w.keysOf("legal-team")
	if got := opening(w, "legal-team"); !slices.Equal(got, keys) {
		t.Errorf("%d of %d keys open", len(got), len(keys))
	}
	w.has("key list", "vault, bound", "vault, repli", " bound ")
	w.has("key mode", "1 resident, 3 in the vault")
	w.has("key show "+short(keys[2]), "vault, bound", "never was outside but wrapped by the HSM")
	w.has("key show "+short(keys[3]), "never could leave the HSM")
	if c := w.counted(); c["key-release key in the vault"] != 3 || c["key-release key"] != 1 || c["vault key"] != 1 {
		t.Errorf("the inventory counts %v", c)
	}
	if n := len(w.vaultFiles()); n != 3 {
		t.Errorf("%d keys are in files of the vault, want 3", n)
	}

	w.do("access rotate legal-team every 90d")
	now = now.Add(91 * 24 * time.Hour)
	w.tend()
	w.do("key mode resident", "yes")
	w.do("key rotate legal-team")
	if got := w.modes("legal-team"); !slices.Equal(got, []hsm.Mode{r, v, v, v, v, r}) {
		t.Fatalf("rotated by the clock, and by hand as resident: %v", got)
	}
	w.ends(&now, keys[0])
	if got := opening(w, "legal-team"); slices.Contains(got, keys[0]) || len(got) != 5 {
		t.Errorf("%d keys open", len(got))
	}
	if names := w.vaultFiles(); len(names) != 3 || slices.Contains(names, "vault/"+keys[0].String()) {
		t.Errorf("after its destruction, the vault has %v", names)
	}
	w.has("key show "+short(keys[0]), "destroyed")
}

// ends has a key destroyed, with both officers and time.
func (w *world) ends(now *time.Time, id block.KeyID) {
	w.t.Helper()
	w.do("key delete "+short(id), "yes")
	w.as("otto", paulPass, func() { w.do("approve 2", "yes") })
	*now = now.Add(8 * 24 * time.Hour)
	w.tend()
	if !w.store.State().WasDestroyed(id) {
		w.t.Fatalf("key %s is not destroyed: %s", short(id), w.stateOf(id))
	}
}

// TestVaultCompromised: the life of a key in vault mode is that of any other: compromised, it opens old blocks and says so.
func TestVaultCompromised(t *testing.T) {
	w := enrolled(t)
	w.do("access add legal-team")
	w.do("key mode vault", "yes")
	w.do("key generate p256 for legal-team")
	old := w.keysOf("legal-team")[0]
	w.do("key rotate legal-team")
	if w.stateOf(old) != store.Deactivated {
		t.Fatalf("the old key is %s", w.stateOf(old))
	}
	w.do("key mark "+short(old)+" compromised", "yes")
	w.has("key show "+short(old), "compromised", "vault, replicable")
	if got := opening(w, "legal-team"); !slices.Equal(got, w.keysOf("legal-team")) {
		t.Errorf("a compromised key opens no old block: %v", got)
	}
	w.has("key list", "vault, repli", "compromised")
}

// TestNoVault: what the module was not seen to do is not relied on.
func TestNoVault(t *testing.T) {
	good := hsm.Check{Name: hsm.CheckVault}
	for _, r := range []hsm.Report{{}, {Checks: []hsm.Check{{Name: "another"}}}, {Checks: []hsm.Check{{Name: hsm.CheckVault, Failure: "no trusted wrapping"}}}} {
		if err := noVault(r); err == nil {
			t.Errorf("%+v keeps keys in the vault", r)
		}
	}
	if err := noVault(hsm.Report{Checks: []hsm.Check{{Name: "another", Failure: "no"}, good}}); err != nil {
		t.Error(err)
	}
}
