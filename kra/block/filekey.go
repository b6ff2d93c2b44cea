package block

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// ErrSpent is returned by Use when the key was used before, or never set.
var ErrSpent = errors.New("file key is spent")

// A FileKey is a message key in the clear: the file key of an age file, or the content key of another format. It lives in a closure, where neither fmt
// nor reflection sees it. The zero FileKey is spent.
type FileKey struct{ take func() []byte }

// NewFileKey takes ownership of b: age's file keys are FileKeySize bytes long, content keys of other formats 16, 24, 32, 48 or
// 64, as their cipher's.
func NewFileKey(b []byte) (FileKey, error) {
	if !keySize(len(b)) {
		return FileKey{}, errKeySize
	}
	var once sync.Mutex
	return FileKey{func() []byte {
		once.Lock()
		defer once.Unlock()
		k := b
		b = nil
		return k
	}}, nil
}

// Use calls f with the key, once, and clears it afterwards.
func (k FileKey) Use(f func(key []byte) error) error {
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

// Format implements fmt.Formatter: it writes no part of the key.
func (FileKey) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "FileKey") }

// LogValue implements slog.LogValuer: it shows no part of the key.
func (FileKey) LogValue() slog.Value { return slog.StringValue("FileKey") }
