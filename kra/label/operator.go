package label

import (
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

const (
	operatorContext        = "kra/operator/v1"
	operatorChallengeBlock = "KRA OPERATOR CHALLENGE"
	operatorAnswerBlock    = "KRA OPERATOR ANSWER"
)

// MaxPresence is how long an operator counts as present; the TPM counts.
const MaxPresence = 10 * time.Minute

// An Operator says who must be present for an approval to count. It is part of the approved policy.
type Operator string

const (
	NoOperator Operator = ""         // nobody
	Presence   Operator = "presence" // who knows the passphrase of the box's presence index
)

// ByToken is the operator who holds a P-256 key: its TPMT_PUBLIC in hex, as domain keys are.
func ByToken(k Key) Operator { return Operator(hex.EncodeToString(k.tpmt[:])) }

// Token is the operator's key; ok is false for other operators.
func (o Operator) Token() (k Key, ok bool) {
	if o == NoOperator || o == Presence || k.UnmarshalText([]byte(o)) != nil {
		return Key{}, false
	}
	return k, true
}

// String is for people.
func (o Operator) String() string {
	if k, ok := o.Token(); ok {
		return "token " + k.Name().Fingerprint()
	}
	return string(o)
}

func (o Operator) check() error {
	if _, ok := o.Token(); !ok && o != NoOperator && o != Presence {
		return errors.New(`operator is neither "presence" nor a key`)
	}
	if k, ok := o.Token(); ok && ByToken(k) != o {
		return errors.New("operator's key is not in lower-case hex")
	}
	return nil
}

// OperatorRef is the policy reference of an operator's word: SHA-256 of "kra/operator/v1", a zero byte and the label. A word for
// one label serves no other.
func OperatorRef(l ID) [32]byte {
	return sha256.Sum256([]byte(operatorContext + "\x00" + string(l)))
}

// An OperatorChallenge is what a box asks an operator's token to sign: that he is present, for a label, for so long.
type OperatorChallenge struct {
	Domain  string `json:"domain"`
	Box     string `json:"box"`
	Label   ID     `json:"label"`
	Nonce   []byte `json:"nonce"`   // of the TPM's session
	Seconds uint32 `json:"seconds"` // at most MaxPresence
}

const maxNonce = 64 // bytes

func (c OperatorChallenge) check() error {
	switch {
	case !hostName(c.Domain) || !namePattern.MatchString(c.Box) || !namePattern.MatchString(string(c.Label)):
		return errors.New("operator challenge: a name is not one")
	case len(c.Nonce) < 16 || len(c.Nonce) > maxNonce:
		return fmt.Errorf("operator challenge: nonce of %d bytes, want 16 to %d", len(c.Nonce), maxNonce)
	case c.Seconds == 0 || time.Duration(c.Seconds)*time.Second > MaxPresence:
		return fmt.Errorf("operator challenge: %d seconds, want 1 to %d", c.Seconds, MaxPresence/time.Second)
	}
	return nil
}

// Expiration is the field of TPM2_PolicySigned and TPM2_PolicySecret: negative, which asks for a ticket (TPM 2.0 part 3, 23.2.4).
func (c OperatorChallenge) Expiration() int32 { return -int32(c.Seconds) }

// signed is aHash of TPM2_PolicySigned (TPM 2.0 part 3, 23.3): SHA-256(nonceTPM, expiration, cpHash, policyRef), with no cpHash.
func (c OperatorChallenge) signed() [32]byte {
	ref := OperatorRef(c.Label)
	b := binary.BigEndian.AppendUint32(append([]byte{}, c.Nonce...), uint32(c.Expiration()))
	return sha256.Sum256(append(b, ref[:]...))
}

// Verify checks a token's answer.
func (c OperatorChallenge) Verify(k Key, a OperatorAnswer) bool {
	return c.Label == a.Label && k.Verify(c.signed(), a.Signature)
}

// PEM is the challenge as it is shown on a console.
func (c OperatorChallenge) PEM() []byte { return armor(operatorChallengeBlock, encode(c)) }

// ParseOperatorChallenge reads a challenge out of a text.
func ParseOperatorChallenge(text []byte) (OperatorChallenge, error) {
	var c OperatorChallenge
	doc, err := unarmor(operatorChallengeBlock, text)
	if err == nil {
		err = decode(doc, &c, func() error { return c.check() })
	}
	if err != nil {
		return OperatorChallenge{}, fmt.Errorf("parse operator challenge: %w", err)
	}
	return c, nil
}

// An OperatorAnswer is a token's word that its holder is present.
type OperatorAnswer struct {
	Label     ID     `json:"label"`
	Signature []byte `json:"signature"` // r and s of 32 bytes each, over SHA-256(nonce, expiration, reference)
}

// Sign answers a challenge with the operator's key.
func (c OperatorChallenge) Sign(key crypto.Signer) (OperatorAnswer, error) {
	if err := c.check(); err != nil {
		return OperatorAnswer{}, fmt.Errorf("answer %w", err)
	}
	sig, err := signDigest(key, c.signed())
	if err != nil {
		return OperatorAnswer{}, fmt.Errorf("answer operator challenge: %w", err)
	}
	return OperatorAnswer{c.Label, sig}, nil
}

func (a OperatorAnswer) check() error {
	if !namePattern.MatchString(string(a.Label)) || len(a.Signature) != signatureSize {
		return fmt.Errorf("operator answer: want a label and %d bytes", signatureSize)
	}
	return nil
}

// PEM is the answer as it is pasted at a console.
func (a OperatorAnswer) PEM() []byte { return armor(operatorAnswerBlock, encode(a)) }

// ParseOperatorAnswer reads an answer out of a text. The TPM checks the signature.
func ParseOperatorAnswer(text []byte) (OperatorAnswer, error) {
	var a OperatorAnswer
	doc, err := unarmor(operatorAnswerBlock, text)
	if err == nil {
		err = decode(doc, &a, func() error { return a.check() })
	}
	if err != nil {
		return OperatorAnswer{}, fmt.Errorf("parse operator answer: %w", err)
	}
	return a, nil
}
