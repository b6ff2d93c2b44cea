package receipt

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Limits of a record, in bytes.
const (
	MaxPublic  = 32 << 10
	MaxPrivate = 128 << 10
	maxWord    = 255 // an access identifier or another name
)

// Context strings of the hashes of a record.
const (
	recordContext  = "kra/record/v1"
	privateContext = "kra/private/v1"
)

// A Kind says what a record is about. The zero Kind is refused.
type Kind uint8

// The kinds of records.
const (
	Release     Kind = iota + 1 // a key left the box
	Refusal                     // a request was refused; with an item if the HSM had been asked
	Command                     // an administrator's command and its outcome
	Login                       // a log-in, good or bad
	Boot                        // the agent started
	HSMInstance                 // hsmd started anew
	HSMOrphan                   // an unwrap whose answer never left, recorded afterwards
	Time                        // the clock was set or changed its source
	Enrol                       // enrolment or a new approval
	ReceiptKey                  // a new receipt key, signed by the one before it
	Book                        // the rules changed: what the next version has other than one before
	Copy                        // a key left for the token of another box
)

var kindNames = [...]string{Release: "release", Refusal: "refusal", Command: "command", Login: "login", Boot: "boot",
	HSMInstance: "hsm-instance", HSMOrphan: "hsm-orphan", Time: "time", Enrol: "enrol", ReceiptKey: "receipt-key", Book: "book", Copy: "copy"}

// Kinds are all kinds, in their order.
func Kinds() []Kind {
	all := make([]Kind, 0, len(kindNames)-1)
	for k := Release; int(k) < len(kindNames); k++ {
		all = append(all, k)
	}
	return all
}

func (k Kind) String() string {
	if k == 0 || int(k) >= len(kindNames) {
		return "unset"
	}
	return kindNames[k]
}

// MarshalText refuses a kind that is not set.
func (k Kind) MarshalText() ([]byte, error) {
	if k == 0 || int(k) >= len(kindNames) {
		return nil, errors.New("record kind is not set")
	}
	return []byte(kindNames[k]), nil
}

// UnmarshalText reads the name of a kind.
func (k *Kind) UnmarshalText(text []byte) error {
	for i, name := range kindNames {
		if i > 0 && name == string(text) {
			*k = Kind(i)
			return nil
		}
	}
	return fmt.Errorf("unknown record kind %q", text)
}

// timeLayout is the one form of a record's time: UTC, milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z"

// A Stamp is a record's time in milliseconds, UTC.
type Stamp struct{ t time.Time }

// NewStamp cuts t to whole milliseconds.
func NewStamp(t time.Time) Stamp { return Stamp{t.UTC().Truncate(time.Millisecond)} }

// Time returns the time, UTC.
func (s Stamp) Time() time.Time { return s.t }

func (s Stamp) String() string               { return s.t.Format(timeLayout) }
func (s Stamp) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the one form; canonical re-encoding refuses the rest.
func (s *Stamp) UnmarshalText(text []byte) (err error) {
	s.t, err = time.Parse(timeLayout, string(text))
	return err
}

// A Public is the part of a record that receipts and redacted exports show. Its JSON form, fields in this order,
// is the only one.
type Public struct {
	Kind   Kind   `json:"kind"`
	Time   Stamp  `json:"time"`
	Book   uint64 `json:"book,omitempty"`   // version of the rules that decided
	Access string `json:"access,omitempty"` // access identifier
	Header *Hash  `json:"header,omitempty"` // SHA-256 of the block's header
	Answer *Hash  `json:"answer,omitempty"` // of a Release whose key never left the HSM: what it left as, and for which request; package kra
	Shown  *Hash  `json:"shown,omitempty"`  // of a Release to a platform: digest of what it showed on the channel; package label
	Item   *Item  `json:"hsm,omitempty"`    // the unwrap that this record accounts for
	Key    *Link  `json:"key,omitempty"`    // ReceiptKey only
}

// Encode returns the canonical JSON, or an error when p is not a record that may be logged.
func (p Public) Encode() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	b, err := p.append(make([]byte, 0, 512))
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	if len(b) > MaxPublic {
		return nil, fmt.Errorf("encode record: public part longer than %d bytes", MaxPublic)
	}
	return b, nil
}

