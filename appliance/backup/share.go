package backup

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/image/desk/shares"
)

const (
	shareContext  = "kra/backup-share/v1"
	lineContext   = "kra/backup-share-line/v1"
	shareVersion  = 1
	shareLines    = 1 + shares.Size/lineBytes
	lineBytes     = 8 // of a share in one line
	checkBytes    = 2 // behind them
	maxShareText  = 4 << 10
	keyPrefixSize = 4
)

// A KeyName is the beginning of a backup key's hash, as it is printed.
type KeyName [keyPrefixSize]byte

// NameOf names a backup key.
func NameOf(p hsm.Peer) KeyName { return KeyName(p[:keyPrefixSize]) }

func (n KeyName) String() string { return fmt.Sprintf("%x", n[:]) }

// A Share is one of those that a backup key's seed was split into, or with one of one the seed itself.
type Share struct {
	Key       KeyName
	Threshold int
	Shares    int
	Index     int // from 1
	value     func() *[shares.Size]byte
}

// Split makes the shares of a seed whose backup key is public. One of one is the seed.
func Split(s Seed, p hsm.Peer, k, n int) ([]Share, error) {
	if s.take == nil || *s.take() == [shares.Size]byte{} {
		return nil, errors.New("split seed: there is none")
	}
	return SplitSecret(*s.take(), NameOf(p), k, n)
}

// SplitSecret is Split for another secret that is kept on paper.
func SplitSecret(secret [shares.Size]byte, name KeyName, k, n int) ([]Share, error) {
	defer clear(secret[:])
	if k == 1 && n == 1 {
		return []Share{newShare(name, 1, 1, 1, secret)}, nil
	}
	parts, err := shares.Split(secret, k, n, "backup")
	if err != nil {
		return nil, err
	}
	all := make([]Share, n)
	for i, x := range parts {
		all[i] = newShare(name, k, n, x.Index, x.Value())
		parts[i].Clear()
	}
	return all, nil
}

func newShare(key KeyName, k, n, index int, value [shares.Size]byte) Share {
	kept := &value
	return Share{Key: key, Threshold: k, Shares: n, Index: index, value: func() *[shares.Size]byte { return kept }}
}

// Combine gives the seed of exactly as many shares as it takes. Whether they are right is for who knows their commitments.
func Combine(all []Share) (Seed, error) {
	secret, err := CombineSecret(all)
	if err != nil {
		return Seed{}, err
	}
	defer clear(secret[:])
	return seedOf(secret), nil
}

// CombineSecret is Combine for another secret. The caller clears it.
func CombineSecret(all []Share) (secret [shares.Size]byte, err error) {
	if len(all) == 1 && all[0].Threshold == 1 && all[0].Shares == 1 && all[0].value != nil {
		return *all[0].value(), nil
	}
	var set [8]byte
	parts := make([]shares.Share, len(all))
	defer func() {
		for i := range parts {
			parts[i].Clear()
		}
	}()
	for i, s := range all {
		if s.value == nil || s.Key != all[0].Key {
			return secret, errors.New("combine shares: they are of different secrets")
		}
		copy(set[:], s.Key[:])
		if parts[i], err = shares.Of("backup", set, s.Threshold, s.Shares, s.Index, *s.value()); err != nil {
			return secret, err
		}
	}
	return shares.Combine(parts)
}

// Clear forgets the value.
func (s Share) Clear() {
	if s.value != nil {
		clear(s.value()[:])
	}
}

// String says which share it is, and nothing of its value.
func (s Share) String() string {
	return fmt.Sprintf("share %d of %d of backup key %s", s.Index, s.Shares, s.Key)
}

// A Commitment tells a right share from a wrong one, and nothing about either: SHA-256 of 32 bytes of which nobody knows any.
type Commitment [sha256.Size]byte

// Commitment is that of this share.
func (s Share) Commitment() Commitment {
	b := append([]byte(shareContext+"\x00"), s.head()...)
	b = append(b, s.value()[:]...)
	defer clear(b)
	return sha256.Sum256(b)
}

