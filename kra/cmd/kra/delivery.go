package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/client"
)

var (
	setCertificate    = setting{"certificate", "KRA_CERTIFICATE", "PEM `FILE` of your certificate for encryption, which takes no part in the connection"}
	setCertificateKey = setting{"certificate-key", "KRA_CERTIFICATE_KEY", "PEM `FILE` of its private key, if not in the same file"}
)

const pemAttributes = "ATTRIBUTE CERTIFICATE" // RFC 7468 section 12

// deliveryArgs are the flags that say how keys travel and what goes along.
type deliveryArgs struct {
	to         *string
	decryptor  *string
	attributes many
	tokens     many
	values     many
}

func deliveryFlags(fs *flag.FlagSet) *deliveryArgs {
	a := &deliveryArgs{}
	a.to = fs.String("deliver", "", "`HOW` the key travels: channel, certificate or key; certificate, if one for encryption is given")
	a.decryptor = fs.String("decryptor", "", "your `IDENTIFIER`, ALIAS:NAME, if the agent knows your certificate for encryption")
	fs.Var(&a.attributes, "attributes", "present the attribute certificates in `FILE`, PEM or DER; may be given several times")
	fs.Var(&a.tokens, "token", "present the JSON web token in `FILE`; may be given several times")
	fs.Var(&a.values, "value", "give the agent a value for an external service, `SERVICE=FILE`, or SERVICE to be asked for it on the terminal: it gets there only if the agent's rules ask that service; may be given several times")
	return a
}

// delivery reads the files that the flags name.
func (s settings) delivery(a *deliveryArgs) (d client.Delivery, err error) {
	d.Decryptor = *a.decryptor
	if d.Pair, err = s.pair(d.Decryptor); err != nil {
		return d, err
	}
	word := *a.to
	if word == "" && d.Pair != nil {
		word = kra.ToCertificate.String()
	}
	if word == "" {
		word = kra.ToChannel.String()
	}
	if d.To, err = kra.ParseTo(word); err != nil {
		return d, usagef("-deliver %q: want channel, certificate or key", word)
	}
	for _, path := range a.attributes {
		der, err := readAttributes(path)
		if err != nil {
			return d, err
		}
		d.Attributes = append(d.Attributes, der...)
	}
	for _, path := range a.tokens {
		token, err := os.ReadFile(path)
		if err != nil {
			return d, err
		}
		d.Tokens = append(d.Tokens, string(bytes.TrimSpace(token)))
	}
	for _, v := range a.values {
		token, err := s.t.readValue(v)
		if err != nil {
			return d, err
		}
		d.Tokens = append(d.Tokens, token)
	}
	if d.To == kra.ToChannel {
		return d, s.forChannel(d)
	}
	if d.Pair == nil && s.get(setCert) == "" {
		_, err := s.need(setCertificate, "the key is to be sealed to a certificate")
		return d, err
	}
	return d, nil
}

// readValue reads SERVICE=FILE, or asks for the value of SERVICE. Naming the service is the permission to give the value
// to it.
func (t *tool) readValue(arg string) (string, error) {
	service, path, ok := strings.Cut(arg, "=")
	read := func() ([]byte, error) { return os.ReadFile(path) }
	if !ok {
		read = func() ([]byte, error) { return t.askValue(service) }
	}
	value, err := read()
	if err != nil {
		return "", err
	}
	defer clear(value)
	token, err := kra.ValueToken(service, bytes.TrimSpace(value))
	if err != nil {
		return "", usagef("-value %s: %v", service, err)
	}
	return token, nil
}

// forChannel refuses what could only mean another delivery.
func (s settings) forChannel(d client.Delivery) error {
	if d.Pair != nil || d.Decryptor != "" {
		return usagef("-deliver channel needs neither -%s nor -decryptor: who you are, -%s says", setCertificate.flag, setCert.flag)
	}
	return nil
}

// pair reads the certificate for encryption and its key; of a decryptor whose certificate the agent knows, only the key.
func (s settings) pair(decryptor string) (*tls.Certificate, error) {
	path, key := s.get(setCertificate), s.get(setCertificateKey)
	switch {
	case path == "" && key == "" && decryptor == "":
		return nil, nil
	case path == "" && key == "":
		return nil, usagef("-decryptor: the private key is needed: give -%s", setCertificateKey.flag)
	case path == "" && decryptor == "":
		return nil, usagef("-%s: give -%s or -decryptor too", setCertificateKey.flag, setCertificate.flag)
	case path == "":
		return privateOnly(key)
	case key == "":
		key = path
	}
	c, err := tls.LoadX509KeyPair(path, key)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s: %w", path, err)
	}
	return &c, nil
}

func readAttributes(path string) ([][]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN")) {
		return [][]byte{b}, nil
	}
	var all [][]byte
	for rest := bytes.TrimSpace(b); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != pemAttributes {
			return nil, fmt.Errorf("read attribute certificates %s: not PEM of type %s", path, pemAttributes)
		}
		all = append(all, block.Bytes)
	}
	return all, nil
}

// privateOnly reads a private key without a certificate.
func privateOnly(path string) (*tls.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fmt.Errorf("read private key %s: no PKCS #8 private key in PEM", path)
		}
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			return &tls.Certificate{PrivateKey: key}, nil
		}
	}
}
