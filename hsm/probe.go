package hsm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/noise"
)

// The known answer: katKey is an RSA-2048 key that protects nothing, katBody the wrap of katFileKey to it.
var (
	//go:embed kat/rsa2048.pkcs8
	katKey []byte
	//go:embed kat/rsa2048.wrap
	katBody []byte

	katFileKey = []byte("0123456789abcdef")
)

// errWrong is an answer that is not merely missing: the module is not to be used.
var errWrong = errors.New("module computes wrongly")

// Checks that others ask for by their names.
const (
	checkRandom   = "random generator (SP 800-90B)"
	checkOAEP     = "rsa-oaep sha-256 inside"
	checkOAEPSHA1 = "rsa-oaep sha-1 inside"
	checkTrusted  = "trusted wrap and unwrap"
)

// probe asks the module for each operation that we need, for its list of mechanisms is not to be trusted. What is
// missing is reported; a wrong answer is an error, and the last of the report.
func (s *session) probe() (r wire.Report, err error) {
	for _, c := range []struct {
		name string
		try  func() error
	}{
		{checkRandom, s.probeRandom},
		{"p256 generate and derive", func() error { return s.probeEC(wire.P256) }},
		{"p384 generate and derive", func() error { return s.probeEC(wire.P384) }},
		{"rsa import and decrypt", s.probeRSA},
		{checkOAEP, func() error { return s.probeInside(block.SuiteOAEP) }},
		{checkOAEPSHA1, func() error { return s.probeInside(block.SuiteOAEPSHA1) }},
		{"rsa generate", s.probeRSAGenerate},
		{checkTrusted, s.probeKEK},
		{wire.CheckVault, s.probeVault},
		{"aes-gcm encrypt and decrypt", func() error { s.token.noSeed = s.probeSeed(); return s.token.noSeed }},
	} {
		err := c.try()
		check := wire.Check{Name: c.name}
		if err != nil {
			check.Failure = err.Error()
		}
		r.Checks = append(r.Checks, check)
		if errors.Is(err, errWrong) {
			return r, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return r, nil
}

// probeRandom holds the module's generator, of which its keys are made, to health tests.
func (s *session) probeRandom() error {
	err := noise.Check(func(b []byte) error {
		got, err := s.lib.GenerateRandom(s.handle, len(b))
		if err == nil && copy(b, got) < len(b) {
			err = errWrong
		}
		return err
	})
	if errors.Is(err, noise.ErrUnfit) {
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	return err
}

// newEC generates a session key pair for a probe and returns it as an entry.
func (s *session) newEC(on wire.Suite, c wire.Custody) (*entry, error) {
	s.token.objects.Lock()
	defer s.token.objects.Unlock()
	m := []*p11.Mechanism{p11.NewMechanism(p11.CKM_EC_KEY_PAIR_GEN, nil)}
	pub, priv, err := s.lib.GenerateKeyPair(s.handle, m, public(on), append(private(on, c), unsealed()...))
	if err != nil {
		return nil, fmt.Errorf("generate key pair: %w", err)
	}
	spki, err := s.spkiEC(pub)
	if err = errors.Join(err, s.discard(pub)); err != nil {
		return nil, err
	}
	e, err := newEntry(spki, priv)
	if err != nil {
		return nil, err
	}
	e.key.Custody = c
	return e, nil
}

// probeEC compares the token's shared secret with one computed here, and finds which form of a point it takes.
func (s *session) probeEC(on wire.Suite) error {
	c := curveOf(on)
	e, err := s.newEC(on, wire.Bound)
	if err != nil {
		return err
	}
	ours, err := c.ecdh.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	want, err := ours.ECDH(e.point)
	if err != nil {
		return err
	}
	got, err := s.derive(e.at(), c, ours.PublicKey().Bytes())
	if err != nil && on == wire.P256 {
		s.token.der = true
		got, err = s.derive(e.at(), c, ours.PublicKey().Bytes())
	}
	if err = errors.Join(err, s.discard(e.at())); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errWrong
	}
	return nil
}

// probeRSA decrypts the known wrap with the known key.
func (s *session) probeRSA() error {
	key, err := x509.ParsePKCS8PrivateKey(katKey)
	if err != nil {
		return err
	}
	spki, suite, values, err := parts(key)
	if err != nil {
		return err
	}
	h, err := s.lib.CreateObject(s.handle, slices.Concat(values, private(suite, wire.Bound), unsealed()))
	if err != nil {
		return fmt.Errorf("create key: %w", err)
	}
	em, err := s.rawRSA(h, katBody)
	if err = errors.Join(err, s.discard(h)); err != nil {
		return err
	}
	got, ok := unpadOAEP(crypto.SHA256, em, len(katBody), block.Info(block.KeyIDOfSPKI(spki)), block.FileKeySize)
	if !ok || !bytes.Equal(got, katFileKey) {
		return errWrong
	}
	return nil
}

// probeBits is a size that is quick to generate and protects nothing; a module that refuses it is asked for a real one.
const probeBits = 1024

func (s *session) probeRSAGenerate() error {
	s.token.objects.Lock()
	defer s.token.objects.Unlock()
	var pub, priv p11.ObjectHandle
	var err error
	for _, bits := range []int{probeBits, rsaBits(wire.RSA3072)} {
		template := public(wire.RSA3072)
		for _, a := range template {
			if a.Type == p11.CKA_MODULUS_BITS {
				a.Value = attr(p11.CKA_MODULUS_BITS, bits).Value
			}
		}
		m := []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)}
		pub, priv, err = s.lib.GenerateKeyPair(s.handle, m, template, append(private(wire.RSA3072, wire.Bound), unsealed()...))
		if err == nil {
			return errors.Join(s.discard(pub), s.discard(priv))
		}
	}
	return fmt.Errorf("generate key pair: %w", err)
}

