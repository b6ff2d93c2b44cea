package hsm

import (
	"crypto"
	"crypto/subtle"
	"encoding/binary"

	"github.com/keyrelease/krabox/kra/block"
)

// unpadOAEP removes EME-OAEP with one hash for both (RFC 8017 section 7.1.2 step 3) from em, the result of the bare
// RSA operation with a modulus of size bytes. The message must be a key, of a file key's size in our stanzas and of one of
// sizes in other formats, so its place is known but for the choice, and nothing here depends on a secret in time or
// memory access: whether the first byte, the label, the zeros or the one was wrong is not to be seen (Manger's attack).
// em is overwritten.
//
//	em = 00 ‖ seed, as long as a hash, masked ‖ hash(label) ‖ 00 … 00 ‖ 01 ‖ key, all after seed masked
func unpadOAEP(hash crypto.Hash, em []byte, size int, label []byte, sizes ...int) ([]byte, bool) {
	if !hash.Available() || len(em) > size || size < 2*hash.Size()+2+block.MaxKeySize {
		return nil, false
	}
	if pad := size - len(em); pad > 0 { // a module may drop leading zeros
		full := make([]byte, size)
		copy(full[pad:], em)
		defer clear(full)
		em = full
	}
	seed, db := em[1:1+hash.Size()], em[1+hash.Size():]
	mask(hash, seed, db)
	mask(hash, db, seed)

	h := hash.New()
	h.Write(label)
	want := h.Sum(nil)
	bad := em[0]
	for i, b := range db[:len(want)] {
		bad |= b ^ want[i]
	}
	key, length := make([]byte, block.MaxKeySize), 0
	for _, n := range sizes { // the one after the zeros is in one place at most
		one := len(db) - n - 1
		wrong := bad | (db[one] ^ 1)
		for _, b := range db[len(want):one] {
			wrong |= b
		}
		good := subtle.ConstantTimeByteEq(wrong, 0)
		subtle.ConstantTimeCopy(good, key[:n], db[one+1:])
		length |= good * n
	}
	return key[:length], length != 0
}

// mask adds MGF1(seed) of that hash to b, RFC 8017 appendix B.2.1.
func mask(hash crypto.Hash, b, seed []byte) {
	in := make([]byte, len(seed)+4)
	copy(in, seed)
	defer clear(in)
	h := hash.New()
	for i := uint32(0); len(b) > 0; i++ {
		binary.BigEndian.PutUint32(in[len(seed):], i)
		h.Reset()
		h.Write(in)
		part := h.Sum(nil)
		n := subtle.XORBytes(b, b, part)
		clear(part)
		b = b[n:]
	}
}
