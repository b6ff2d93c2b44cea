package main

import (
	"crypto"
	"crypto/tls"
	"encoding/base64"
	"os"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/rogpeppe/go-internal/testscript"
)

// joseCommand is a stock JWE client: jose encrypt CERTIFICATE IN OUT [ENC] | jose decrypt PAIR IN OUT.
func joseCommand(ts *testscript.TestScript, neg bool, args []string) {
	in := []byte(ts.ReadFile(args[2]))
	var out []byte
	switch args[0] {
	case "encrypt":
		cert, err := readCertificate(ts.MkAbs(args[1]))
		ts.Check(err)
		print, err := (&jose.JSONWebKey{Key: cert.PublicKey}).Thumbprint(crypto.SHA256)
		ts.Check(err)
		to := jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: cert.PublicKey, KeyID: base64.RawURLEncoding.EncodeToString(print)}
		enc := jose.A256GCM
		if len(args) > 4 {
			enc = jose.ContentEncryption(args[4])
		}
		e, err := jose.NewEncrypter(enc, to, nil)
		if err != nil {
			to.Algorithm = jose.ECDH_ES_A256KW
			e, err = jose.NewEncrypter(enc, to, nil)
		}
		ts.Check(err)
		m, err := e.Encrypt(in)
		ts.Check(err)
		text, err := m.CompactSerialize()
		ts.Check(err)
		out = []byte(text)
	case "decrypt":
		pair, err := tls.LoadX509KeyPair(ts.MkAbs(args[1]), ts.MkAbs(args[1]))
		ts.Check(err)
		m, err := jose.ParseEncryptedJSON(string(in), []jose.KeyAlgorithm{jose.RSA_OAEP_256, jose.ECDH_ES_A256KW}, []jose.ContentEncryption{jose.A256GCM})
		ts.Check(err)
		_, _, out, err = m.DecryptMulti(pair.PrivateKey)
		ts.Check(err)
	default:
		ts.Fatalf("unknown: jose %s", args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[3]), out, 0o644))
}
