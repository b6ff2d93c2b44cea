package hsmtest

import (
	"os"
	"path/filepath"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
)

// Bare returns the one PKCS#11 operation behind a release with a key of suite s, and nothing else, once for each of some
// sessions of a token of its own: what every cost is compared with. It takes SoftHSM of this process for itself.
func Bare(t testing.TB, s wire.Suite, sessions int) (operations []func() error) {
	t.Helper()
	dir := Dir(t)
	conf := filepath.Join(dir, "bare.conf")
	must(t, os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600))
	old := os.Getenv("SOFTHSM2_CONF")
	must(t, os.Setenv("SOFTHSM2_CONF", conf))
	lib := p11.New(Module)
	must(t, lib.Initialize())
	must(t, os.Setenv("SOFTHSM2_CONF", old))
	t.Cleanup(func() { lib.Finalize(); lib.Destroy() })
	slots, err := lib.GetSlotList(false)
	must(t, err)
	must(t, lib.InitToken(slots[0], "so-pin-1", "bare"))
	slots, err = lib.GetSlotList(true)
	must(t, err)
	sh, err := lib.OpenSession(slots[0], p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	must(t, err)
	must(t, lib.Login(sh, p11.CKU_SO, "so-pin-1"))
	must(t, lib.InitPIN(sh, "user-pin"))
	must(t, lib.Logout(sh))
	must(t, lib.Login(sh, p11.CKU_USER, "user-pin"))
	operation := bareOperation(t, lib, sh, s)
	for range sessions {
		sh, err := lib.OpenSession(slots[0], p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
		must(t, err)
		operations = append(operations, func() error { return operation(sh) })
	}
	return operations
}

// bareOperation makes a key with the session sh and returns what is done with it.
func bareOperation(t testing.TB, lib *p11.Ctx, sh p11.SessionHandle, s wire.Suite) func(p11.SessionHandle) error {
	if s == wire.P256 {
		return bareDerive(t, lib, sh)
	}
	return bareDecrypt(t, lib, sh, map[wire.Suite]int{wire.RSA2048: 2048, wire.RSA3072: 3072, wire.RSA4096: 4096}[s])
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var private = []*p11.Attribute{p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_PRIVATE, true),
	p11.NewAttribute(p11.CKA_SENSITIVE, true), p11.NewAttribute(p11.CKA_EXTRACTABLE, false),
	p11.NewAttribute(p11.CKA_DERIVE, true), p11.NewAttribute(p11.CKA_DECRYPT, true)}

func bareDerive(t testing.TB, lib *p11.Ctx, sh p11.SessionHandle) func(p11.SessionHandle) error {
	p256 := []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}
	pub, priv, err := lib.GenerateKeyPair(sh, []*p11.Mechanism{p11.NewMechanism(p11.CKM_EC_KEY_PAIR_GEN, nil)},
		[]*p11.Attribute{p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_EC_PARAMS, p256)}, private[:5])
	must(t, err)
	a, err := lib.GetAttributeValue(sh, pub, []*p11.Attribute{p11.NewAttribute(p11.CKA_EC_POINT, nil)})
	must(t, err)
	point := a[0].Value[2:] // inside an OCTET STRING
	shared := []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_GENERIC_SECRET),
		p11.NewAttribute(p11.CKA_TOKEN, false), p11.NewAttribute(p11.CKA_PRIVATE, false), p11.NewAttribute(p11.CKA_SENSITIVE, false),
		p11.NewAttribute(p11.CKA_EXTRACTABLE, true), p11.NewAttribute(p11.CKA_VALUE_LEN, 32)}
	return func(sh p11.SessionHandle) error {
		m := []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDH1_DERIVE, p11.NewECDH1DeriveParams(p11.CKD_NULL, nil, point))}
		h, err := lib.DeriveKey(sh, m, priv, shared)
		if err != nil {
			return err
		}
		if _, err := lib.GetAttributeValue(sh, h, []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE, nil)}); err != nil {
			return err
		}
		return lib.DestroyObject(sh, h)
	}
}

func bareDecrypt(t testing.TB, lib *p11.Ctx, sh p11.SessionHandle, bits int) func(p11.SessionHandle) error {
	_, priv, err := lib.GenerateKeyPair(sh, []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)},
		[]*p11.Attribute{p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_ENCRYPT, true),
			p11.NewAttribute(p11.CKA_MODULUS_BITS, bits), p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1})}, private)
	must(t, err)
	ct := make([]byte, bits/8)
	ct[0], ct[len(ct)-1] = 1, 7 // below any modulus of that length, whose first bit is set
	return func(sh p11.SessionHandle) error {
		if err := lib.DecryptInit(sh, []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_X_509, nil)}, priv); err != nil {
			return err
		}
		_, err := lib.Decrypt(sh, ct)
		return err
	}
}
