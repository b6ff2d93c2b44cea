package hsm_test

import (
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
)

func attr(t uint, v any) *p11.Attribute { return p11.NewAttribute(t, v) }

var secretAttributes = []uint{p11.CKA_VALUE, p11.CKA_PRIVATE_EXPONENT, p11.CKA_PRIME_1, p11.CKA_PRIME_2,
	p11.CKA_EXPONENT_1, p11.CKA_EXPONENT_2, p11.CKA_COEFFICIENT}

// TestPrivateKeysStayInside uses the PKCS#11 session of hsmd itself, logged in, to get at keys in every way that
// PKCS#11 has, and checks each attribute that forbids it.
func TestPrivateKeysStayInside(t *testing.T) {
	c, _ := hsmtest.New(t)
	for _, s := range append(benchSuites, wire.P384) {
		for _, custody := range []wire.Custody{wire.Bound, wire.Replicable} {
			k := custodyKey(t, c, s, custody)
			t.Run(s.String()+" "+custody.String(), func(t *testing.T) {
				c.Bare(k.ID, func(lib *p11.Ctx, sh p11.SessionHandle, h p11.ObjectHandle) {
					readAll(t, lib, sh, h)
					changeAll(t, lib, sh, h, custody)
					wrapAll(t, lib, sh, h, c.KEK(), custody)
					useAll(t, lib, sh, h, s)
				})
				if r, _ := unwrap(t, c, wrapTo(t, k, 8)); !isKey(r[0], 8) {
					t.Errorf("key does not open any more: %v", r[0].Err)
				}
			})
		}
	}
}

func custodyKey(t testing.TB, c *hsm.Custodian, s wire.Suite, custody wire.Custody) (k wire.Key) {
	t.Helper()
	var err error
	if s == wire.RSA2048 {
		k, _, err = c.Import(rsaKey(t), custody, wire.Resident)
	} else {
		k, _, err = c.Generate(s, custody, wire.Resident)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func readAll(t *testing.T, lib *p11.Ctx, sh p11.SessionHandle, h p11.ObjectHandle) {
	t.Helper()
	for _, secret := range secretAttributes {
		if a, err := lib.GetAttributeValue(sh, h, []*p11.Attribute{attr(secret, nil)}); err == nil && len(a[0].Value) > 0 {
			t.Errorf("attribute %#x can be read: %d bytes", secret, len(a[0].Value))
		}
	}
}

func changeAll(t *testing.T, lib *p11.Ctx, sh p11.SessionHandle, h p11.ObjectHandle, custody wire.Custody) {
	t.Helper()
	weaker := []*p11.Attribute{attr(p11.CKA_SENSITIVE, false), attr(p11.CKA_PRIVATE, false), attr(p11.CKA_WRAP_WITH_TRUSTED, false)}
	if custody == wire.Bound {
		weaker = append(weaker, attr(p11.CKA_EXTRACTABLE, true))
	}
	for _, a := range weaker {
		if lib.SetAttributeValue(sh, h, []*p11.Attribute{a}) == nil {
			t.Errorf("attribute %#x can be changed", a.Type)
		}
		if _, err := lib.CopyObject(sh, h, []*p11.Attribute{attr(p11.CKA_TOKEN, false), a}); err == nil {
			t.Errorf("a copy can change attribute %#x", a.Type)
		}
	}
	for _, a := range []*p11.Attribute{attr(p11.CKA_SIGN, true), attr(p11.CKA_UNWRAP, true), attr(p11.CKA_ID, []byte("x")), attr(p11.CKA_LABEL, "x")} {
		if lib.SetAttributeValue(sh, h, []*p11.Attribute{a}) == nil {
			t.Errorf("attribute %#x can be changed", a.Type)
		}
		if _, err := lib.CopyObject(sh, h, []*p11.Attribute{attr(p11.CKA_TOKEN, false), a}); err == nil {
			t.Errorf("a copy can change attribute %#x", a.Type)
		}
	}
}

func wrapAll(t *testing.T, lib *p11.Ctx, sh p11.SessionHandle, h, kek p11.ObjectHandle, custody wire.Custody) {
	t.Helper()
	m := []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_WRAP_PAD, nil)}
	make32 := func(more ...*p11.Attribute) (p11.ObjectHandle, error) {
		return lib.GenerateKey(sh, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, append(more, attr(p11.CKA_TOKEN, false),
			attr(p11.CKA_WRAP, true), attr(p11.CKA_UNWRAP, true), attr(p11.CKA_VALUE_LEN, 32), attr(p11.CKA_EXTRACTABLE, true), attr(p11.CKA_SENSITIVE, false)))
	}
	own, err := make32()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lib.WrapKey(sh, m, own, h); err == nil {
		t.Error("key can be wrapped by a key that everybody can read")
	}
	if _, err := make32(attr(p11.CKA_TRUSTED, true)); err == nil {
		t.Error("the user can make a trusted key")
	}
	wrapped, err := lib.WrapKey(sh, m, kek, h)
	if custody == wire.Bound {
		if err == nil {
			t.Error("bound key can be wrapped by the trusted key")
		}
		return
	}
	if err != nil {
		t.Fatalf("replicable key cannot be wrapped by the trusted key: %v", err)
	}
	for _, a := range []*p11.Attribute{attr(p11.CKA_SENSITIVE, false), attr(p11.CKA_WRAP_WITH_TRUSTED, false)} {
		if _, err := lib.UnwrapKey(sh, m, kek, wrapped, []*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY),
			attr(p11.CKA_KEY_TYPE, p11.CKK_EC), attr(p11.CKA_TOKEN, false), attr(p11.CKA_EXTRACTABLE, true), a}); err == nil {
			t.Errorf("wrapped key can be unwrapped without attribute %#x", a.Type)
		}
	}
	if a, err := lib.GetAttributeValue(sh, kek, []*p11.Attribute{attr(p11.CKA_VALUE, nil)}); err == nil && len(a[0].Value) > 0 {
		t.Error("the key-encryption key can be read")
	}
}