// probeKEK carries a key out and in again under the key-encryption key, and tries to do it in a weaker way.
func (s *session) probeKEK() error {
	if err := s.findKEK(); err != nil {
		return err
	}
	e, err := s.newEC(wire.P256, wire.Replicable)
	if err != nil {
		return err
	}
	wrapped, err := s.lib.WrapKey(s.handle, keyWrap, s.token.kek, e.at())
	if err = errors.Join(err, s.discard(e.at())); err != nil {
		return fmt.Errorf("wrap key: %w", err)
	}
	again, err := s.unwrapKey(wrapped, private(wire.P256, wire.Replicable))
	if err != nil {
		return fmt.Errorf("unwrap key: %w", err)
	}
	e.handle.Store(uint64(again))
	err = s.pairwise(e)
	if err = errors.Join(err, s.discard(again)); err != nil {
		return err
	}
	return s.attackKEK(wrapped)
}

func (s *session) findKEK() (err error) {
	s.token.kek, err = s.findTrusted(kekLabel)
	return err
}

func (s *session) findVaultKey() (err error) {
	s.token.vault, err = s.findTrusted(vaultKeyLabel)
	return err
}

// vaultLabels are the labels of the keys that wrap keys of a custody.
var vaultLabels = map[wire.Custody]string{wire.Replicable: kekLabel, wire.Bound: vaultKeyLabel}

func (s *session) findTrusted(named string) (p11.ObjectHandle, error) {
	defer s.searching()()
	found, err := s.find([]*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attr(p11.CKA_TOKEN, true), attr(p11.CKA_LABEL, named), attr(p11.CKA_TRUSTED, true)})
	if err != nil {
		return 0, err
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("token has %d keys %q that are trusted, want 1: nothing is wrapped here", len(found), named)
	}
	return found[0], nil
}

// probeVault carries a key out and in again under the vault key, and tries to do it in a weaker way.
func (s *session) probeVault() error {
	h, err := s.findTrusted(vaultKeyLabel)
	if err != nil {
		return err
	}
	e, err := s.newEC(wire.P256, wire.Replicable)
	if err != nil {
		return err
	}
	wrapped, err := s.lib.WrapKey(s.handle, keyWrap, h, e.at())
	if err = errors.Join(err, s.discard(e.at())); err != nil {
		return fmt.Errorf("wrap key: %w", err)
	}
	for _, weak := range []*p11.Attribute{attr(p11.CKA_EXTRACTABLE, true), attr(p11.CKA_SENSITIVE, false), attr(p11.CKA_WRAP_WITH_TRUSTED, false)} {
		as := private(wire.P256, wire.Bound)
		for _, a := range as {
			if a.Type == weak.Type {
				a.Value = weak.Value
			}
		}
		if again, err := s.unwrapWith(h, p11.CKK_EC, wrapped, as); err == nil {
			return errors.Join(fmt.Errorf("%w: a bound key in vault mode can be unwrapped with another attribute %#x", errWrong, weak.Type), s.discard(again))
		}
	}
	if v, err := s.read(h, p11.CKA_VALUE); err == nil && len(v[0]) > 0 {
		return fmt.Errorf("%w: the vault key can be read", errWrong)
	}
	s.token.vault = h
	return nil
}

func (s *session) unwrapKey(wrapped []byte, as []*p11.Attribute) (p11.ObjectHandle, error) {
	return s.unwrapWith(s.token.kek, p11.CKK_EC, wrapped, as)
}

// unwrapWith unwraps a private key as a session object.
func (s *session) unwrapWith(by p11.ObjectHandle, kind uint, wrapped []byte, as []*p11.Attribute) (p11.ObjectHandle, error) {
	return s.lib.UnwrapKey(s.handle, keyWrap, by, wrapped, slices.Concat(isPrivate(kind), as, unsealed()))
}

// isPrivate is what a private key is, as what is unwrapped must be said to be.
func isPrivate(kind uint) []*p11.Attribute {
	return []*p11.Attribute{attr(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), attr(p11.CKA_KEY_TYPE, kind)}
}

// attackKEK tries to unwrap a key as one that can be read, or wrapped by anybody, and to read the wrapping key itself.
func (s *session) attackKEK(wrapped []byte) error {
	for _, t := range []uint{p11.CKA_SENSITIVE, p11.CKA_WRAP_WITH_TRUSTED} {
		as := private(wire.P256, wire.Replicable)
		for _, a := range as {
			if a.Type == t {
				a.Value = []byte{0}
			}
		}
		if h, err := s.unwrapKey(wrapped, as); err == nil {
			return errors.Join(fmt.Errorf("%w: a wrapped key can be unwrapped without attribute %#x", errWrong, t), s.discard(h))
		}
	}
	if v, err := s.read(s.token.kek, p11.CKA_VALUE); err == nil && len(v[0]) > 0 {
		return fmt.Errorf("%w: the key-encryption key can be read", errWrong)
	}
	return nil
}
