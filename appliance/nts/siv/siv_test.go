package siv

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVectors are RFC 5297 appendix A.
func TestVectors(t *testing.T) {
	for _, c := range []struct {
		name, key, plain, sealed string
		data                     []string
	}{
		{"A.1", "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", "112233445566778899aabbccddee",
			"85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c", []string{"101112131415161718191a1b1c1d1e1f2021222324252627"}},
		{"A.2", "7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f",
			"7468697320697320736f6d6520706c61696e7465787420746f20656e6372797074207573696e67205349562d414553",
			"7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d",
			[]string{"00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100", "102030405060708090a0", "09f911029d74e35bd84156c5635688c0"}},
	} {
		k := New([KeySize]byte(unhex(t, c.key)))
		var data [][]byte
		for _, d := range c.data {
			data = append(data, unhex(t, d))
		}
		got := k.Seal(unhex(t, c.plain), data...)
		if !bytes.Equal(got, unhex(t, c.sealed)) {
			t.Errorf("%s: sealed = %x; want %s", c.name, got, c.sealed)
		}
		plain, err := k.Open(got, data...)
		if err != nil || !bytes.Equal(plain, unhex(t, c.plain)) {
			t.Errorf("%s: opened = %x, %v", c.name, plain, err)
		}
		for i := range got {
			bad := bytes.Clone(got)
			bad[i] ^= 1
			if _, err := k.Open(bad, data...); err != ErrForged {
				t.Errorf("%s: byte %d is another: %v", c.name, i, err)
			}
		}
		data[0][0] ^= 1
		if _, err := k.Open(got, data...); err != ErrForged {
			t.Errorf("%s: other data: %v", c.name, err)
		}
		if _, err := k.Open(got[:block-1], data...); err != ErrForged {
			t.Errorf("%s: cut: %v", c.name, err)
		}
	}
}
