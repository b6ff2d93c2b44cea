package hsm_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// TestDestroyIsTriedAgain: the destruction of a hybrid key fails at each of its objects in turn. The seed goes first and
// the private key last. A second try leaves nothing, in the token or in the files that were kept.
func TestDestroyIsTriedAgain(t *testing.T) {
	for name, fault := range map[string]func(*testing.T, *hsm.Custodian, block.KeyID, wire.Files) (mend func()){
		"done, one object":              unlocked(0),
		"done, another":                 unlocked(1),
		"done, the third":               unlocked(2),
		"not done, at the key of seeds": blocked(p11.CKO_SECRET_KEY),
		"not done, at the private key":  blocked(p11.CKO_PRIVATE_KEY),
	} {
		t.Run(name, func(t *testing.T) {
			c, token := hsmtest.New(t)
			objects, files := c.Objects(), objectsIn(token.Files)
			k, changed, err := c.Generate(wire.Hybrid, wire.Bound, wire.Resident)
			if err != nil {
				t.Fatal(err)
			}
			apply(token.Files, changed)
			mend := fault(t, c, k.ID, changed)
			if changed, err = c.Destroy(k.ID); err == nil || len(changed) != 0 {
				t.Fatalf("Destroy with a fault = %d files, %v; want none and an error", len(changed), err)
			}
			mend()
			checkKeys(t, c, nil)
			if left := c.Objects() - objects; left > 0 && c.PrivateObjects() != 1 {
				t.Errorf("%d objects are left without the private key", left)
			}
			checkDestroyed(t, c, token, k.ID)
			if got := objectsIn(token.Files); c.Objects() != objects || !slices.Equal(got, files) {
				t.Errorf("after the second try %d objects and %d files more than before the key", c.Objects()-objects, len(got)-len(files))
			}
		})
	}
}

// unlocked takes the lock file of the i-th object away: SoftHSM deletes that object, and says that it has not.
func unlocked(i int) func(*testing.T, *hsm.Custodian, block.KeyID, wire.Files) func() {
	return func(t *testing.T, c *hsm.Custodian, _ block.KeyID, made wire.Files) func() {
		t.Helper()
		if err := os.Remove(filepath.Join(c.Folder(), objectsIn(made)[i]+".lock")); err != nil {
			t.Fatal(err)
		}
		return func() {}
	}
}

// blocked puts an object of the class beside the key's own that cannot be destroyed, for as long as its session is open.
func blocked(class uint) func(*testing.T, *hsm.Custodian, block.KeyID, wire.Files) func() {
	return func(t *testing.T, c *hsm.Custodian, id block.KeyID, _ wire.Files) func() {
		t.Helper()
		var session p11.SessionHandle
		c.Bare(id, func(lib *p11.Ctx, sh p11.SessionHandle, _ p11.ObjectHandle) {
			info, err := lib.GetSessionInfo(sh)
			if err != nil {
				t.Error(err)
				return
			}
			if session, err = lib.OpenSession(info.SlotID, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION); err != nil {
				t.Error(err)
				return
			}
			template := []*p11.Attribute{attr(p11.CKA_CLASS, class), attr(p11.CKA_TOKEN, false), attr(p11.CKA_ID, id[:]),
				attr(p11.CKA_DESTROYABLE, false), attr(p11.CKA_VALUE, make([]byte, 32))}
			if class == p11.CKO_SECRET_KEY {
				template = append(template, attr(p11.CKA_KEY_TYPE, p11.CKK_AES))
			} else {
				template = append(template, attr(p11.CKA_KEY_TYPE, p11.CKK_EC), attr(p11.CKA_EC_PARAMS, p256))
			}
			if _, err := lib.CreateObject(session, template); err != nil {
				t.Fatal(err)
			}
		})
		return func() {
			c.Bare(id, func(lib *p11.Ctx, _ p11.SessionHandle, _ p11.ObjectHandle) {
				if err := lib.CloseSession(session); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// p256 is prime256v1 in DER.
var p256 = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}

// TestPartOfAKeyIsDestroyed: whatever part of a hybrid key came back, it can be destroyed.
func TestPartOfAKeyIsDestroyed(t *testing.T) {
	c, token := hsmtest.New(t)
	whole := maps.Clone(token.Files)
	k, changed, err := c.Generate(wire.Hybrid, wire.Bound, wire.Resident)
	if err != nil {
		t.Fatal(err)
	}
	apply(whole, changed)
	made := objectsIn(changed)
	for part := 1; part < 1<<len(made)-1; part++ {
		token.Files = maps.Clone(whole)
		for i, name := range made {
			if part>>i&1 == 0 {
				delete(token.Files, name+".object")
			}
		}
		reopen(t, c, token)
		checkKeys(t, c, nil)
		checkDestroyed(t, c, token, k.ID)
		if got := len(objectsIn(token.Files)) - len(objectsIn(whole)) + len(made); got != 0 {
			t.Errorf("part %03b: %d files are left of it", part, got)
		}
	}
}

// TestDestroyWithoutLogin: a token that hides its keys has not destroyed one.
func TestDestroyWithoutLogin(t *testing.T) {
	c, _ := hsmtest.New(t)
	k := custodyKey(t, c, wire.P256, wire.Bound)
	c.Bare(k.ID, func(lib *p11.Ctx, sh p11.SessionHandle, _ p11.ObjectHandle) {
		if err := lib.Logout(sh); err != nil {
			t.Error(err)
		}
	})
	if _, err := c.Destroy(k.ID); !errors.Is(err, p11.Error(p11.CKR_USER_NOT_LOGGED_IN)) {
		t.Errorf("Destroy without a log-in = %v, want that there is none", err)
	}
}

func checkDestroyed(t *testing.T, c *hsm.Custodian, token wire.Token, id block.KeyID) {
	t.Helper()
	changed, err := c.Destroy(id)
	if err != nil {
		t.Fatalf("Destroy once more: %v", err)
	}
	apply(token.Files, changed)
	if _, err := c.Destroy(id); !errors.Is(err, wire.ErrNoKey) {
		t.Errorf("Destroy of nothing = %v, want %v", err, wire.ErrNoKey)
	}
}

// objectsIn names the objects among token files, without the end of the name.
func objectsIn(files wire.Files) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if object, ok := strings.CutSuffix(name, ".object"); ok {
			names = append(names, object)
		}
	}
	return names
}
