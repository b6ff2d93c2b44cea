package block_test

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
)

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKeyWrapVectors has RFC 3394 section 4.
func TestKeyWrapVectors(t *testing.T) {
	const kek, data = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f"
	for _, v := range []struct {
		section   string
		kek, data int
		want      string
	}{
		{"4.1", 16, 16, "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5"},
		{"4.2", 24, 16, "96778b25ae6ca435f92b5b97c050aed2468ab8a17ad84e5d"},
		{"4.3", 32, 16, "64e8c3f9ce0f5ba263e9777905818a2a93c8191e7d6e8ae7"},
		{"4.4", 24, 24, "031d33264e15d33268f24ec260743edce1c6c7ddee725a936ba814915c6762d2"},
		{"4.5", 32, 24, "a8f9bc1612c68b3ff6e6f4fbe30e71e4769c8b80a32cb8958cd5d17d6b254da1"},
		{"4.6", 32, 32, "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"},
	} {
		k, d := fromHex(t, kek)[:v.kek], fromHex(t, data)[:v.data]
		got, err := block.WrapKey(k, d)
		if err != nil || hex.EncodeToString(got) != v.want {
			t.Errorf("section %s: wrap = %x, %v; want %s", v.section, got, err, v.want)
		}
		if back, err := block.UnwrapKey(k, got); err != nil || !bytes.Equal(back, d) {
			t.Errorf("section %s: unwrap = %x, %v; want %x", v.section, back, err, d)
		}
		for i := range got {
			got[i] ^= 1
			if back, err := block.UnwrapKey(k, got); err == nil || back != nil {
				t.Errorf("section %s: byte %d changed: unwrap = %x", v.section, i, back)
			}
			got[i] ^= 1
		}
		if _, err := block.UnwrapKey(k, got[:len(got)-1]); err == nil {
			t.Errorf("section %s: a cut key unwraps", v.section)
		}
	}
	for _, n := range []int{0, 8, 15, 16, 23, 48, 64, 80} {
		if _, err := block.UnwrapKey(make([]byte, 16), make([]byte, n)); err == nil {
			t.Errorf("%d bytes unwrap", n)
		}
	}
}

// TestDeriveVectors has the vector of RFC 7518 appendix C; NIST's first for X9.63 with SHA-256; and three that OpenSSL's
// X963KDF computed.
func TestDeriveVectors(t *testing.T) {
	z := []byte{158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49, 110, 163, 218, 128, 106, 72, 246, 218, 167, 121, 140, 254, 144, 196}
	info := "\x00\x00\x00\x07A128GCM\x00\x00\x00\x05Alice\x00\x00\x00\x03Bob\x00\x00\x00\x80"
	if got := base64.RawURLEncoding.EncodeToString(block.DeriveConcat(z, []byte(info), 16)); got != "VqqN6vgjbSBcIijNcacQGg" {
		t.Errorf("RFC 7518 appendix C: %s", got)
	}
	z = fromHex(t, "96c05619d56c328ab95fe84b18264b08725b85e33fd34f08")
	for _, v := range []struct {
		hash       func() hash.Hash
		info, want string
	}{
		{sha256.New, "", "443024c3dae66b95e6f5670601558f71"},
		{sha256.New, "0102030400000080", "5f3e995233cffd26fed303b4e25e353a"},
		{sha256.New, "0102030400000100", "e405ddecde8f141f3f7a3ef0ea7220af53f2a836f42e8762185f4d5279cc7f4c"},
		{sha1.New, "0102030400000100", "f5b02af0811b6ad5ceacc8b37e8c5ca74a0671751dd70eb9dfa4b68546263fe8"},
	} {
		if got := block.DeriveX963(v.hash, z, fromHex(t, v.info), len(v.want)/2); hex.EncodeToString(got) != v.want {
			t.Errorf("X9.63 with %q: %x; want %s", v.info, got, v.want)
		}
	}
}

// TestAgreedSuites: the size of the key-encryption key is the shared info's last four bytes, and nothing else opens.
func TestAgreedSuites(t *testing.T) {
	k := newKey(t)
	for _, s := range []block.Suite{block.SuiteECDHX963, block.SuiteECDHES, block.SuiteECDHX963SHA1} {
		for _, bits := range []byte{128, 192} {
			context := []byte{'i', 0, 0, 0, bits}
			for _, size := range s.KeySizes() {
				want := bytes.Repeat([]byte{bits}, size)
				w, err := block.Seal(s, k.PublicKey(), want, context)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := block.OpenEC(k, w); err != nil || !bytes.Equal(got, want) || !bytes.Equal(w.Context(), context) {
					t.Errorf("%v %d: opens as %x, %v", s, bits, got, err)
				}
				other, err := block.NewWrap(s, w.Ref(), w.Enc(), w.Body(), []byte{'j', 0, 0, 0, bits})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := block.OpenEC(k, other); err == nil {
					t.Errorf("%v %d: opens with another context", s, bits)
				}
			}
		}
		for name, context := range map[string][]byte{
			"none": nil, "three bytes": {0, 0, 128}, "136 bits": {0, 0, 0, 136}, "129 bits": {0, 0, 0, 129}, "none at all": {0, 0, 0, 0},
			"2^32-1 bits": {255, 255, 255, 255}, "too long": append(make([]byte, block.MaxContext), 0, 0, 0, 128),
		} {
			if _, err := block.Seal(s, k.PublicKey(), make([]byte, 16), context); err == nil {
				t.Errorf("%v: shared info %s is accepted", s, name)
			}
		}
	}
}
