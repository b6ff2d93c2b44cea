package main

import (
	"context"
	"crypto"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block/cms"
	"github.com/keyrelease/krabox/kra/block/jwe"
	"github.com/keyrelease/krabox/kra/client"
)

const (
	suffixCMS = ".cms"
	suffixJWE = ".jwe"
)

// A writer encrypts in one format, to recipients that were found.
type writer struct {
	suffix string
	text   bool // not binary
	write  func(dst io.Writer, src *progress) error
}

func writerOf(ctx context.Context, set settings, format string, a encryptArgs) (writer, error) {
	switch format {
	case "age":
		to, err := recipients(ctx, set, a.to)
		return writer{suffix, a.armor, func(dst io.Writer, src *progress) error { return seal(dst, src, a.armor, to) }}, err
	case "cms", "jwe":
	default:
		return writer{}, usagef("-format %q: want age, cms or jwe", format)
	}
	if a.armor {
		return writer{}, usagef("-a is for -format age")
	}
	to, err := targets(ctx, set, a.to)
	if err != nil {
		return writer{}, err
	}
	if format == "cms" {
		return writer{suffixCMS, false, func(dst io.Writer, src *progress) error { return sealCMS(dst, src, to) }}, nil
	}
	return writer{suffixJWE, true, func(dst io.Writer, src *progress) error { return sealJWE(dst, src, to) }}, nil
}

// A target is a key to encrypt to, and how CMS names it.
type target struct {
	pub crypto.PublicKey
	cms cms.Target
}

// targets turns words into keys: access identifiers, and PEM files of certificates.
func targets(ctx context.Context, set settings, words []string) (out []target, err error) {
	f := &finder{set: set}
	for _, w := range strings.FieldsFunc(strings.Join(words, ","), func(r rune) bool { return r == ',' }) {
		found, err := f.targets(ctx, w)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	if len(out) == 0 {
		return nil, usagef("nobody to encrypt to: give -to, such as -to legal-team")
	}
	return out, nil
}

func (f *finder) targets(ctx context.Context, word string) ([]target, error) {
	if _, ok, _ := ageRecipient(word); ok {
		return nil, usagef("-to %.*s...: an age recipient is for -format age", shown, word)
	}
	id, err := kra.ParseAccessID(word)
	if err != nil {
		if _, err := os.Stat(word); err != nil {
			return nil, usagef("-to %s: neither an access identifier (a-z, 0-9 and '-') nor the file of a certificate", word)
		}
		cert, err := readCertificate(word)
		if err != nil {
			return nil, err
		}
		to, err := cms.ToCertificate(cert)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", word, err)
		}
		return []target{{cert.PublicKey, to}}, nil
	}
	keys, err := f.keys(ctx, id)
	if err != nil {
		return nil, err
	}
	var out []target
	for _, k := range keys {
		to, err := cms.ToKey(k.Public())
		if err != nil {
			return nil, hint(fmt.Errorf("key of %s: %w", id, err), "encrypt to it with -format age")
		}
		out = append(out, target{k.Public(), to})
	}
	return out, nil
}

func sealCMS(dst io.Writer, src *progress, to []target) error {
	all := make([]cms.Target, len(to))
	for i, t := range to {
		all[i] = t.cms
	}
	w, err := cms.Encrypt(dst, cms.Unsized, all...)
	if err != nil {
		return err
	}
	if err := pump(w, src); err != nil {
		return err
	}
	return w.Close()
}

func sealJWE(dst io.Writer, src *progress, to []target) error {
	payload, err := io.ReadAll(io.LimitReader(src, jwe.MaxPayload+1))
	if err != nil {
		return err
	}
	if len(payload) > jwe.MaxPayload {
		return hint(errors.New("content has more than 1 MiB, which is what a JWE takes"), "use -format age or cms")
	}
	all := make([]crypto.PublicKey, len(to))
	for i, t := range to {
		all[i] = t.pub
	}
	text, err := jwe.Encrypt(payload, all...)
	if err != nil {
		return err
	}
	_, err = dst.Write(append(text, '\n'))
	return err
}

// pemString is what openssl cms -recip reads.
func pemString(k client.Key) (string, error) {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Certificate().Raw})
	return strings.TrimSuffix(string(text), "\n"), nil
}
