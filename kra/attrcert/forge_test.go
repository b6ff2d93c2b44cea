package attrcert_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// forge takes a certificate apart, lets edit change its parts in DER, and signs it again with a P-256 key. The parts are
// version, holder, issuer, algorithm, serial, validity, attributes, extensions; "after" is what follows, "outer" the
// second algorithm.
func forge(t testing.TB, raw []byte, key crypto.Signer, edit func(parts map[string][]byte)) []byte {
	t.Helper()
	names := []string{"version", "holder", "issuer", "algorithm", "serial", "validity", "attributes", "extensions"}
	in, outer, info := cryptobyte.String(raw), cryptobyte.String(nil), cryptobyte.String(nil)
	if !in.ReadASN1(&outer, der.SEQUENCE) || !outer.ReadASN1(&info, der.SEQUENCE) {
		t.Fatal("forge: not a certificate")
	}
	parts := map[string][]byte{}
	for _, name := range names {
		var e cryptobyte.String
		var tag der.Tag
		if !info.Empty() && !info.ReadAnyASN1Element(&e, &tag) {
			t.Fatal("forge: not a certificate")
		}
		parts[name] = e
	}
	parts["outer"] = parts["algorithm"]
	edit(parts)
	tbs := seq(func(b *cryptobyte.Builder) {
		for _, name := range names {
			b.AddBytes(parts[name])
		}
		b.AddBytes(parts["after"])
	})
	digest := sha256.Sum256(tbs)
	sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return seq(func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(parts["outer"])
		b.AddASN1BitString(sig)
	})
}

func seq(f func(b *cryptobyte.Builder)) []byte { return tagged(der.SEQUENCE, f) }

func tagged(tag der.Tag, f func(b *cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, f)
	return b.BytesOrPanic()
}

func elem(tag byte, parts ...[]byte) []byte {
	return tagged(der.Tag(tag), func(b *cryptobyte.Builder) {
		for _, p := range parts {
			b.AddBytes(p)
		}
	})
}

func oid(ids ...int) []byte {
	b, err := asn1.Marshal(asn1.ObjectIdentifier(ids))
	if err != nil {
		panic(err)
	}
	return b
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// attribute is an Attribute with these values.
func attribute(typ []byte, values ...[]byte) []byte {
	return elem(0x30, typ, elem(0x31, values...))
}

// extension is an Extension; with critical, DER's TRUE.
func extension(typ []byte, critical bool, value []byte) []byte {
	if critical {
		return elem(0x30, typ, []byte{1, 1, 0xff}, elem(4, value))
	}
	return elem(0x30, typ, elem(4, value))
}
