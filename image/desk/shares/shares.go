// Package shares splits a secret of 32 bytes into n shares, any k of which give it back and fewer tell nothing (A. Shamir, How
// to share a secret, CACM 22(11), 1979), each a text that one person keeps.
package shares

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

// Size is the length of a secret and of a share's value, in bytes.
const Size = 32

// MaxShares bounds a set. MinThreshold is two: a share that is the secret would be no share.
const (
	MaxShares    = 16
	MinThreshold = 2
)

const (
	block        = "KRA RECOVERY SHARE"
	context      = "kra/share/v1"
	checksumSize = 8
	setSize      = 8
	maxText      = 4 << 10
)

// Why shares do not give a secret.
var (
	ErrTooFew  = errors.New("too few shares")
	ErrDamaged = errors.New("damaged share")
	ErrMixed   = errors.New("shares of different sets")
	ErrTwice   = errors.New("the same share twice")
)

// A Share is one of a set. Its value is a point of a polynomial for each byte of the secret.
//
//	-----BEGIN KRA RECOVERY SHARE-----
//	Domain: example.org         whose secret it is
//	Index: 1                    which share, from 1
//	Set: 0123456789abcdef       which splitting, random
//	Shares: 3                   how many there are
//	Threshold: 2                how many it takes
//
//	32 bytes of value, 8 bytes of checksum, in base64
//	-----END KRA RECOVERY SHARE-----
type Share struct {
	Domain    string
	Set       [setSize]byte
	Threshold int
	Shares    int
	Index     int
	value     [Size]byte
}

// Check says whether k of n shares can be made.
func Check(k, n int) error {
	if k < MinThreshold || k > n || n > MaxShares {
		return fmt.Errorf("%d of %d shares: want %d <= threshold <= shares <= %d", k, n, MinThreshold, MaxShares)
	}
	return nil
}

// Split makes n shares, of which k give the secret.
func Split(secret [Size]byte, k, n int, domain string) ([]Share, error) {
	defer clear(secret[:])
	if err := Check(k, n); err != nil {
		return nil, fmt.Errorf("split secret: %w", err)
	}
	var set [setSize]byte
	rand.Read(set[:])
	all := make([]Share, n)
	for i := range all {
		all[i] = Share{Domain: domain, Set: set, Threshold: k, Shares: n, Index: i + 1}
		if err := all[i].check(); err != nil {
			return nil, fmt.Errorf("split secret: %w", err)
		}
	}
	coefficients := make([]byte, k)
	defer clear(coefficients)
	for i, b := range secret {
		rand.Read(coefficients)
		coefficients[0] = b
		for j := range all {
			all[j].value[i] = at(byte(j+1), coefficients)
		}
	}
	return all, nil
}

// Combine gives the secret of a set. All shares given are used, at least the threshold of them. The caller clears the secret.
// Who forged a share with a true checksum gets another secret out: whoever knows its public key notices.
func Combine(all []Share) (secret [Size]byte, err error) {
	if len(all) == 0 {
		return secret, fmt.Errorf("combine shares: %w: none", ErrTooFew)
	}
	xs := make([]byte, len(all))
	first := all[0]
	for i, s := range all {
		if s.Domain != first.Domain {
			return secret, fmt.Errorf("combine shares: %w: one is of domain %s, one of %s", ErrMixed, first.Domain, s.Domain)
		}
		if s.Set != first.Set || s.Threshold != first.Threshold || s.Shares != first.Shares {
			return secret, fmt.Errorf("combine shares: %w: one is of set %x, one of %x", ErrMixed, first.Set, s.Set)
		}
		for _, before := range all[:i] {
			if before.Index == s.Index {
				return secret, fmt.Errorf("combine shares: %w: number %d", ErrTwice, s.Index)
			}
		}
		xs[i] = byte(s.Index)
	}
	if len(all) < first.Threshold {
		return secret, fmt.Errorf("combine shares: %w: %d of the %d that it takes", ErrTooFew, len(all), first.Threshold)
	}
	for i, w := range weights(xs) {
		for j := range secret {
			secret[j] ^= multiply(w, all[i].value[j])
		}
	}
	return secret, nil
}

// Clear forgets the value.
func (s *Share) Clear() { clear(s.value[:]) }

