package hsm

import (
	"bytes"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// A hybrid key is three objects. No module has ML-KEM, so that half lives outside of the token, but for an AES key over
// its seed: it is in memory while one wrap is opened, and the P-256 half, which opens nothing alone either, never is.
// The AES key belongs to the one hybrid key and goes with it.
//
//	private key   P-256            CKA_ID = key id            may derive
//	secret key    AES-256          CKA_ID = key id            may encrypt and decrypt
//	data          CKA_LABEL = "kra-hybrid:" and the key id    the hybrid public key (1249) ‖ nonce (12) ‖
//	                                                          AES-256-GCM(seed (64), AAD = "kra/seed/v1" ‖ 0 ‖ key id)
const (
	seedContext = "kra/seed/v1"
	seedLabel   = "kra-hybrid:"
	seedKey     = "kra-seed-key"

	nonceSize  = 12
	gcmTagBits = 128
	sealedSeed = nonceSize + mlkem.SeedSize + gcmTagBits/8
)

// A hybrid is what an entry has besides its P-256 half.
type hybrid struct {
	key    *entry // the AES key
	sealed []byte // nonce and sealed seed
}

// seedAAD ties a sealed seed to its key.
func seedAAD(id block.KeyID) []byte { return slices.Concat([]byte(seedContext), []byte{0}, id[:]) }

// seedKeyMay is what the AES key over a seed may do.
func seedKeyMay(c wire.Custody) []*p11.Attribute {
	return []*p11.Attribute{
		attr(p11.CKA_PRIVATE, true),
		attr(p11.CKA_SENSITIVE, true),
		attr(p11.CKA_EXTRACTABLE, c == wire.Replicable),
		attr(p11.CKA_WRAP_WITH_TRUSTED, true),
		attr(p11.CKA_MODIFIABLE, false),
		attr(p11.CKA_ENCRYPT, true),
		attr(p11.CKA_DECRYPT, true),
		attr(p11.CKA_SIGN, false),
		attr(p11.CKA_VERIFY, false),
		attr(p11.CKA_WRAP, false),
		attr(p11.CKA_UNWRAP, false),
		attr(p11.CKA_DERIVE, false),
		attr(p11.CKA_VALUE_LEN, aesKeySize),
	}
}

var aesKeyGen = []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}

// generateHybrid makes a key pair of both kinds. The seed and its key come first: without the private key they are
// nothing, and what fails is erased whole.
func (s *session) generateHybrid(custody wire.Custody) (wire.Key, error) {
	if s.token.noSeed != nil {
		return wire.Key{}, wire.Refused{Reason: "this module keeps no hybrid keys: " + s.token.noSeed.Error()}
	}
	pub, priv, err := s.lib.GenerateKeyPair(s.handle, ecKeyGen, public(wire.Hybrid), append(private(wire.Hybrid, custody), unsealed()...))
	if err != nil {
		return wire.Key{}, fmt.Errorf("generate key pair: %w", err)
	}
	point, err := s.pointEC(pub)
	if err = errors.Join(err, s.discard(pub)); err != nil {
		return wire.Key{}, errors.Join(err, s.discard(priv))
	}
	spki, err := s.putSeed(point, custody)
	if err != nil {
		return wire.Key{}, errors.Join(err, s.discard(priv))
	}
	return s.admit(priv, spki, custody, wire.Generated)
}

// putSeed draws an ML-KEM key and puts its seed, sealed, into the token. It returns the SubjectPublicKeyInfo of the
// hybrid key with that point.
func (s *session) putSeed(point []byte, custody wire.Custody) ([]byte, error) {
	pq, err := mlkem.GenerateKey768()
	if err != nil {
		return nil, fmt.Errorf("generate ML-KEM key: %w", err)
	}
	pub, err := block.NewHybridKey(append(pq.EncapsulationKey().Bytes(), point...))
	if err != nil {
		return nil, err
	}
	spki, err := block.MarshalPublicKey(pub)
	if err != nil {
		return nil, err
	}
	id := block.KeyIDOfSPKI(spki)
	name := []*p11.Attribute{attr(p11.CKA_TOKEN, true), attr(p11.CKA_ID, id[:]), attr(p11.CKA_LABEL, seedKey)}
	h, err := s.lib.GenerateKey(s.handle, aesKeyGen, append(name, seedKeyMay(custody)...))
	if err != nil {
		return nil, fmt.Errorf("generate key over seed: %w", err)
	}
	seed := pq.Bytes()
	sealed, err := s.sealSeed(h, id, seed)
	clear(seed)
	if err == nil {
		err = s.createSeed(id, append(pub.Bytes(), sealed...))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store seed: %w", err), s.erase(id))
	}
	return spki, nil
}

// createSeed puts the public key and the sealed seed of a hybrid key into the token.
func (s *session) createSeed(id block.KeyID, value []byte) error {
	_, err := s.lib.CreateObject(s.handle, append(seedData(id), attr(p11.CKA_PRIVATE, true), attr(p11.CKA_MODIFIABLE, false),
		attr(p11.CKA_APPLICATION, keyLabel), attr(p11.CKA_VALUE, value)))
	return err
}

// seedData names the data object of a hybrid key.
func seedData(id block.KeyID) []*p11.Attribute {
	return []*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_DATA), attr(p11.CKA_TOKEN, true), attr(p11.CKA_LABEL, seedLabel+hex.EncodeToString(id[:]))}
}

