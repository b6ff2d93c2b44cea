package label

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"
)

const journalContext = "kra/journal/v1"

// Limits of a journal.
const (
	MaxEntry   = 16 << 10 // bytes of one line
	MaxEntries = 1 << 20
	MaxFact    = 4 * MaxDescription // bytes of one fact
	maxFacts   = 32
)

// An Entry is one act of a domain, in the order in which it acted.
type Entry struct {
	Sequence uint64            `json:"sequence"` // 1 for the first
	Previous Digest            `json:"previous"` // of the line before; zero for the first
	Time     time.Time         `json:"time"`     // UTC, whole seconds; the desk's clock
	Act      string            `json:"act"`      // what was done
	Subject  string            `json:"subject"`  // to what
	Facts    map[string]string `json:"facts"`    // what else is worth knowing; never a secret
}

type signedEntry struct {
	Entry     Entry  `json:"entry"`
	Signature []byte `json:"signature"`
}

func (e Entry) signed() [32]byte {
	return sha256.Sum256(append([]byte(journalContext+"\x00"), encode(e)...))
}

func (e Entry) check() error {
	if e.Sequence == 0 || e.Time.Location() != time.UTC || e.Time.Nanosecond() != 0 {
		return errors.New("sequence is zero, or time not in whole seconds of UTC")
	}
	if !namePattern.MatchString(e.Act) || !printable(e.Subject, MaxDescription) {
		return errors.New("act or subject is not a name")
	}
	if e.Facts == nil || len(e.Facts) > maxFacts {
		return fmt.Errorf("facts are null or more than %d", maxFacts)
	}
	for k, v := range e.Facts {
		if !namePattern.MatchString(k) || !printable(v, MaxFact) {
			return fmt.Errorf("fact %.40q is not printable", k)
		}
	}
	return nil
}

// Sign gives the line of the entry, signed by K_label, with its line end.
func (e Entry) Sign(key crypto.Signer) ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("sign journal: %w", err)
	}
	sig, err := signDigest(key, e.signed())
	if err != nil {
		return nil, fmt.Errorf("sign journal: %w", err)
	}
	line := append(encode(signedEntry{e, sig}), '\n')
	if len(line) > MaxEntry {
		return nil, fmt.Errorf("sign journal: entry of %d bytes, at most %d", len(line), MaxEntry)
	}
	return line, nil
}

// ReadJournal reads a journal and verifies every line: signature, number and link to the line before. It gives the entries
// and the digest that the next one has to name. A journal whose end was cut off verifies: who must know keeps a digest of it.
func ReadJournal(from io.Reader, key Key) ([]Entry, Digest, error) {
	var all []Entry
	var last Digest
	in := bufio.NewScanner(from)
	in.Buffer(make([]byte, 0, 4096), MaxEntry)
	in.Split(wholeLines)
	for in.Scan() {
		e, err := readEntry(in.Bytes(), key)
		if err != nil {
			return nil, Digest{}, fmt.Errorf("read journal, entry %d: %w", len(all)+1, err)
		}
		if e.Sequence != uint64(len(all)+1) || e.Previous != last || len(all) == MaxEntries {
			return nil, Digest{}, fmt.Errorf("read journal, entry %d: it does not follow the one before", len(all)+1)
		}
		last = sha256.Sum256(append([]byte(journalContext+"\x00"), in.Bytes()...))
		all = append(all, e)
	}
	if err := in.Err(); err != nil {
		return nil, Digest{}, fmt.Errorf("read journal, entry %d: %w", len(all)+1, err)
	}
	return all, last, nil
}

func readEntry(line []byte, key Key) (Entry, error) {
	s, err := parseEntry(line)
	if err != nil {
		return Entry{}, err
	}
	if !key.Verify(s.Entry.signed(), s.Signature) {
		return Entry{}, errors.New("not signed by the domain's label key")
	}
	return s.Entry, nil
}

func parseEntry(line []byte) (signedEntry, error) {
	var s signedEntry
	err := decode(line, &s, func() error { return s.Entry.check() })
	return s, err
}

// wholeLines splits at line ends; bytes after the last one are an error, not an entry.
func wholeLines(data []byte, end bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if end && len(data) > 0 {
		return 0, nil, errors.New("the last line is cut off")
	}
	return 0, nil, nil
}
