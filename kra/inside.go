package kra

import (
	"crypto/sha256"
	"errors"
	"slices"

	"github.com/keyrelease/krabox/kra/block"
)

// SealedInside returns the message key that an HSM encrypted to the key of a certificate by a suite of CMS and JWE:
// block.SuiteOAEP or block.SuiteOAEPSHA1. Nothing in body ties it to a request: Binding.Answer does. It copies body.
func SealedInside(suite block.Suite, body []byte) (Sealed, error) {
	if suite != block.SuiteOAEP && suite != block.SuiteOAEPSHA1 {
		return Sealed{}, errors.New("no suite that an HSM seals by")
	}
	if len(body) < minSealRSA/8 || len(body) > maxSealRSA/8 {
		return Sealed{}, errors.New("a sealed key of the wrong length")
	}
	return Sealed{suite: suite.String(), body: slices.Clone(body)}, nil
}

// Inside returns the suite of a key that was sealed within the HSM, which is how a CMS or JWE recipient has it. ok is
// false for every other.
func (s Sealed) Inside() (suite block.Suite, ok bool) {
	for _, suite := range []block.Suite{block.SuiteOAEP, block.SuiteOAEPSHA1} {
		if s.suite == suite.String() {
			return suite, true
		}
	}
	return 0, false
}

// Body returns the ciphertext.
func (s Sealed) Body() []byte { return slices.Clone(s.body) }

// Answer is what the receipt of a key that was sealed within the HSM says of it:
//
//	SHA-256("kra/answer/v1" 0 info 0 aad SUITE 0 body)      info and aad as in sealed keys
//
// A token has no place for the label that ties other answers to their request. The signature over the log does, which no
// answer goes without.
func (b Binding) Answer(result int, s Sealed) [sha256.Size]byte {
	return sha256.Sum256(slices.Concat([]byte(answerContext), []byte{0}, b.label(result), []byte(s.suite), []byte{0}, s.body))
}
