package cms

import "bytes"

// Sealed encrypts and hashes in chunks of the size given, and returns ciphertext and tag.
func Sealed(key, nonce, plain, additional []byte, size int) ([]byte, error) {
	g, err := newGCM(key, nonce)
	if err != nil {
		return nil, err
	}
	out := append([]byte{}, plain...)
	for rest := out; len(rest) > 0; {
		n := min(size, len(rest))
		g.seal(rest[:n])
		rest = rest[n:]
	}
	return append(out, g.tag(additional)...), nil
}

// Wrapped is wrapped.
func Wrapped(tag byte, content ...[]byte) []byte { return wrapped(tag, content...) }

// Elements splits the content of a constructed element.
func Elements(der []byte) (out [][]byte) {
	b := newBER(bytes.NewReader(der))
	if _, err := b.open(der[0]); err != nil {
		panic(err)
	}
	for {
		tag, err := b.next()
		if err != nil {
			panic(err)
		}
		if tag == tagEnd {
			return out
		}
		e, err := b.element(tag, len(der))
		if err != nil {
			panic(err)
		}
		out = append(out, e)
	}
}
