package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/keyrelease/krabox/kra/label"
)

var operatorCommand = command{
	name:  "operator",
	args:  "answer -key FILE [FILE]",
	brief: "answer a box's challenge: that its operator is present",
	help: `
A box with a label that wants an operator asks for his token by a challenge (operator
challenge LABEL at its console). This answers it with the key of the token, a P-256 key
in a file that only you can read; the answer goes into: operator answer. Without FILE
the challenge is read from standard input:

  kra operator answer -key token.key challenge.txt

Compare domain, box and label, which are shown, with what you mean to attend.
`,
	run: runOperator,
}

// maxText bounds a challenge, a key, and certificates, with the text around them.
const maxText = 64 << 10

func runOperator(t *tool, _ context.Context, fs *flag.FlagSet, args []string) error {
	file := fs.String("key", "", "private key of the operator's token, in PEM")
	operands, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(operands) < 1 || len(operands) > 2 || operands[0] != "answer" || *file == "" {
		return usagef("say with which key: kra operator answer -key FILE [FILE]")
	}
	key, err := tokenKey(*file)
	if err != nil {
		return err
	}
	in := io.Reader(t.stdin)
	if len(operands) == 2 {
		f, err := os.Open(operands[1])
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	text, err := readLimited(in)
	if err != nil {
		return err
	}
	c, err := label.ParseOperatorChallenge(text)
	if err != nil {
		return err
	}
	answer, err := c.Sign(key)
	if err != nil {
		return err
	}
	fmt.Fprintf(t.stderr, "domain %s, box %s: present for label %s, %d seconds from the challenge on\n", c.Domain, c.Box, c.Label, c.Seconds)
	_, err = t.stdout.Write(answer.PEM())
	return err
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := readLimited(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, nil
}

// readLimited reads at most maxText bytes; of a longer text, which may be a key, nothing stays.
func readLimited(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxText+1))
	if err == nil && len(text) > maxText {
		clear(text)
		return nil, fmt.Errorf("more than %d bytes", maxText)
	}
	return text, err
}

// tokenKey reads a P-256 key, PKCS #8 or SEC 1.
func tokenKey(path string) (crypto.Signer, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		var k any
		switch b.Type {
		case "PRIVATE KEY":
			k, err = x509.ParsePKCS8PrivateKey(b.Bytes)
		case "EC PRIVATE KEY":
			k, err = x509.ParseECPrivateKey(b.Bytes)
		default:
			continue
		}
		if s, ok := k.(*ecdsa.PrivateKey); ok && err == nil && s.Curve == elliptic.P256() {
			return s, nil
		}
		return nil, fmt.Errorf("%s: not a P-256 key", path)
	}
	return nil, fmt.Errorf("%s holds no private key in PEM", path)
}