// String says which share it is, and nothing of its value.
func (s Share) String() string {
	return fmt.Sprintf("share %d of %d of the recovery key of %s, of which it takes %d (set %x)", s.Index, s.Shares, s.Domain, s.Threshold, s.Set)
}

// GoString keeps %#v from printing the value.
func (s Share) GoString() string { return s.String() }

var domainPattern = regexp.MustCompile(`^[a-z0-9.-]{1,63}$`)

func (s Share) check() error {
	if !domainPattern.MatchString(s.Domain) {
		return errors.New("domain: want [a-z0-9.-], at most 63")
	}
	if s.Index < 1 || s.Index > s.Shares {
		return fmt.Errorf("share %d of %d: there is none", s.Index, s.Shares)
	}
	return Check(s.Threshold, s.Shares)
}

func (s Share) checksum() []byte {
	h := sha256.New()
	h.Write([]byte(context + "\x00" + s.Domain + "\x00"))
	h.Write(s.Set[:])
	var numbers []byte
	for _, n := range []int{s.Threshold, s.Shares, s.Index} {
		numbers = binary.BigEndian.AppendUint16(numbers, uint16(n))
	}
	h.Write(numbers)
	h.Write(s.value[:])
	return h.Sum(nil)[:checksumSize]
}

// PEM is the share as it is kept.
func (s Share) PEM() []byte {
	body := append(s.value[:], s.checksum()...)
	defer clear(body)
	return pem.EncodeToMemory(&pem.Block{Type: block, Bytes: body, Headers: map[string]string{
		"Domain": s.Domain, "Set": hex.EncodeToString(s.Set[:]), "Threshold": strconv.Itoa(s.Threshold),
		"Shares": strconv.Itoa(s.Shares), "Index": strconv.Itoa(s.Index)}})
}

// Parse reads a share. Anything else than what PEM writes, white space around it and the kind of line ends aside, is a damaged share.
func Parse(text []byte) (Share, error) {
	var s Share
	if len(text) > maxText {
		return s, fmt.Errorf("parse share: %w: at most %d bytes", ErrDamaged, maxText)
	}
	text = bytes.TrimSpace(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
	defer clear(text)
	b, _ := pem.Decode(text)
	if b == nil || b.Type != block || len(b.Headers) != 5 {
		return s, fmt.Errorf("parse share: %w: no block %s", ErrDamaged, block)
	}
	defer clear(b.Bytes)
	s.Domain = b.Headers["Domain"]
	set, err := hex.DecodeString(b.Headers["Set"])
	if err != nil || len(set) != setSize || len(b.Bytes) != Size+checksumSize {
		return s, fmt.Errorf("parse share: %w: set or value is of another length", ErrDamaged)
	}
	copy(s.Set[:], set)
	for name, to := range map[string]*int{"Threshold": &s.Threshold, "Shares": &s.Shares, "Index": &s.Index} {
		n, err := strconv.Atoi(b.Headers[name])
		if err != nil || strconv.Itoa(n) != b.Headers[name] {
			return s, fmt.Errorf("parse share: %w: %s is not a number", ErrDamaged, name)
		}
		*to = n
	}
	if err := s.check(); err != nil {
		return s, fmt.Errorf("parse share: %w: %w", ErrDamaged, err)
	}
	copy(s.value[:], b.Bytes)
	if subtle.ConstantTimeCompare(s.checksum(), b.Bytes[Size:]) != 1 {
		return Share{}, fmt.Errorf("parse share: %w: its checksum does not match", ErrDamaged)
	}
	again := s.PEM()
	defer clear(again)
	if !bytes.Equal(bytes.TrimSpace(again), text) {
		return Share{}, fmt.Errorf("parse share: %w: there is something else before, after or in it", ErrDamaged)
	}
	return s, nil
}

// Of is a share that was kept in another form than a text of this package, which is then to notice damage.
func Of(domain string, set [setSize]byte, k, n, index int, value [Size]byte) (Share, error) {
	s := Share{Domain: domain, Set: set, Threshold: k, Shares: n, Index: index, value: value}
	if err := s.check(); err != nil {
		return Share{}, fmt.Errorf("make share: %w", err)
	}
	return s, nil
}

// Value is the share's value, for who keeps it in another form. The caller clears it.
func (s Share) Value() [Size]byte { return s.value }
