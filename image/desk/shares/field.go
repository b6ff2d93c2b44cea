package shares

// The field is GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197, 4.2). Nothing here branches on, or indexes by, a secret.

// multiply is bit by bit: a table would show in the cache which byte was looked up.
func multiply(a, b byte) (p byte) {
	for range 8 {
		p ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return p
}

// inverse is a^254; of zero it is zero.
func inverse(a byte) byte {
	p := byte(1)
	for range 7 { // 254 = 2 + 4 + … + 128
		a = multiply(a, a)
		p = multiply(p, a)
	}
	return p
}

// at is the polynomial's value at x, the coefficient of the lowest power first.
func at(x byte, coefficients []byte) (y byte) {
	for i := len(coefficients) - 1; i >= 0; i-- {
		y = multiply(y, x) ^ coefficients[i]
	}
	return y
}

// weights are the Lagrange coefficients at zero of the points xs, which are distinct and not zero.
func weights(xs []byte) []byte {
	out := make([]byte, len(xs))
	for i, x := range xs {
		w := byte(1)
		for j, o := range xs {
			if i != j {
				w = multiply(w, multiply(o, inverse(o^x)))
			}
		}
		out[i] = w
	}
	return out
}
