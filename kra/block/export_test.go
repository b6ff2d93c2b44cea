package block

import "hash"

// WrapKey is wrapKey.
func WrapKey(kek, key []byte) ([]byte, error) { return wrapKey(kek, key) }

// UnwrapKey is unwrapKey.
func UnwrapKey(kek, wrapped []byte) ([]byte, error) { return unwrapKey(kek, wrapped) }

// DeriveX963 is deriveX963.
func DeriveX963(h func() hash.Hash, z, context []byte, size int) []byte {
	return deriveX963(h, z, context, size)
}

// DeriveConcat is deriveConcat.
func DeriveConcat(z, context []byte, size int) []byte { return deriveConcat(z, context, size) }
