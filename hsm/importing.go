package hsm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// A private key that was made elsewhere comes in wrapped to the token's import key, in the form of CKM_RSA_AES_KEY_WRAP:
//
//	outer   an AES-256 key under RSA-OAEP with SHA-256: opened with the import key; for this moment in this process
//	inner   PKCS#8 under that with AES-KWP: unwrapped in the token, and nowhere in the clear but there
//
// The import key opens nothing else: it is of none of the keys that a wrap can name, and what does not open looks the same whichever part
// did not. See IMPORT.md.
const (
	importLabel = "kra-import-key"
	importSuite = wire.RSA3072
)

var (
	errNotOurs  = wire.Refused{Reason: "the wrapped key does not open: it was altered, or wrapped to another key than the import key of this box"}
	errNoImport = wire.Refused{Reason: "this box has no import key yet, to which a key could be wrapped: key import-key"}
)

// importMay is what the import key may do. Decrypting is for the padding, which SoftHSM does not know with SHA-256.
func importMay() []*p11.Attribute {
	as := private(importSuite, wire.Bound)
	for _, a := range as {
		if a.Type == p11.CKA_UNWRAP {
			a.Value = attr(p11.CKA_UNWRAP, false).Value
		}
	}
	return as
}

// ImportKey returns the import key, made if there is none.
func (c *Custodian) ImportKey() (spki []byte, changed wire.Files, err error) {
	changed, err = c.mutate(func(s *session) error {
		e, err := s.importEntry()
		if err == nil && e == nil {
			e, err = s.makeImportKey()
		}
		if err == nil {
			spki = e.key.SPKI
		}
		return err
	})
	return spki, changed, err
}

// NewImportKey makes another import key, and destroys what there is.
func (c *Custodian) NewImportKey() (spki []byte, changed wire.Files, err error) {
	changed, err = c.mutate(func(s *session) error {
		old, err := s.importObjects()
		if err != nil {
			return err
		}
		e, err := s.makeImportKey()
		if err != nil {
			return err
		}
		spki = e.key.SPKI
		for _, h := range old {
			if err := s.discard(h); err != nil {
				return errors.Join(err, s.discard(e.at()))
			}
		}
		return nil
	})
	return spki, changed, err
}

// importObjects finds the import key. It is in no index: no wrap names it.
func (s *session) importObjects() ([]p11.ObjectHandle, error) {
	if err := s.loggedIn(); err != nil {
		return nil, err // the token hides its keys
	}
	found, err := s.find([]*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), attr(p11.CKA_TOKEN, true), attr(p11.CKA_LABEL, importLabel)})
	if err == nil {
		s.token.imports.Store(uint32(len(found)))
	}
	return found, err
}

// importEntry is the import key, nil if there is none.
func (s *session) importEntry() (*entry, error) {
	found, err := s.importObjects()
	if err != nil || len(found) == 0 {
		return nil, err
	}
	if len(found) != 1 {
		return nil, wire.Refused{Reason: fmt.Sprintf("the token has %d import keys: key import-key new", len(found))}
	}
	spki, err := s.publicRSA(found[0])
	if err != nil {
		return nil, err
	}
	return importEntryOf(spki, found[0])
}

func importEntryOf(spki []byte, h p11.ObjectHandle) (*entry, error) {
	e, err := newEntry(spki, h)
	if err != nil || e.key.Suite != importSuite {
		return nil, errors.New("the import key in the token is of another kind")
	}
	e.key.Custody = wire.Bound
	return e, nil
}

// makeImportKey makes one as generate makes a key, attacks it and tries it.
func (s *session) makeImportKey() (*entry, error) {
	if err := s.checkRoom(); err != nil {
		return nil, err
	}
	pub, priv, err := s.lib.GenerateKeyPair(s.handle, keyGen(importSuite), public(importSuite), append(importMay(), unsealed()...))
	if err != nil {
		return nil, fmt.Errorf("generate import key: %w", err)
	}
	spki, err := s.publicRSA(pub)
	if err = errors.Join(err, s.discard(pub)); err != nil {
		return nil, errors.Join(err, s.discard(priv))
	}
	id := block.KeyIDOfSPKI(spki)
	err = s.lib.SetAttributeValue(s.handle, priv, []*p11.Attribute{attr(p11.CKA_ID, id[:]), attr(p11.CKA_LABEL, importLabel)})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("name import key: %w", err), s.discard(priv))
	}
	h, err := s.lib.CopyObject(s.handle, priv, sealed())
	if err = errors.Join(err, s.discard(priv)); err != nil {
		return nil, fmt.Errorf("copy import key into token: %w", err)
	}
	e, err := importEntryOf(spki, h)
	if err == nil {
		err = errors.Join(s.attack(e), s.tryImportKey(e))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("test import key: %w", err), s.discard(h))
	}
	s.token.imports.Store(1)
	return e, nil
}

