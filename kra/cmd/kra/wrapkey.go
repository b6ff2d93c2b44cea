package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/wrapped"
)

var wrapKeyCommand = command{
	name:  "wrap-key",
	args:  "-to FILE [KEY]",
	brief: "wrap a private key, for import into one box and nowhere else",
	help: `
An agent can be given a private key that exists. The console of the box prints the
certificate of what such a key is wrapped to (key import-key), with those above it: the
FILE. It is believed by the domain root, or by its number as the console shows it
(-number). With -board or -permissions, the box has to be one that the domain permits
now. KEY is a private key in PEM that is not encrypted (openssl pkcs8 decrypts): P-256,
P-384, RSA-2048, RSA-3072 or RSA-4096; without KEY it is read from standard input.

  kra wrap-key -to box1.pem mail.key >mail.wrapped
  openssl pkcs8 -in secret.key | kra wrap-key -to box1.pem >mail.wrapped

What is written opens in the HSM of that box only. Paste it there: key import for ACCESS.
The key itself stays where it is: whoever has it there goes on opening what is encrypted
to it.
`,
	run: runWrapKey,
}

func runWrapKey(t *tool, ctx context.Context, fs *flag.FlagSet, args []string) error {
	file := fs.String("to", "", "PEM `FILE` of the box's import key, as its console prints it")
	number := fs.String("number", "", "the import key's `NUMBER`, compared with the console's, instead of the domain root")
	set := t.settings(fs, setRoot, setBoard, setPermissions)
	operands, err := parse(fs, args)
	if err != nil {
		return err
	}
	if *file == "" || len(operands) > 1 {
		return usagef("say for which box: kra wrap-key -to FILE [KEY]")
	}
	to, err := importKeyOf(ctx, set, *file, *number)
	if err != nil {
		return err
	}
	pkcs8, err := t.privateKey(operands)
	if err != nil {
		return err
	}
	defer clear(pkcs8)
	k, err := wrapped.Seal(to.Public, pkcs8)
	if err != nil {
		return err
	}
	whose := "somebody's word: import key " + to.ID.String()
	if to.Box != "" {
		whose = fmt.Sprintf("box %s of domain %s, import key %s", to.Box, to.Domain, to.ID)
	}
	fmt.Fprintf(t.stderr, "wrapped for %s\n", whose)
	_, err = t.stdout.Write(k.PEM())
	return err
}

// importKeyOf reads to what a key is wrapped. One that neither root nor number vouches for is anybody's.
func importKeyOf(ctx context.Context, set settings, file, number string) (client.ImportKey, error) {
	text, err := readFile(file)
	if err != nil {
		return client.ImportKey{}, err
	}
	if number == "" {
		trust, err := set.trust()
		if err != nil {
			return client.ImportKey{}, err
		}
		permitted, _, err := set.permitted(ctx)
		if err != nil {
			return client.ImportKey{}, err
		}
		return trust.ImportKey(text, permitted, time.Now())
	}
	want, err := block.ParseKeyID(number)
	if err != nil {
		return client.ImportKey{}, usagef("-number: %v", err)
	}
	k, err := client.UnverifiedImportKey(text)
	if err == nil && k.ID != want {
		err = fmt.Errorf("%s: that is import key %s, not %s: ask who gave it to you", file, k.ID, want)
	}
	return k, err
}

// privateKey reads the one private key that is to be wrapped, as PKCS#8. No error says anything of it.
func (t *tool) privateKey(operands []string) ([]byte, error) {
	name, text, err := "standard input", []byte(nil), error(nil)
	if len(operands) == 1 && operands[0] != stdio {
		name = operands[0]
		text, err = readFile(name)
	} else {
		text, err = readLimited(t.stdin)
	}
	if err != nil {
		return nil, err
	}
	defer clear(text)
	der, err := keyToWrap(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return der, nil
}

var errNoKeyToWrap = errors.New("not a private key that a box takes in: P-256, P-384, RSA-2048, -3072 or -4096")

func keyToWrap(text []byte) ([]byte, error) {
	var found any
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		var k any
		var err error
		switch b.Type {
		case "PRIVATE KEY":
			k, err = x509.ParsePKCS8PrivateKey(b.Bytes)
		case "EC PRIVATE KEY":
			k, err = x509.ParseECPrivateKey(b.Bytes)
		case "RSA PRIVATE KEY":
			k, err = x509.ParsePKCS1PrivateKey(b.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("the key is encrypted: decrypt it into a pipe, with openssl pkcs8")
		default:
			continue // certificates, parameters
		}
		clear(b.Bytes)
		if err != nil || strings.Contains(b.Headers["Proc-Type"], "ENCRYPTED") {
			return nil, errNoKeyToWrap
		}
		if found != nil {
			return nil, errors.New("more than one private key")
		}
		found = k
	}
	switch k := found.(type) {
	case nil:
		return nil, errors.New("no private key in PEM")
	case *ecdsa.PrivateKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return nil, errNoKeyToWrap
		}
	case *rsa.PrivateKey:
		if n := k.N.BitLen(); n != 2048 && n != 3072 && n != 4096 || k.E != 65537 || len(k.Primes) != 2 {
			return nil, errNoKeyToWrap
		}
	default:
		return nil, errNoKeyToWrap
	}
	return x509.MarshalPKCS8PrivateKey(found)
}
