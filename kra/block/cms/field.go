package cms

import "encoding/binary"

// A field is an element of GF(2^128) as GCM has it, NIST SP 800-38D section 6.3: the first bit of the first byte is the
// coefficient of 1.
type field struct{ hi, lo uint64 }

var one = field{hi: 1 << 63}

func fieldOf(b []byte) field {
	return field{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

func (x field) bytes() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, x.hi), x.lo)
}

func (x field) add(y field) field { return field{x.hi ^ y.hi, x.lo ^ y.lo} }

// mul multiplies, in a time that does not depend on the values.
func (x field) mul(y field) (z field) {
	for i := range 128 {
		word := x.hi
		if i >= 64 {
			word = x.lo
		}
		bit := -(word >> (63 - i%64) & 1)
		z.hi ^= y.hi & bit
		z.lo ^= y.lo & bit
		carry := -(y.lo & 1)
		y.lo = y.lo>>1 | y.hi<<63
		y.hi = y.hi>>1 ^ carry&(0xe1<<56)
	}
	return z
}

// pow raises to a power that is not secret.
func (x field) pow(n uint64) field {
	z := one
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			z = z.mul(x)
		}
		x = x.mul(x)
	}
	return z
}

// inverse is x to the power of 2^128 - 2; of zero it is zero.
func (x field) inverse() field {
	z := one
	for range 127 {
		x = x.mul(x)
		z = z.mul(x)
	}
	return z
}
