package account

import (
	"crypto/fips140"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" // what RFC 6238 authenticators have; its collisions are no matter in HMAC
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A code is that of RFC 6238 with the values that every authenticator has: HMAC-SHA-1, steps of 30 s, six digits.
const (
	SecretSize = 20 // bytes, as RFC 4226 section 4 recommends
	Digits     = 6
	Step       = 30 * time.Second
	window     = 1 // steps before and after the present one whose codes count too: a clock that is a little off, and slow fingers
)

// A recovery code counts once in place of a code, and asks no clock: 60 random bits.
const (
	RecoveryCodes   = 10
	recoverySize    = 12 // characters of base32
	recoveryContext = "kra/recovery/v1\x00"
)

// maxTyped bounds what is typed in place of a code, in bytes.
const maxTyped = 64

var b32 = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewSecret returns a secret that authenticator and box share, SecretSize random bytes.
func NewSecret() []byte {
	secret := make([]byte, SecretSize)
	rand.Read(secret)
	return secret
}

// Computes returns why this process makes no codes: FIPS 140 mode "only" has no HMAC-SHA-1.
func Computes() error {
	if fips140.Enforced() {
		return errors.New("codes are HMAC-SHA-1, which the FIPS 140 mode of this box does not have")
	}
	return nil
}

// SecretText writes a secret in base32, as authenticators take it (RFC 4648 section 6, without padding).
func SecretText(secret []byte) string { return b32.EncodeToString(secret) }

// hotp is the code of a counter (RFC 4226 section 5.3).
func hotp(secret []byte, counter uint64) string {
	m := hmac.New(sha1.New, secret)
	m.Write(binary.BigEndian.AppendUint64(nil, counter))
	sum := m.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	n := binary.BigEndian.Uint32(sum[at:]) & 0x7fffffff
	return fmt.Sprintf("%0*d", Digits, n%1_000_000)
}

// CodeAt returns the code of a moment, as an authenticator shows it.
func CodeAt(secret []byte, t time.Time) string {
	return hotp(secret, uint64(t.Unix())/uint64(Step/time.Second))
}

// CheckCode reports whether typed is the code of the step at now, or of the one before or after, and which step that is. The code of step
// last, and of all before, counts no more. It takes as long whatever is typed.
func CheckCode(secret []byte, last uint64, now time.Time, typed string) (step uint64, ok bool) {
	text := []byte(plain(typed))
	present := now.Unix() / int64(Step/time.Second)
	if Computes() != nil || present < window {
		return 0, false
	}
	found := 0
	for s := uint64(present) - window; s <= uint64(present)+window; s++ {
		same := subtle.ConstantTimeCompare([]byte(hotp(secret, s)), text)
		if s > last && same == 1 {
			step = s
		}
		found |= same
	}
	return step, found == 1 && step > last
}

// NewRecovery returns fresh recovery codes in groups of four, and the hashes that are kept of them.
func NewRecovery(secret []byte) (codes, hashes []string) {
	for range RecoveryCodes {
		text := rand.Text()[:recoverySize] // base32
		codes = append(codes, Grouped(text))
		hashes = append(hashes, recoveryHash(secret, text))
	}
	return codes, hashes
}

// CheckRecovery returns the hash of the recovery code that was typed, if it is one of hashes.
func CheckRecovery(secret []byte, hashes []string, typed string) (hash string, ok bool) {
	hash = recoveryHash(secret, plain(typed))
	found := 0
	for _, h := range hashes {
		found |= subtle.ConstantTimeCompare([]byte(h), []byte(hash))
	}
	return hash, found == 1
}

// recoveryHash is HMAC-SHA-256(secret, context ‖ code), hexadecimal. Who has the state to guess from has the secret itself.
func recoveryHash(secret []byte, text string) string {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(recoveryContext + text))
	return hex.EncodeToString(m.Sum(nil))
}

// Grouped writes text in groups of four, to be read and typed.
func Grouped(text string) string {
	var groups []string
	for len(text) > 4 {
		groups, text = append(groups, text[:4]), text[4:]
	}
	return strings.Join(append(groups, text), " ")
}

// plain is a code without the spaces and hyphens between its groups, in capitals. What is too long for any code is none.
func plain(typed string) string {
	if len(typed) > maxTyped {
		return ""
	}
	return strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(typed))
}