func useAll(t *testing.T, lib *p11.Ctx, sh p11.SessionHandle, h p11.ObjectHandle, s wire.Suite) {
	t.Helper()
	sign := uint(p11.CKM_RSA_PKCS)
	if s == wire.P256 {
		sign = p11.CKM_ECDSA
	}
	if lib.SignInit(sh, []*p11.Mechanism{p11.NewMechanism(sign, nil)}, h) == nil {
		t.Error("key can sign")
	}
}

// TestWeakKeysAreRefused: the attack that each new key must stand finds every weakness, and a key that has one does not
// stay, whatever the module's attributes promised.
func TestWeakKeysAreRefused(t *testing.T) {
	c, _ := hsmtest.New(t)
	for _, custody := range []wire.Custody{wire.Bound, wire.Replicable} {
		if err := c.AttackWeak(custody); err != nil {
			t.Errorf("a proper %v key: %v", custody, err)
		}
	}
	if c.AttackWeak(wire.Bound, attr(p11.CKA_MODIFIABLE, true)) == nil {
		t.Error("changeable: not found")
	}
	for name, x := range map[string]struct {
		custody wire.Custody
		but     []*p11.Attribute
	}{
		"readable":                     {wire.Replicable, []*p11.Attribute{attr(p11.CKA_SENSITIVE, false)}},
		"bound but extractable":        {wire.Bound, []*p11.Attribute{attr(p11.CKA_EXTRACTABLE, true)}},
		"wrapped by anybody":           {wire.Replicable, []*p11.Attribute{attr(p11.CKA_WRAP_WITH_TRUSTED, false)}},
		"able to sign":                 {wire.Bound, []*p11.Attribute{attr(p11.CKA_SIGN, true)}},
		"readable, bound, extractable": {wire.Bound, []*p11.Attribute{attr(p11.CKA_SENSITIVE, false), attr(p11.CKA_EXTRACTABLE, true)}},
	} {
		if c.AttackWeak(x.custody, x.but...) == nil {
			t.Errorf("%s: not found", name)
		}
		if err := c.AdmitWeak(x.custody, x.but...); err == nil {
			t.Errorf("%s: admitted", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	if keys := must(c.List()); len(keys) != 0 {
		t.Errorf("%d weak keys stayed", len(keys))
	}
	if left := c.PrivateObjects(); left != 0 {
		t.Errorf("%d private key objects are left", left)
	}
}
