package enrol

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
)

const (
	codeLetters  = 20 // of 5 bits: nobody finds the code from a proof that he has seen
	codeGroup    = 5
	codeAlphabet = "abcdefghijkmnpqrstuvwxyz23456789" // 32 letters that are not mistaken for one another
)

// A Code is the one-time code that a factory box shows at its console: 100 bits.
type Code struct{ letters string }

// NewCode draws a code.
func NewCode() Code {
	b := make([]byte, codeLetters)
	rand.Read(b)
	for i := range b {
		b[i] = codeAlphabet[b[i]%32]
	}
	return Code{string(b)}
}

// ParseCode reads a code as somebody has typed it: case, spaces and hyphens do not matter.
func ParseCode(text string) (Code, error) {
	s := strings.NewReplacer("-", "", " ", "").Replace(strings.ToLower(strings.TrimSpace(text)))
	if len(s) != codeLetters || strings.Trim(s, codeAlphabet) != "" {
		return Code{}, fmt.Errorf("read code: want the %d letters and digits that the box shows", codeLetters)
	}
	return Code{s}, nil
}

// Text is the code for the console, in groups. It is a secret for as long as it is good.
func (c Code) Text() string {
	var groups []string
	for i := 0; i < len(c.letters); i += codeGroup {
		groups = append(groups, c.letters[i:i+codeGroup])
	}
	return strings.Join(groups, "-")
}

// String keeps the code out of logs.
func (Code) String() string { return "code (not shown)" }

// GoString likewise.
func (c Code) GoString() string { return c.String() }

// Who proves, and what: the first is over nothing more than the channel.
const (
	exporterLabel = "EXPORTER-kra/enrol/v1"
	byDesk        = "kra/enrol/desk/v1"
	byBox         = "kra/enrol/box/v1"    // over the request
	byAnswer      = "kra/enrol/answer/v1" // over the bundle
)

// channel is what both ends of one TLS connection know, and those of two connections do not (RFC 8446, 7.5; RFC 5705).
func channel(s *tls.ConnectionState) ([]byte, error) {
	if s == nil || s.Version != tls.VersionTLS13 {
		return nil, errors.New("not a TLS 1.3 channel")
	}
	return s.ExportKeyingMaterial(exporterLabel, nil, sha256.Size)
}

// prove is HMAC-SHA256 with the code as key over context, 0, the channel (32 bytes) and the SHA-256 of what goes with it.
func (c Code) prove(context string, channel, with []byte) []byte {
	sum := sha256.Sum256(with)
	m := hmac.New(sha256.New, []byte(c.letters))
	m.Write([]byte(context + "\x00"))
	m.Write(channel)
	m.Write(sum[:])
	return m.Sum(nil)
}

func (c Code) proves(proof []byte, context string, channel, with []byte) bool {
	return len(c.letters) == codeLetters && hmac.Equal(proof, c.prove(context, channel, with))
}