// tryImportKey opens what is wrapped to its public half; the module by itself must not open anything with it.
func (s *session) tryImportKey(e *entry) error {
	pub, err := block.ParsePublicKey(e.key.SPKI)
	if err != nil {
		return err
	}
	to, want := pub.(*rsa.PublicKey), make([]byte, aesKeySize)
	rand.Read(want)
	outer, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, to, want, nil)
	if err != nil {
		return err
	}
	got, err := s.ephemeral(e, outer)
	defer clear(got)
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("another key came out")
	}
	if err != nil {
		return err
	}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		other, err := rsa.EncryptOAEP(hash.New(), rand.Reader, to, want, nil)
		if err != nil {
			return err
		}
		if h, err := s.takeIn(e.at(), hash, other); err == nil {
			return errors.Join(errors.New("it unwraps keys by itself"), s.discard(h))
		}
	}
	return nil
}

// ephemeral opens the outer part. What does not open yields a random key, under which the inner part does not either: how the padding was
// wrong is not to be seen. The caller clears it.
func (s *session) ephemeral(e *entry, outer []byte) ([]byte, error) {
	random := make([]byte, aesKeySize)
	rand.Read(random)
	if len(outer) != len(e.modulus) || bytes.Compare(outer, e.modulus) >= 0 {
		return random, nil
	}
	em, err := s.rawRSA(e.at(), outer)
	if isInput(err) {
		return random, nil
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	defer clear(em)
	value, ok := unpadOAEP(crypto.SHA256, em, len(e.modulus), nil, aesKeySize)
	if !ok {
		return random, nil
	}
	return value, nil
}

// ImportWrapped takes in a private key that was wrapped to the import key, which it names by its id, or not by zero.
func (c *Custodian) ImportWrapped(to block.KeyID, wrapped []byte, custody wire.Custody, m wire.Mode) (key wire.Key, changed wire.Files, err error) {
	changed, err = c.mutate(func(s *session) error { key, err = s.importWrapped(to, wrapped, custody, m); return err })
	if err != nil {
		return wire.Key{}, nil, err
	}
	return key, changed, nil
}

func (s *session) importWrapped(to block.KeyID, wrapped []byte, custody wire.Custody, m wire.Mode) (k wire.Key, err error) {
	if custody != wire.Bound && custody != wire.Replicable {
		return k, wire.Refused{Reason: "custody is not known"}
	}
	if m != wire.Resident && m != wire.Vault {
		return k, errMode
	}
	if err := s.checkRoom(); err != nil {
		return k, err
	}
	e, err := s.importEntryFor(to)
	if err != nil {
		return k, err
	}
	return s.openWrapped(e, wrapped, custody, m)
}

// openWrapped takes in what was wrapped to the import key e.
func (s *session) openWrapped(e *entry, wrapped []byte, custody wire.Custody, m wire.Mode) (k wire.Key, err error) {
	if len(wrapped) <= len(e.modulus) || len(wrapped) > wire.MaxWrappedKey {
		return k, wire.Refused{Reason: fmt.Sprintf("the wrapped key has %d bytes: want more than %d, at most %d", len(wrapped), len(e.modulus), wire.MaxWrappedKey)}
	}
	value, err := s.ephemeral(e, wrapped[:len(e.modulus)])
	if err != nil {
		return k, err
	}
	defer clear(value)
	in := inner{wrapped: wrapped[len(e.modulus):], custody: custody, mode: m}
	template, free := opener(bytes.Clone(value), importLabel, in.must()...)
	defer free()
	if in.by, err = s.create(template); err != nil {
		return k, fmt.Errorf("create key of the inner part: %w", err)
	}
	defer func() {
		if gone := s.vanish(in.by); gone != nil {
			err = errors.Join(err, gone)
			if k.SPKI != nil {
				err = errors.Join(err, s.forget([]wire.Key{k}))
			}
		}
	}()
	return s.takeWrapped(in)
}

// importEntryFor finds the import key that a wrapped key names.
func (s *session) importEntryFor(to block.KeyID) (*entry, error) {
	e, err := s.importEntry()
	switch {
	case err != nil:
		return nil, err
	case e == nil:
		return nil, errNoImport
	case to != block.KeyID{} && to != e.key.ID:
		return nil, wire.Refused{Reason: fmt.Sprintf("it was wrapped to import key %s, and the import key of this box is %s", to, e.key.ID)}
	}
	return e, nil
}
