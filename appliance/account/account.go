// Package account keeps passphrases as argon2id hashes in PHC string form, and checks the codes of second factors (RFC 6238).
package account

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// Cost of one hash (RFC 9106): 19 MiB, two passes, one lane.
const (
	memoryKiB = 19 * 1024
	passes    = 2
	lanes     = 1
	saltLen   = 16
	tagLen    = 32
)

// Limits of a passphrase, in bytes.
const (
	MinPassphrase = 12
	MaxPassphrase = 256
)

const prefix = "$argon2id$v=19$m=19456,t=2,p=1$"

var b64 = base64.RawStdEncoding.Strict()

// one lets a single hash run at a time: 19 MiB each on a box of 128 MiB.
var one sync.Mutex

// Acceptable returns why pass may not become a passphrase, or nil.
func Acceptable(pass []byte) error {
	switch {
	case len(pass) < MinPassphrase:
		return fmt.Errorf("passphrase is too short: use at least %d characters", MinPassphrase)
	case len(pass) > MaxPassphrase:
		return fmt.Errorf("passphrase is too long: use at most %d bytes", MaxPassphrase)
	case !utf8.Valid(pass):
		return errors.New("passphrase is not UTF-8 text")
	}
	return nil
}

// Hash returns the PHC string of pass under a fresh salt.
func Hash(pass []byte) string {
	salt := make([]byte, saltLen)
	rand.Read(salt)
	return prefix + b64.EncodeToString(salt) + "$" + b64.EncodeToString(derive(pass, salt))
}

// Check reports whether pass is the passphrase of phc. A phc that this package would not have written, and a
// passphrase over MaxPassphrase, are false.
func Check(phc string, pass []byte) bool {
	salt, tag, err := parse(phc)
	if err != nil || len(pass) > MaxPassphrase {
		return false
	}
	return subtle.ConstantTimeCompare(derive(pass, salt), tag) == 1
}

// Valid returns nil if phc has the one form that Hash writes.
func Valid(phc string) error {
	_, _, err := parse(phc)
	return err
}

func derive(pass, salt []byte) []byte {
	one.Lock()
	defer one.Unlock()
	return argon2.IDKey(pass, salt, passes, memoryKiB, lanes, tagLen)
}

func parse(phc string) (salt, tag []byte, err error) {
	rest, ok := strings.CutPrefix(phc, prefix)
	s, t, ok2 := strings.Cut(rest, "$")
	if !ok || !ok2 {
		return nil, nil, errors.New("passphrase hash: not argon2id with the fixed cost")
	}
	salt, errS := b64.DecodeString(s)
	tag, errT := b64.DecodeString(t)
	if errS != nil || errT != nil || len(salt) != saltLen || len(tag) != tagLen {
		return nil, nil, errors.New("passphrase hash: malformed salt or tag")
	}
	return salt, tag, nil
}
