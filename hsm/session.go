package hsm

import (
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

const findAtOnce = 1024

func isCode(err error, codes ...p11.Error) bool {
	var e p11.Error
	return errors.As(err, &e) && slices.Contains(codes, e)
}

func isHandle(err error) bool {
	return isCode(err, p11.CKR_OBJECT_HANDLE_INVALID, p11.CKR_KEY_HANDLE_INVALID, p11.CKR_UNWRAPPING_KEY_HANDLE_INVALID)
}

func isSession(err error) bool {
	return isCode(err, p11.CKR_SESSION_HANDLE_INVALID, p11.CKR_SESSION_CLOSED, p11.CKR_OPERATION_ACTIVE)
}

// isInput is the module's word that the ciphertext is at fault.
func isInput(err error) bool {
	return isCode(err, p11.CKR_ENCRYPTED_DATA_INVALID, p11.CKR_ENCRYPTED_DATA_LEN_RANGE, p11.CKR_DATA_INVALID,
		p11.CKR_DATA_LEN_RANGE, p11.CKR_MECHANISM_PARAM_INVALID)
}

// isFatal is a state that only a new process can leave.
func isFatal(err error) bool {
	return isCode(err, p11.CKR_DEVICE_REMOVED, p11.CKR_DEVICE_ERROR, p11.CKR_TOKEN_NOT_PRESENT,
		p11.CKR_TOKEN_NOT_RECOGNIZED, p11.CKR_CRYPTOKI_NOT_INITIALIZED, p11.CKR_USER_NOT_LOGGED_IN, p11.CKR_HOST_MEMORY)
}

// with performs f on the key's object. A lost session is replaced once and tried again; a stale handle, which may be why, is looked
// up once and tried again.
func (s *session) with(e *entry, f func(p11.ObjectHandle) error) error {
	at := e.at()
	err := f(at)
	if isSession(err) {
		if err = s.renew(); err == nil {
			at = e.at()
			err = f(at)
		}
	}
	if isHandle(err) {
		if err = s.findAgain(e, at); err == nil {
			err = f(e.at())
		}
	}
	if isFatal(err) {
		s.token.giveUp()
	}
	return err
}

// renew replaces the session. The old one may be gone already.
func (s *session) renew() error {
	_ = s.lib.CloseSession(s.handle)
	h, err := s.token.openSession()
	if err != nil {
		return fmt.Errorf("renew session: %w", err)
	}
	s.handle = h
	return nil
}

// revive replaces the session if it is lost: before what cannot be tried twice.
func (s *session) revive() error {
	if _, err := s.lib.GetSessionInfo(s.handle); isSession(err) {
		return s.renew()
	}
	return nil
}

// findAgain looks up a key that was at a handle.
func (s *session) findAgain(e *entry, gone p11.ObjectHandle) error {
	if e.kept != nil {
		return s.unwrapAgain(e, gone)
	}
	defer s.searching()()
	of := privateWithID(e.key.ID)
	if e.over {
		of = seedKeyWithID(e.key.ID)
	}
	for _, a := range of {
		if a.Type == p11.CKA_TOKEN {
			a.Value = attr(p11.CKA_TOKEN, e.key.Custody != wire.Labelled).Value
		}
	}
	found, err := s.find(of)
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return s.whyNot()
	}
	e.handle.Store(uint64(found[0]))
	return nil
}

// whyNot tells a key that is gone from a token that has forgotten our log-in and hides its keys.
func (s *session) whyNot() error {
	if err := s.loggedIn(); err != nil {
		return err
	}
	return wire.ErrNoKey
}

// loggedIn returns an error where the token has forgotten our log-in.
func (s *session) loggedIn() error {
	info, err := s.lib.GetSessionInfo(s.handle)
	if err != nil {
		return fmt.Errorf("read session state: %w", err)
	}
	if info.State != p11.CKS_RW_USER_FUNCTIONS {
		return p11.Error(p11.CKR_USER_NOT_LOGGED_IN)
	}
	return nil
}

func privateWithID(id block.KeyID) []*p11.Attribute {
	return []*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), attr(p11.CKA_TOKEN, true), attr(p11.CKA_ID, id[:])}
}

// searching holds token.objects for reading until the end that it returns. A task that changes keys holds it already, and would wait for itself.
func (s *session) searching() (end func()) {
	if s.alone {
		return func() {}
	}
	s.token.objects.RLock()
	return s.token.objects.RUnlock
}

// find returns every object with these attributes. The caller holds token.objects.
func (s *session) find(with []*p11.Attribute) (all []p11.ObjectHandle, err error) {
	if err := s.lib.FindObjectsInit(s.handle, with); err != nil {
		return nil, fmt.Errorf("find objects: %w", err)
	}
	defer func() {
		if e := s.lib.FindObjectsFinal(s.handle); e != nil && err == nil {
			err = fmt.Errorf("find objects: %w", e)
		}
	}()
	for {
		some, _, err := s.lib.FindObjects(s.handle, findAtOnce)
		if err != nil {
			return nil, fmt.Errorf("find objects: %w", err)
		}
		if len(some) == 0 {
			return all, nil
		}
		all = append(all, some...)
	}
}

// read returns attributes in the order asked for.
func (s *session) read(h p11.ObjectHandle, types ...uint) ([][]byte, error) {
	ask := make([]*p11.Attribute, len(types))
	for i, t := range types {
		ask[i] = attr(t, nil)
	}
	got, err := s.lib.GetAttributeValue(s.handle, h, ask)
	if err != nil {
		return nil, err
	}
	values := make([][]byte, len(got))
	for i, a := range got {
		values[i] = a.Value
	}
	return values, nil
}

// derive returns the shared secret of the private key h on a curve and the peer's uncompressed point. The caller clears it.
func (s *session) derive(h p11.ObjectHandle, c *curve, peer []byte) ([]byte, error) {
	s.token.uses.Add(1)
	if s.token.der {
		peer = octetString(peer)
	}
	m := []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDH1_DERIVE, p11.NewECDH1DeriveParams(p11.CKD_NULL, nil, peer))}
	d, err := s.lib.DeriveKey(s.handle, m, h, c.secret)
	if err != nil {
		return nil, err
	}
	z, err := s.read(d, p11.CKA_VALUE)
	if destroyErr := s.discard(d); err == nil && destroyErr != nil {
		clear(z[0])
		return nil, fmt.Errorf("destroy shared secret: %w", destroyErr)
	}
	if err != nil {
		return nil, err
	}
	if len(z[0]) != c.size {
		return nil, fmt.Errorf("shared secret has %d bytes, want %d", len(z[0]), c.size)
	}
	return z[0], nil
}

// rawRSA performs the bare RSA private operation.
func (s *session) rawRSA(h p11.ObjectHandle, c []byte) ([]byte, error) {
	s.token.uses.Add(1)
	if err := s.lib.DecryptInit(s.handle, rawRSAMechanism, h); err != nil {
		return nil, err
	}
	return s.lib.Decrypt(s.handle, c)
}
