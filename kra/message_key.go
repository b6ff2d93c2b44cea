package kra

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// MessageKeySize is the length in bytes of the key that an encryption block is encrypted under.
const MessageKeySize = 16

// ErrSpent is returned by Use when the key was used before, or never set.
var ErrSpent = errors.New("message key spent")

// A MessageKey is a message key in the clear. It lives in a closure: fmt, reflection and == cannot see into a func, even
// through an unexported field. It serves one goroutine, once.
type MessageKey struct{ take func() []byte }

// NewMessageKey takes ownership of b, which must be MessageKeySize bytes long.
func NewMessageKey(b []byte) (MessageKey, error) {
	if len(b) != MessageKeySize {
		clear(b)
		return MessageKey{}, fmt.Errorf("take message key: %d bytes, want %d", len(b), MessageKeySize)
	}
	return MessageKey{func() []byte { k := b; b = nil; return k }}, nil
}

// Use calls f with the key, once, and zeroes it afterwards. f must not keep the slice.
func (k MessageKey) Use(f func(key []byte) error) error {
	if k.take == nil {
		return ErrSpent
	}
	b := k.take()
	if b == nil {
		return ErrSpent
	}
	defer clear(b)
	return f(b)
}

// Drop zeroes the key unseen.
func (k MessageKey) Drop() {
	if k.take != nil {
		clear(k.take())
	}
}

// Format prints the word MessageKey whatever the verb.
func (MessageKey) Format(s fmt.State, _ rune) { io.WriteString(s, "MessageKey") }

// LogValue keeps a key out of the operators' log.
func (MessageKey) LogValue() slog.Value { return slog.StringValue("MessageKey") }
