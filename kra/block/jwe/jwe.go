// Package jwe reads and writes JSON Web Encryption, RFC 7516, as a container of small encrypted content: its head for the agent, the content by go-jose.
package jwe

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/keyrelease/krabox/kra/block"
)

// Limits. A parser refuses what is larger before it allocates for it.
const (
	MaxHead       = block.MaxHeader // bytes of a head, in its one form
	MaxPayload    = 1 << 20         // bytes of content; JWE is in memory as a whole
	MaxMessage    = 2 << 20         // bytes of a message
	MaxRecipients = 32              // as go-jose
	MaxDepth      = 8               // objects and arrays in each other
)

var (
	// ErrNotJWE is what Read and ParseHead return for something else than JWE.
	ErrNotJWE = errors.New("not a JWE")
	// ErrContent is returned where content does not authenticate.
	ErrContent = errors.New("content does not decrypt under the key: the message may be corrupted or tampered with")

	errForm     = errors.New("not in the one form of a head")
	errTooLarge = errors.New("too many bytes for a JWE")
	errBase64   = errors.New("not unpadded base64url")
	errTooMany  = errors.New("too many recipients")
)

// Begins reports whether a file that starts with these bytes, of which 3 suffice, may be a JWE: JSON, or base64url of it.
func Begins(start []byte) bool {
	start = bytes.TrimLeft(start, " \t\r\n")
	return bytes.HasPrefix(start, []byte("{")) || bytes.HasPrefix(start, []byte("eyJ"))
}

// A Message is a JWE, parsed and unchangeable. Only Read makes one; the zero Message has no content.
type Message struct {
	text    string // as it was read, without white space around it
	compact bool
	head    Head
	size    int // of the ciphertext, bytes
}

// Read reads a whole message: compact, flattened JSON or general JSON.
func Read(r io.Reader) (Message, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxMessage+1))
	if err != nil {
		return Message{}, err
	}
	if len(b) > MaxMessage {
		return Message{}, fmt.Errorf("read JWE: %w: it holds small content only", errTooLarge)
	}
	b = bytes.TrimSpace(b)
	m := Message{text: string(b), compact: !bytes.HasPrefix(b, []byte("{"))}
	members, err := m.members()
	if err == nil {
		m.size, err = sealedSize(members)
	}
	if err == nil {
		m.head, err = newHead(members)
	}
	if err != nil {
		return Message{}, fmt.Errorf("read JWE: %w", err)
	}
	return m, nil
}

// members returns the members of the JSON form. The compact one is read into it.
func (m Message) members() (object, error) {
	if !m.compact {
		o, err := parseObject([]byte(m.text))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotJWE, err)
		}
		return o, nil
	}
	parts := strings.Split(m.text, ".")
	if len(parts) != 5 {
		return nil, ErrNotJWE
	}
	return object{"protected": parts[0], "encrypted_key": parts[1], "iv": parts[2], "ciphertext": parts[3], "tag": parts[4]}, nil
}

// sealedSize checks the parts that no head has, and returns the ciphertext's size.
func sealedSize(o object) (size int, err error) {
	for _, name := range []string{"iv", "tag", "ciphertext"} {
		text, ok, err := o.text(name)
		if err != nil || !ok {
			return 0, fmt.Errorf("%w: it has no %s", ErrNotJWE, name)
		}
		b, err := decode(text)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		size = len(b)
	}
	return size, nil
}

// Head returns what an agent is sent of the message.
func (m Message) Head() Head { return m.head }

var strict = base64.RawURLEncoding.Strict()

// decode refuses the line breaks that encoding/base64 skips.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errBase64
	}
	b, err := strict.DecodeString(s)
	if err != nil {
		return nil, errBase64
	}
	return b, nil
}

// Ciphertext returns how many bytes of encrypted content the message holds.
func (m Message) Ciphertext() int64 { return int64(m.size) }
