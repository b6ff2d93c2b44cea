package jwe_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/jwe"
)

var keys = sync.OnceValue(func() (k struct {
	rsa, rsa4 *rsa.PrivateKey
	ec, ec384 *ecdsa.PrivateKey
}) {
	k.rsa, _ = rsa.GenerateKey(rand.Reader, 2048)
	k.rsa4, _ = rsa.GenerateKey(rand.Reader, 4096)
	k.ec384, _ = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	k.ec, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return k
})

// thumbprint is go-jose's, as an independent opinion.
func thumbprint(t testing.TB, pub crypto.PublicKey) string {
	t.Helper()
	b, err := (&jose.JSONWebKey{Key: pub}).Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// release finds the content key of a head as an agent does, which is sent nothing else.
func release(t testing.TB, h jwe.Head, key crypto.Signer) []byte {
	t.Helper()
	sent, err := jwe.ParseHead(h.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	e, err := sent.Envelope()
	if err != nil {
		t.Fatal(err)
	}
	id, err := block.KeyIDOf(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range e.Wraps() {
		if w.Ref().String() != "thumbprint:"+thumbprint(t, key.Public()) {
			continue
		}
		var out []byte
		switch k := key.(type) {
		case *rsa.PrivateKey:
			out, err = rsa.DecryptOAEP(w.Suite().OAEPHash().New(), nil, k, w.Body(), w.OAEPLabel())
		case *ecdsa.PrivateKey:
			var kx *ecdh.PrivateKey
			if kx, err = k.ECDH(); err == nil {
				out, err = block.OpenEC(kx, w.Named(id))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	t.Fatalf("no wrap names the key: %v", e.Wraps())
	return nil
}

// TestGoJoseWrites: what go-jose writes, in each of the three forms, is released from one recipient and read here.
func TestGoJoseWrites(t *testing.T) {
	want := []byte(strings.Repeat("content ", 1000))
	rsaTo := jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: keys().rsa.Public(), KeyID: thumbprint(t, keys().rsa.Public())}
	sha1To := rsaTo
	sha1To.Algorithm = jose.RSA_OAEP
	ecTo := jose.Recipient{Algorithm: jose.ECDH_ES_A256KW, Key: keys().ec.Public(), KeyID: thumbprint(t, keys().ec.Public())}
	rsa4To := jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: keys().rsa4.Public(), KeyID: thumbprint(t, keys().rsa4.Public())}
	p384To := jose.Recipient{Algorithm: jose.ECDH_ES_A256KW, Key: keys().ec384.Public(), KeyID: thumbprint(t, keys().ec384.Public())}
	p384By128 := p384To
	p384By128.Algorithm = jose.ECDH_ES_A128KW
	ec128 := ecTo
	ec128.Algorithm = jose.ECDH_ES_A128KW
	foreign := jose.Recipient{Algorithm: jose.A256KW, Key: make([]byte, 32)}
	compact := func(m *jose.JSONWebEncryption) (string, error) { return m.CompactSerialize() }
	full := func(m *jose.JSONWebEncryption) (string, error) { return m.FullSerialize(), nil }
	for name, c := range map[string]struct {
		enc  jose.ContentEncryption
		to   []jose.Recipient
		form func(*jose.JSONWebEncryption) (string, error)
		by   []crypto.Signer
	}{
		"compact, rsa":   {jose.A256GCM, []jose.Recipient{rsaTo}, compact, []crypto.Signer{keys().rsa}},
		"compact, ec":    {jose.A128GCM, []jose.Recipient{ecTo}, compact, []crypto.Signer{keys().ec}},
		"compact, sha1":  {jose.A256GCM, []jose.Recipient{sha1To}, compact, []crypto.Signer{keys().rsa}},
		"flattened, ec":  {jose.A192GCM, []jose.Recipient{ec128}, full, []crypto.Signer{keys().ec}},
		"flattened, rsa": {jose.A128CBC_HS256, []jose.Recipient{rsaTo}, full, []crypto.Signer{keys().rsa}},
		"48 bytes, rsa":  {jose.A192CBC_HS384, []jose.Recipient{rsaTo}, compact, []crypto.Signer{keys().rsa}},
		"64 bytes, both": {jose.A256CBC_HS512, []jose.Recipient{rsaTo, ec128}, full, []crypto.Signer{keys().rsa, keys().ec}},
		"general":        {jose.A256GCM, []jose.Recipient{foreign, rsaTo, ecTo}, full, []crypto.Signer{keys().rsa, keys().ec}},
		"rsa-4096, p384": {jose.A256GCM, []jose.Recipient{rsa4To, p384To}, full, []crypto.Signer{keys().rsa4, keys().ec384}},
		"compact, p384":  {jose.A256CBC_HS512, []jose.Recipient{p384By128}, compact, []crypto.Signer{keys().ec384}},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := jose.NewMultiEncrypter(c.enc, c.to, nil)
			if err != nil {
				t.Fatal(err)
			}
			m, err := e.Encrypt(want)
			if err != nil {
				t.Fatal(err)
			}
			text, err := c.form(m)
			if err != nil {
				t.Fatal(err)
			}
			got, err := jwe.Read(strings.NewReader(text + "\n"))
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range c.by {
				plain, err := got.Open(release(t, got.Head(), k))
				if err != nil || !bytes.Equal(plain, want) {
					t.Errorf("opens to %d bytes, %v; want %d", len(plain), err, len(want))
				}
			}
			if _, err := got.Open(make([]byte, 32)); !errors.Is(err, jwe.ErrContent) {
				t.Errorf("opens under another key: %v", err)
			}
		})
	}
}

// TestGoJoseReads what Encrypt writes.
func TestGoJoseReads(t *testing.T) {
	for _, to := range [][]crypto.PublicKey{{keys().rsa.Public()}, {keys().ec.Public()}, {keys().ec.Public(), keys().rsa.Public()}, {keys().ec384.Public(), keys().rsa4.Public()}} {
		want := bytes.Repeat([]byte{7}, 10_000)
		text, err := jwe.Encrypt(want, to...)
		if err != nil {
			t.Fatal(err)
		}
		m, err := jose.ParseEncryptedJSON(string(text), []jose.KeyAlgorithm{jose.RSA_OAEP_256, jose.ECDH_ES_A256KW}, []jose.ContentEncryption{jose.A256GCM})
		if err != nil {
			t.Fatal(err)
		}
		opened := 0
		for _, k := range []any{keys().rsa, keys().ec, keys().rsa4, keys().ec384} {
			if _, _, got, err := m.DecryptMulti(k); err == nil && bytes.Equal(got, want) {
				opened++
			}
		}
		if opened != len(to) {
			t.Errorf("go-jose opens with %d of %d keys", opened, len(to))
		}
	}
}