// append writes what json.Marshal would, without its allocations: this is on the path of every release.
func (p Public) append(b []byte) ([]byte, error) {
	if p.Key != nil || !isPlain(p.Access) || p.Kind == 0 || int(p.Kind) >= len(kindNames) {
		return json.Marshal(p)
	}
	b = append(append(b, `{"kind":"`...), kindNames[p.Kind]...)
	b = p.Time.t.AppendFormat(append(b, `","time":"`...), timeLayout)
	b = append(b, '"')
	if p.Book != 0 {
		b = strconv.AppendUint(append(b, `,"book":`...), p.Book, 10)
	}
	if p.Access != "" {
		b = append(append(append(b, `,"access":"`...), p.Access...), '"')
	}
	if p.Header != nil {
		b = append(hex.AppendEncode(append(b, `,"header":"`...), p.Header[:]), '"')
	}
	if p.Answer != nil {
		b = append(hex.AppendEncode(append(b, `,"answer":"`...), p.Answer[:]), '"')
	}
	if p.Shown != nil {
		b = append(hex.AppendEncode(append(b, `,"shown":"`...), p.Shown[:]), '"')
	}
	if i := p.Item; i != nil {
		b = hex.AppendEncode(append(b, `,"hsm":{"instance":"`...), i.Instance[:])
		b = strconv.AppendUint(append(b, `","n":`...), i.N, 10)
		b = hex.AppendEncode(append(b, `,"key":"`...), i.Key[:])
		b = hex.AppendEncode(append(b, `","ciphertext":"`...), i.Ciphertext[:])
		if i.IsCopy() {
			b = hex.AppendEncode(append(b, `","peer":"`...), i.Peer[:])
		}
		b = append(b, `"}`...)
	}
	return append(b, '}'), nil
}

// isPlain says whether s is its own JSON text.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// ParsePublic reads the canonical JSON of a public part.
func ParsePublic(data []byte) (Public, error) {
	var p Public
	if len(data) > MaxPublic {
		return Public{}, fmt.Errorf("parse record: public part longer than %d bytes", MaxPublic)
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return Public{}, fmt.Errorf("parse record: %w", err)
	}
	if err := p.check(); err != nil {
		return Public{}, fmt.Errorf("parse record: %w", err)
	}
	if again, err := p.append(make([]byte, 0, len(data))); err != nil || !bytes.Equal(again, data) {
		return Public{}, errors.New("parse record: not in canonical form")
	}
	return p, nil
}

// check holds each kind to the parts it must and must not have.
func (p Public) check() error {
	switch p.Kind {
	case Release, HSMOrphan, Copy:
		if p.Item == nil {
			return fmt.Errorf("%s without an HSM item", p.Kind)
		}
	case Refusal: // with or without: the HSM may have been asked
	default:
		if p.Item != nil {
			return fmt.Errorf("%s with an HSM item", p.Kind)
		}
	}
	if p.Item != nil && p.Kind != HSMOrphan && p.Item.IsCopy() != (p.Kind == Copy) {
		return fmt.Errorf("%s with an HSM item of another kind", p.Kind)
	}
	if p.Item != nil && (p.Item.N == 0 || p.Item.Instance == Instance{}) {
		return errors.New("HSM item without instance or number")
	}
	if p.Answer != nil && p.Kind != Release {
		return fmt.Errorf("%s with an answer", p.Kind)
	}
	if p.Shown != nil && p.Kind != Release {
		return fmt.Errorf("%s with what a platform showed", p.Kind)
	}
	if (p.Kind == ReceiptKey) != (p.Key != nil) {
		return fmt.Errorf("%s and receipt key do not go together", p.Kind)
	}
	if len(p.Access) > maxWord {
		return errors.New("access identifier too long")
	}
	return nil
}

// A Salt hides the private part behind its commitment.
type Salt [32]byte

// NewSalt draws a salt.
func NewSalt() (s Salt) {
	rand.Read(s[:]) // never fails: it ends the program instead
	return s
}

// A Record is one entry of the log. Private is compact JSON chosen by the writer (decryptor, facts, trace, reason);
// nobody without the salt can test a guess at it against the commitment.
type Record struct {
	Public  []byte
	Salt    Salt
	Private []byte
}

// Commitment returns SHA-256("kra/private/v1" ‖ 0 ‖ salt ‖ private).
func (r Record) Commitment() Hash {
	b := make([]byte, 0, 1024) // on the stack
	b = append(b, privateContext...)
	b = append(b, 0)
	b = append(b, r.Salt[:]...)
	return sha256.Sum256(append(b, r.Private...))
}

// Leaf returns the record's Merkle leaf.
func (r Record) Leaf() tlog.Hash { return Leaf(r.Public, r.Commitment()) }

// Leaf returns the Merkle leaf of "kra/record/v1" ‖ 0 ‖ public ‖ commitment, RFC 6962.
func Leaf(public []byte, commitment Hash) tlog.Hash {
	b := make([]byte, 1, 1024) // tlog.RecordHash, which begins with a zero byte, on the stack
	b = append(b, recordContext...)
	b = append(b, 0)
	b = append(b, public...)
	return sha256.Sum256(append(b, commitment[:]...))
}
