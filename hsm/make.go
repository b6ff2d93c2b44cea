package hsm

// #include <stdlib.h>
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
)

// make initializes a new token: label, PINs and the key-encryption key.
func (k *token) make(label string, t wire.Token) error {
	slot, err := k.free()
	if err != nil {
		return err
	}
	if err := k.lib.InitToken(slot, lend(t.SOPIN), label); err != nil {
		return fmt.Errorf("initialize token: %w", err)
	}
	if k.slot, err = k.find(label); err != nil {
		return err
	}
	h, err := k.openSession()
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	err = k.furnish(&session{token: k, lib: k.lib, handle: h}, t)
	return errors.Join(err, k.lib.CloseSession(h))
}

// free returns a slot without a token.
func (k *token) free() (uint, error) {
	slots, err := k.lib.GetSlotList(false)
	if err != nil {
		return 0, fmt.Errorf("list slots: %w", err)
	}
	for _, slot := range slots {
		info, err := k.lib.GetTokenInfo(slot)
		if err == nil && info.Flags&p11.CKF_TOKEN_INITIALIZED == 0 {
			return slot, nil
		}
	}
	return 0, errors.New("find slot: no token is uninitialized")
}

// furnish sets the user PIN and makes the trusted keys. Only the security officer can make a key that is
// trusted, and only the user one that is private: it is born in the officer's session and copied in the user's.
func (k *token) furnish(s *session, t wire.Token) error {
	if err := k.login(s.handle, p11.CKU_SO, t.SOPIN); err != nil {
		return err
	}
	if err := k.lib.InitPIN(s.handle, lend(t.PIN)); err != nil {
		return fmt.Errorf("set PIN: %w", err)
	}
	var born []p11.ObjectHandle
	for _, c := range []wire.Custody{wire.Replicable, wire.Bound} {
		h, err := s.generateTrusted(c)
		if err != nil {
			return err
		}
		born = append(born, h)
	}
	if err := k.lib.Logout(s.handle); err != nil {
		return fmt.Errorf("log out: %w", err)
	}
	if err := k.login(s.handle, p11.CKU_USER, t.PIN); err != nil {
		return err
	}
	for _, h := range born {
		if _, err := k.lib.CopyObject(s.handle, h, sealed()); err != nil {
			return fmt.Errorf("copy trusted key into token: %w", err)
		}
		if err := s.discard(h); err != nil {
			return err
		}
	}
	return k.lib.Logout(s.handle)
}

// generateTrusted makes the key-encryption key, under which replicable keys may leave, or the vault key, under which bound ones are kept.
// Its unwrap template is what keeps the PIN's holder from unwrapping a wrapped key as one that can be read, and a bound one as one that can
// be wrapped again.
func (s *session) generateTrusted(c wire.Custody) (p11.ObjectHandle, error) {
	must := []*p11.Attribute{attr(p11.CKA_SENSITIVE, true), attr(p11.CKA_WRAP_WITH_TRUSTED, true)}
	if c == wire.Bound {
		must = append(must, attr(p11.CKA_EXTRACTABLE, false))
	}
	nested, free := nest(must)
	defer free()
	h, err := s.lib.GenerateKey(s.handle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, secret(
		attr(p11.CKA_TOKEN, false),
		attr(p11.CKA_PRIVATE, false),
		attr(p11.CKA_LABEL, vaultLabels[c]),
		attr(p11.CKA_MODIFIABLE, true),
		attr(p11.CKA_TRUSTED, true),
		attr(p11.CKA_WRAP, true),
		attr(p11.CKA_UNWRAP, true),
		&p11.Attribute{Type: p11.CKA_UNWRAP_TEMPLATE, Value: nested},
	))
	if err != nil {
		return 0, fmt.Errorf("generate trusted key: %w", err)
	}
	return h, nil
}

// nest returns a CK_ATTRIBUTE array as the value of an attribute. miekg/pkcs11 copies the array, but what it points to
// must lie in C memory until free is called.
func nest(attrs []*p11.Attribute) (value []byte, free func()) {
	type ckAttribute struct {
		kind  C.ulong
		value unsafe.Pointer
		size  C.ulong
	}
	const size = int(unsafe.Sizeof(ckAttribute{}))
	array := (*ckAttribute)(C.calloc(C.size_t(len(attrs)), C.size_t(size)))
	list := unsafe.Slice(array, len(attrs))
	for i, a := range attrs {
		list[i] = ckAttribute{C.ulong(a.Type), C.CBytes(a.Value), C.ulong(len(a.Value))}
	}
	return C.GoBytes(unsafe.Pointer(array), C.int(size*len(attrs))), func() {
		for _, a := range list {
			C.free(a.value)
		}
		C.free(unsafe.Pointer(array))
	}
}
