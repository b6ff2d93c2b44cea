package external

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// What crosses the wire, as PROTOCOL.md has it.
const (
	protocol    = "kra external v1"
	idContext   = "kra/external/v1"
	pathReserve = "/reserve"
	pathVerify  = "/verify"
	pathCapture = "/capture"
	pathCancel  = "/cancel"

	keyHeader = "Idempotency-Key"
	yes       = "yes"
	no        = "no"
)

// Limits of an answer, in bytes.
const (
	maxAnswer = 4 << 10
	maxReason = 200
	maxHead   = 16 << 10
)

// A question is the body of a reserve or verify.
type question struct {
	Protocol  string `json:"protocol"`
	Box       string `json:"box"`                 // DOMAIN/BOX
	Nonce     string `json:"nonce"`               // fresh for each question
	Decryptor string `json:"decryptor,omitempty"` // not with the subject's own money
	Source    string `json:"source,omitempty"`
	Header    string `json:"header"` // SHA-256 of the block's header
	Charge    string `json:"charge"`
	Value     []byte `json:"value,omitempty"`
}

// A settlement is the body of a capture or cancel.
type settlement struct {
	Protocol string `json:"protocol"`
	Box      string `json:"box"`
	ID       string `json:"id"` // of the question
}

func newNonce() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: it ends the program instead
	return hex.EncodeToString(b[:])
}

// idOf is the idempotency key of a question: a hash of all of it.
func idOf(body []byte) string {
	h := sha256.New()
	h.Write([]byte(idContext))
	h.Write([]byte{0})
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// An answer is what a service says.
type answer struct{ ID, Answer, Reason string }

// parseAnswer reads one JSON object of the three texts, each at most once, in any order.
func parseAnswer(b []byte) (a answer, err error) {
	if len(b) > maxAnswer {
		return answer{}, fmt.Errorf("answer longer than %d bytes", maxAnswer)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return answer{}, errors.New("answer is no JSON object")
	}
	fields := map[string]*string{"id": &a.ID, "answer": &a.Answer, "reason": &a.Reason}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return answer{}, errors.New("answer is malformed")
		}
		value, err := d.Token()
		text, isText := value.(string)
		word, _ := name.(string)
		to := fields[word]
		if err != nil || !isText || to == nil {
			return answer{}, errors.New("answer has an unknown, repeated or malformed field")
		}
		*to = text
		delete(fields, word)
	}
	if _, err := d.Token(); err != nil {
		return answer{}, errors.New("answer is malformed")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return answer{}, errors.New("something follows the answer")
	}
	if a.Answer != yes && a.Answer != no {
		return answer{}, errors.New("answer is neither yes nor no")
	}
	if len(a.Reason) > maxReason || strings.ContainsFunc(a.Reason, func(r rune) bool { return r < ' ' }) {
		return answer{}, fmt.Errorf("reason is no line of at most %d bytes", maxReason)
	}
	return a, nil
}
