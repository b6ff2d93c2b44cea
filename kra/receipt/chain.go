package receipt

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Context strings of the chain that hsmd keeps over every unwrap and every key that it lets out.
const (
	chainContext     = "kra/chain/v1"
	copyContext      = "kra/chain-copy/v1"
	chainHeadContext = "kra/chain-head/v1"
)

// A Hash is a SHA-256 value, in lower-case hex wherever it is text.
type Hash [sha256.Size]byte

// An Instance names one life of hsmd: 16 random bytes drawn when it starts. The zero Instance is none.
type Instance [16]byte

func (h Hash) String() string                    { return hex.EncodeToString(h[:]) }
func (h Hash) MarshalText() ([]byte, error)      { return []byte(h.String()), nil }
func (h *Hash) UnmarshalText(text []byte) error  { return parseHex(h[:], text) }
func (i Instance) String() string                { return hex.EncodeToString(i[:]) }
func (i Instance) MarshalText() ([]byte, error)  { return []byte(i.String()), nil }
func (i *Instance) UnmarshalText(t []byte) error { return parseHex(i[:], t) }

// parseHex fills dst from exactly as many lower-case digits.
func parseHex(dst, text []byte) error {
	if len(text) != 2*len(dst) {
		return fmt.Errorf("parse hex: %d digits, want %d", len(text), 2*len(dst))
	}
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("parse hex: not lower-case hexadecimal")
		}
	}
	_, err := hex.Decode(dst, text)
	return err
}

// An Item is one unwrap that hsmd attempted: the N-th (from 1) of its Instance, with this key over this ciphertext. With a
// Peer it is not an unwrap: the key itself left, wrapped for the token of another box.
type Item struct {
	Instance   Instance `json:"instance"`
	N          uint64   `json:"n"`
	Key        Hash     `json:"key"`        // key id: SHA-256 of the SubjectPublicKeyInfo
	Ciphertext Hash     `json:"ciphertext"` // SHA-256 of the wrapped key; of a copy, of its parcel: hsm/REPLICA.md
	Peer       Hash     `json:"peer,omitzero"`
}

// IsCopy says whether the key left rather than opened something.
func (i Item) IsCopy() bool { return i.Peer != Hash{} }

// After returns the head after the item, for the head before it.
func (i Item) After(prev [32]byte) [32]byte {
	if !i.IsCopy() {
		return NextHead(prev, i.Key, i.Ciphertext)
	}
	b := make([]byte, 0, len(copyContext)+4*32)
	b = append(append(b, copyContext...), prev[:]...)
	b = append(append(b, i.Key[:]...), i.Peer[:]...)
	return sha256.Sum256(append(b, i.Ciphertext[:]...))
}

// A ChainHead is hsmd's word that its chain has this head after N items. Only hsmd can make or check the MAC.
type ChainHead struct {
	Instance Instance
	N        uint64
	Head     Hash
	MAC      Hash
}

// FirstHead returns the head of an instance's chain before its first item: SHA-256("kra/chain/v1" ‖ instance).
func FirstHead(instance [16]byte) [32]byte {
	var b [len(chainContext) + 16]byte
	copy(b[copy(b[:], chainContext):], instance[:])
	return sha256.Sum256(b[:])
}

// NextHead returns the head after one more unwrap: SHA-256("kra/chain/v1" ‖ prev ‖ key id ‖ ciphertext hash).
func NextHead(prev, keyID, ctHash [32]byte) [32]byte {
	var b [len(chainContext) + 96]byte
	n := copy(b[:], chainContext)
	n += copy(b[n:], prev[:])
	n += copy(b[n:], keyID[:])
	copy(b[n:], ctHash[:])
	return sha256.Sum256(b[:])
}

// HeadMessage returns what hsmd authenticates by HMAC-SHA256: "kra/chain-head/v1" ‖ instance ‖ n (8 bytes, big
// endian) ‖ head.
func HeadMessage(instance [16]byte, n uint64, head [32]byte) []byte {
	b := make([]byte, 0, len(chainHeadContext)+16+8+32)
	b = append(b, chainHeadContext...)
	b = append(b, instance[:]...)
	b = binary.BigEndian.AppendUint64(b, n)
	return append(b, head[:]...)
}
