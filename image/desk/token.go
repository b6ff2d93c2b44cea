package desk

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// An HSM is a PKCS#11 token that keeps root and label key.
type HSM struct {
	Module string `json:"module"` // path of the PKCS#11 library
	Label  string `json:"token"`  // of the token
	ID     string `json:"id"`     // CKA_ID of the key, hexadecimal
	Public string `json:"public"` // its point, uncompressed, hexadecimal
}

const (
	helperWithin = 2 * time.Minute // somebody may have to press a button of the token
	maxHelper    = 4 << 10         // bytes of an answer
)

// newTokenKey makes a key in the token and writes down where it is.
func (m keyMaker) newTokenKey(name string) (crypto.Signer, error) {
	t := *m.Token
	out, err := m.Hands.ask(t, nil, "make", "-name", "kra "+m.name+" "+name)
	if err != nil {
		return nil, err
	}
	id, point, ok := strings.Cut(out, " ")
	if !ok {
		return nil, errors.New("make key in token: hsmd gave no key")
	}
	t.ID, t.Public = id, point
	k, err := t.signer(m.Hands)
	if err != nil {
		return nil, err
	}
	doc, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return nil, err
	}
	return k, writeNew(filepath.Join(m.dir, name+tokenEnding), append(doc, '\n'), 0o644)
}

func (d *Desk) openToken(name string) (crypto.Signer, error) {
	path := filepath.Join(d.dir, name+tokenEnding)
	doc, err := readFile(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	var t HSM
	if err := json.Unmarshal(doc, &t); err != nil || t.Module == "" || t.Label == "" || t.ID == "" {
		return nil, fmt.Errorf("%s does not say module, token and id of a key", path)
	}
	return t.signer(d.hands)
}

// An inToken key signs in a token. Each signature is verified here: hsmd and module are other people's word.
type inToken struct {
	HSM
	hands  Hands
	public *ecdsa.PublicKey
}

func (t HSM) signer(h Hands) (crypto.Signer, error) {
	point, err := hex.DecodeString(t.Public)
	if err != nil {
		return nil, errors.New("public half of the token's key: not hexadecimal")
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, fmt.Errorf("public half of the token's key: %w", err)
	}
	return inToken{t, h, pub}, nil
}

// Public is the public half.
func (k inToken) Public() crypto.PublicKey { return k.public }

// Sign signs a SHA-256 digest.
func (k inToken) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if o.HashFunc() != crypto.SHA256 || len(digest) != 32 {
		return nil, errors.New("sign in token: want a SHA-256 digest")
	}
	out, err := k.hands.ask(k.HSM, digest, "sign", "-id", k.ID)
	if err != nil {
		return nil, err
	}
	sig, err := hex.DecodeString(out)
	if err != nil || !ecdsa.VerifyASN1(k.public, digest, sig) {
		return nil, fmt.Errorf("sign in token %s: what came back is no signature by the domain's key", k.Label)
	}
	return sig, nil
}

// ask has hsmd do one thing with the token. The PIN goes through a pipe, in no argument and no environment.
func (h Hands) ask(t HSM, digest []byte, verb string, args ...string) (string, error) {
	if h.PIN == nil {
		return "", fmt.Errorf("use token %s: its PIN is not to be had: say -pin-file, or work on a terminal", t.Label)
	}
	pin, err := h.PIN("token " + t.Label)
	if err != nil {
		return "", err
	}
	defer clear(pin)
	in := slices.Concat(pin, []byte("\n"), []byte(hex.EncodeToString(digest)), []byte("\n"))
	defer clear(in)
	ctx, cancel := context.WithTimeout(context.Background(), helperWithin)
	defer cancel()
	c := exec.CommandContext(ctx, h.helper(), append([]string{"token", verb, "-module", t.Module, "-token", t.Label}, args...)...)
	var out, talk bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(in), &limited{b: &out}, &limited{b: &talk}
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("use token %s: %w: %s", t.Label, err, strings.TrimSpace(strings.Map(printable, talk.String())))
	}
	return strings.TrimSpace(out.String()), nil
}

// helper is hsmd: as told, or beside this program, or on the path.
func (h Hands) helper() string {
	if h.Helper != "" {
		return h.Helper
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "hsmd")
		if _, err := os.Stat(beside); err == nil {
			return beside
		}
	}
	return "hsmd"
}

// limited keeps the first maxHelper bytes and drops the rest.
type limited struct{ b *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := maxHelper - l.b.Len(); room > 0 {
		l.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
