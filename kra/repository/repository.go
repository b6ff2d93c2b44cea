// Package repository is the key repository: signed entries that say which key belongs to an access identifier, which certificate to a decryptor, and what attribute certificates there are.
//
//	entries -> Publish -> files -> any web server or folder -> Parse (signature, form, limits) -> Image -> ValidAt -> look-ups
//
// FORMAT.md describes the files. Whoever serves them is believed nothing: each entry is signed by the repository's key, and
// what it holds is verified again by who uses it, a certificate up to an anchor, an attribute certificate to its authority.
package repository

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// Limits of a repository.
const (
	MaxImage        = 16 << 20 // bytes of the file of all entries
	MaxEntries      = 20_000
	MaxLine         = 256 << 10 // bytes of one entry
	MaxAccess       = 1 << 20   // bytes of the file of one access identifier
	maxCertificates = 8         // of one decryptor: leaf first
)

// AllFile is the name of the file of all entries.
const AllFile = "all.jsonl"

// AccessFile returns the name of the file of one access identifier's entries.
func AccessFile(id kra.AccessID) string { return "access/" + string(id) + ".jsonl" }

// Why entries do not count now, where a caller branches.
var (
	ErrExpired     = errors.New("entries of the repository are expired")
	ErrNotYetValid = errors.New("entries of the repository are not valid yet")
)

// A span is when entries are valid, in whole seconds of UTC, the last one included.
type span struct {
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
}

func newSpan(from, until time.Time) span {
	return span{from.UTC().Truncate(time.Second), until.UTC().Truncate(time.Second)}
}

func (s span) check() error {
	for _, t := range []time.Time{s.From, s.Until} {
		if t.Nanosecond() != 0 || t.Location() != time.UTC || t.Year() < 1970 || t.Year() > 9999 {
			return errors.New("time is not in whole seconds of UTC")
		}
	}
	if s.Until.Before(s.From) {
		return errors.New("ends before it begins")
	}
	return nil
}

func (s span) validAt(now time.Time) error {
	now = now.Truncate(time.Second)
	switch {
	case now.After(s.Until):
		return fmt.Errorf("%w: since %s", ErrExpired, s.Until.Format(time.DateTime))
	case now.Before(s.From):
		return fmt.Errorf("%w: until %s", ErrNotYetValid, s.From.Format(time.DateTime))
	}
	return nil
}

// lines splits a file into lines, each of which ends.
func lines(b []byte, limit int) ([]string, error) {
	text, ended := strings.CutSuffix(string(b), "\n")
	if !ended {
		return nil, errors.New("last line has no end")
	}
	all := strings.SplitN(text, "\n", limit+1)
	if len(all) > limit {
		return nil, fmt.Errorf("more than %d lines", limit)
	}
	return all, nil
}