// Is says whether it is the share with this commitment.
func (s Share) Is(c Commitment) bool {
	if s.value == nil {
		return false
	}
	got := s.Commitment()
	return subtle.ConstantTimeCompare(got[:], c[:]) == 1
}

// head is what the first line says: version, index, threshold, shares, and which key.
func (s Share) head() []byte {
	return append([]byte{shareVersion, byte(s.Index), byte(s.Threshold), byte(s.Shares)}, s.Key[:]...)
}

// letters is the alphabet of D. Crockford's base 32: no i, l, o, u.
var letters = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// alike is what is read for letters that are not in the alphabet.
var alike = strings.NewReplacer("o", "0", "i", "1", "l", "1", " ", "", "\t", "", "-", "")

func checksum(n int, head, line []byte) []byte {
	h := sha256.New()
	h.Write([]byte(lineContext + "\x00"))
	h.Write([]byte{byte(n)})
	h.Write(head)
	h.Write(line)
	return h.Sum(nil)[:checkBytes]
}

// Text is the share as it is written down: five lines of four groups of four letters, each line with its number before it and a
// checksum in it.
//
//	1: 0420 60r9 fxc7 2gpp
func (s Share) Text() string {
	all := append(s.head(), s.value()[:]...)
	defer clear(all)
	var b strings.Builder
	for n := range shareLines {
		line := all[n*lineBytes : (n+1)*lineBytes]
		word := letters.EncodeToString(append(append([]byte{}, line...), checksum(n, s.head(), line)...))
		fmt.Fprintf(&b, "%d: %s %s %s %s\n", n+1, word[:4], word[4:8], word[8:12], word[12:])
	}
	return b.String()
}

// Line is one line of a text, by its number from 1, without it.
func (s Share) Line(n int) string {
	_, line, _ := strings.Cut(strings.Split(s.Text(), "\n")[n-1], ": ")
	return line
}

// ParseShare reads a share as somebody typed it: capitals, O for 0, I and L for 1, and other spaces are the same. The error names
// the line that is wrong.
func ParseShare(text string) (Share, error) {
	var lines []string
	if len(text) <= maxShareText {
		for l := range strings.Lines(text) {
			if l = strings.TrimSpace(l); l != "" && l != "." {
				lines = append(lines, l)
			}
		}
	}
	if len(lines) != shareLines {
		return Share{}, fmt.Errorf("a share has %d lines, and that is %d", shareLines, len(lines))
	}
	var head []byte
	value := make([]byte, 0, shares.Size)
	defer clear(value)
	for n, l := range lines {
		if number, rest, ok := strings.Cut(l, ":"); ok {
			if strings.TrimSpace(number) != fmt.Sprint(n+1) {
				return Share{}, fmt.Errorf("line %d of the share is said to be line %.8q", n+1, number)
			}
			l = rest
		}
		b, err := letters.DecodeString(alike.Replace(strings.ToLower(l)))
		if err != nil || len(b) != lineBytes+checkBytes {
			return Share{}, fmt.Errorf("line %d of the share is not four groups of four letters", n+1)
		}
		if n == 0 {
			head = b[:lineBytes]
		}
		if subtle.ConstantTimeCompare(checksum(n, head, b[:lineBytes]), b[lineBytes:]) != 1 {
			return Share{}, fmt.Errorf("line %d of the share is not right: its checksum does not match", n+1)
		}
		if n > 0 {
			value = append(value, b[:lineBytes]...)
		}
		clear(b[:0])
	}
	s := newShare(KeyName(head[4:]), int(head[2]), int(head[3]), int(head[1]), [shares.Size]byte(value))
	switch {
	case head[0] != shareVersion:
		return Share{}, fmt.Errorf("that is a share of version %d, which this software does not know", head[0])
	case s.Index < 1 || s.Index > s.Shares || !(s.Threshold == 1 && s.Shares == 1) && shares.Check(s.Threshold, s.Shares) != nil:
		return Share{}, fmt.Errorf("share %d of %d, of which it takes %d: there is none", s.Index, s.Shares, s.Threshold)
	}
	return s, nil
}