// seedKeyWithID names the AES key of a hybrid key.
func seedKeyWithID(id block.KeyID) []*p11.Attribute {
	return []*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attr(p11.CKA_TOKEN, true), attr(p11.CKA_ID, id[:]), attr(p11.CKA_LABEL, seedKey)}
}

// sealSeed encrypts a seed in the token.
func (s *session) sealSeed(h p11.ObjectHandle, id block.KeyID, seed []byte) ([]byte, error) {
	nonce := make([]byte, nonceSize)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	params := p11.NewGCMParams(nonce, seedAAD(id), gcmTagBits)
	defer params.Free()
	if err := s.lib.EncryptInit(s.handle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}, h); err != nil {
		return nil, err
	}
	ct, err := s.lib.Encrypt(s.handle, seed)
	if err != nil {
		return nil, err
	}
	if len(ct) != sealedSeed-nonceSize {
		return nil, fmt.Errorf("sealed seed has %d bytes, want %d", len(ct), sealedSeed-nonceSize)
	}
	return append(nonce, ct...), nil
}

// openSeed undoes sealSeed. The caller clears the seed.
func (s *session) openSeed(h p11.ObjectHandle, id block.KeyID, sealed []byte) ([]byte, error) {
	params := p11.NewGCMParams(sealed[:nonceSize], seedAAD(id), gcmTagBits)
	defer params.Free()
	if err := s.lib.DecryptInit(s.handle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}, h); err != nil {
		return nil, err
	}
	return s.lib.Decrypt(s.handle, sealed[nonceSize:])
}

// hybridSPKI returns the public key that the private key with this id and point is half of; errForeign where there is
// none.
func (s *session) hybridSPKI(id, point []byte) ([]byte, error) {
	if len(id) != len(block.KeyID{}) {
		return nil, errForeign
	}
	value, err := s.seedValue(block.KeyID(id))
	if err != nil {
		return nil, err
	}
	pub, err := block.NewHybridKey(value[:len(value)-sealedSeed])
	if err != nil || !bytes.Equal(pub.Point().Bytes(), point) {
		return nil, errForeign
	}
	return block.MarshalPublicKey(pub)
}

func (s *session) seedValue(id block.KeyID) ([]byte, error) {
	found, err := s.find(seedData(id))
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, errForeign
	}
	v, err := s.read(found[0], p11.CKA_VALUE)
	if err != nil {
		return nil, fmt.Errorf("read seed: %w", err)
	}
	if len(v[0]) <= sealedSeed {
		return nil, errForeign
	}
	return v[0], nil
}

// addSeed completes the entry of a hybrid key.
func (s *session) addSeed(e *entry) error {
	value, err := s.seedValue(e.key.ID)
	if err != nil {
		return err
	}
	found, err := s.find(seedKeyWithID(e.key.ID))
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return errForeign
	}
	v, err := s.read(found[0], p11.CKA_EXTRACTABLE)
	if err != nil {
		return fmt.Errorf("read key over seed: %w", err)
	}
	k := &entry{key: e.key, over: true}
	k.handle.Store(uint64(found[0]))
	if isSet(v[0]) != (e.key.Custody == wire.Replicable) {
		return errForeign
	}
	e.hybrid = &hybrid{key: k, sealed: value[len(value)-sealedSeed:]}
	return nil
}

// openHybrid opens a wrap with one private-key operation in the token and, before it, the decryption of the seed there.
func (s *session) openHybrid(e *entry, w block.Wrap) ([]byte, error) {
	pq, err := s.decapsulator(e)
	if err != nil {
		return nil, fmt.Errorf("open seed: %w", err)
	}
	x := &exchanger{session: s, entry: e}
	key, err := block.OpenHybridAs(e.key.ID, pq, x, w)
	clear(x.shared)
	if x.fault != nil {
		return nil, x.fault
	}
	if err != nil {
		return nil, wire.ErrUnwrap
	}
	return key, nil
}

func (s *session) decapsulator(e *entry) (*mlkem.DecapsulationKey768, error) {
	var seed []byte
	err := s.with(e.hybrid.key, func(h p11.ObjectHandle) (err error) {
		seed, err = s.openSeed(h, e.key.ID, e.hybrid.sealed)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer clear(seed)
	return mlkem.NewDecapsulationKey768(seed)
}

// probeSeed seals something under an AES key of the token and opens it, and sees that a change is noticed.
func (s *session) probeSeed() error {
	s.token.objects.Lock()
	defer s.token.objects.Unlock()
	h, err := s.lib.GenerateKey(s.handle, aesKeyGen, append(seedKeyMay(wire.Bound), attr(p11.CKA_TOKEN, false)))
	if err != nil {
		return fmt.Errorf("generate key over seed: %w", err)
	}
	err = s.trySeed(h)
	return errors.Join(err, s.discard(h))
}

func (s *session) trySeed(h p11.ObjectHandle) error {
	want := make([]byte, mlkem.SeedSize)
	if _, err := rand.Read(want); err != nil {
		return err
	}
	sealed, err := s.sealSeed(h, block.KeyID{1}, want)
	if err != nil {
		return fmt.Errorf("seal seed: %w", err)
	}
	got, err := s.openSeed(h, block.KeyID{1}, sealed)
	if err != nil {
		return fmt.Errorf("open seed: %w", err)
	}
	defer clear(got)
	if subtle.ConstantTimeCompare(got, want) != 1 || bytes.Contains(sealed, want) {
		return errWrong
	}
	if _, err := s.openSeed(h, block.KeyID{2}, sealed); err == nil {
		return fmt.Errorf("%w: a seed opens under another name", errWrong)
	}
	return nil
}
