package replay

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A tape is records to play.
type tape struct {
	t    *testing.T
	p    *Player
	next int64
}

func newTape(t *testing.T) *tape { return &tape{t: t, p: New()} }

func (s *tape) play(public receipt.Public, private []byte) {
	s.p.Record(s.next, public, private)
	s.next++
}

func (s *tape) book(version, from uint64, e policy.Edit) {
	s.t.Helper()
	parts, err := Parts(version, from, e)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, p := range parts {
		s.play(receipt.Public{Kind: receipt.Book, Book: version}, p)
	}
}

func (s *tape) want(index int64, text string) {
	s.t.Helper()
	_, err := s.p.Report()
	var d *Difference
	if !errors.As(err, &d) || d.Index != index || !strings.Contains(err.Error(), text) {
		s.t.Errorf("got %v; want record %d: %s", err, index, text)
	}
}

// edit is a book with one key, for everybody in the office.
func edit(t *testing.T) (policy.Edit, block.Envelope, block.KeyID) {
	t.Helper()
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := block.KeyIDOf(k.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	to, err := block.NewRecipient(k.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	w, err := age.Encrypt(&out, to)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h, _, err := block.ParseHeader(strings.NewReader(out.String()), block.MaxHeader)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Edit{Put: policy.Definition{Rules: []policy.RuleDef{{Name: "office", Expr: `source.net("10.0.0.0/8")`}},
		Access: []policy.AccessDef{{ID: "legal", Title: "Legal", Keys: []block.KeyID{id}, Lists: []string{"office"}}}}}, block.EnvelopeOf(h), id
}

// decision is the record of one by a book that the edit makes.
func decision(t *testing.T, e policy.Edit, version uint64, from string, envelope block.Envelope) (receipt.Public, []byte) {
	t.Helper()
	var none *policy.Book
	book, err := none.Revise(version, e)
	if err != nil {
		t.Fatal(err)
	}
	who, err := kra.ParseDecryptor("corp:CN=alice")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 18, 9, 30, 0, 0, time.UTC)
	grant, err := book.Decide(policy.Request{Envelope: envelope, Facts: policy.Facts{Decryptor: who, Source: netip.MustParseAddr(from), ClockTrusted: true,
		Channel: policy.Authenticated}}, now)
	var no *policy.Refusal
	p, trace := receipt.Public{Kind: receipt.Refusal, Time: receipt.NewStamp(now), Book: version}, grant.Trace()
	if errors.As(err, &no) {
		trace = no.Trace()
	} else {
		p.Kind, p.Access, p.Item = receipt.Release, "legal", &receipt.Item{N: 1, Key: receipt.Hash(grant.KeyID())}
	}
	return p, []byte(`{"decision":` + string(trace.AppendJSON(nil)) + `}`)
}

// Each way in which a record can lie about a decision is found, in that very record.
func TestLiesAreFound(t *testing.T) {
	e, envelope, _ := edit(t)
	yes, yesText := decision(t, e, 1, "10.1.2.3", envelope)
	no, noText := decision(t, e, 1, "192.0.2.1", envelope)
	in := func(text []byte, old, new string) []byte {
		if !bytes.Contains(text, []byte(old)) {
			t.Fatalf("%s has no %s", text, old)
		}
		return bytes.ReplaceAll(text, []byte(old), []byte(new))
	}
	released := no
	released.Kind, released.Access, released.Item = receipt.Release, "legal", yes.Item
	elsewhere, other, later := yes, yes, yes
	elsewhere.Access, later.Book = "tax", 2
	other.Item = &receipt.Item{N: 1, Key: receipt.Hash{1}}
	for _, c := range []struct {
		name    string
		public  receipt.Public
		private []byte
		want    string
	}{
		{"released though refused", released, noText, "although the decision was no"},
		{"the rule said no", yes, in(yesText, "10.1.2.3", "192.0.2.1"), "rule step 1"},
		{"refused though permitted", no, in(noText, "192.0.2.1", "10.1.2.3"), "rule step 1"},
		{"to another access identifier", elsewhere, yesText, "released to tax, decided for legal"},
		{"with another key", other, yesText, "was used, decided for"},
		{"by another book", later, yesText, "a decision of book 1 in a record of book 2"},
		{"by an unknown book", later, in(yesText, `{"book":1,`, `{"book":2,`), "not in the log before"},
		{"without a decision", yes, []byte(`{"reason":"x"}`), "without a decision"},
		{"another form", yes, in(yesText, `"channel":"`, ` "channel":"`), "one form"},
		{"redacted", yes, nil, "not in the export"},
	} {
		s := newTape(t)
		s.book(1, 0, e)
		s.play(yes, yesText)
		s.play(no, noText)
		s.play(c.public, c.private)
		s.play(no, []byte("{"))
		s.want(3, c.want)
	}
	s := newTape(t)
	s.book(1, 0, e)
	s.play(yes, yesText)
	s.play(no, noText)
	s.play(receipt.Public{Kind: receipt.Refusal}, []byte(`{"reason":"x","request":{}}`))
	s.play(other, in(yesText, `{"decision"`, `{"key":"any of the header","decision"`))
	if r, err := s.p.Report(); err != nil || r != (Report{Books: 1, Releases: 2, Refusals: 1, Undecided: 1}) {
		t.Errorf("report: %+v, %v", r, err)
	}
}

// A book changes only before it has decided, and only from one that is known.
func TestBookOrder(t *testing.T) {
	e, envelope, _ := edit(t)
	yes, yesText := decision(t, e, 2, "10.1.2.3", envelope)
	s := newTape(t)
	s.book(2, 0, policy.Edit{Put: policy.Definition{Rules: []policy.RuleDef{{Name: "unused", Expr: "true"}}}})
	s.book(2, 0, e)
	s.play(yes, yesText)
	if r, err := s.p.Report(); err != nil || r.Releases != 1 {
		t.Errorf("a version that was never used comes again: %+v, %v", r, err)
	}
	s.book(2, 0, e)
	s.want(3, "book 2 changes after it has decided")

	s = newTape(t)
	s.book(3, 2, e)
	s.want(0, "edit of book 2: its book is not in the log")

	s = newTape(t)
	s.book(1, 0, policy.Edit{Put: policy.Definition{Rules: []policy.RuleDef{{Name: "x", Expr: "nonsense("}}}})
	s.want(0, "rule x")
}

// A long edit stands in several records, which must follow each other.
func TestLongEdit(t *testing.T) {
	e, envelope, _ := edit(t)
	g := policy.GroupDef{Name: "many"}
	for range 5000 {
		g.Members = append(g.Members, "corp:CN="+rand.Text())
	}
	e.Put.Groups = append(e.Put.Groups, g)
	parts, err := Parts(1, 0, e)
	if err != nil || len(parts) < 3 {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	for _, p := range parts {
		if len(p) > receipt.MaxPrivate {
			t.Errorf("a part of %d bytes fits no record", len(p))
		}
	}
	yes, yesText := decision(t, e, 1, "10.1.2.3", envelope)
	public := receipt.Public{Kind: receipt.Book, Book: 1}
	s := newTape(t)
	s.play(public, parts[0])
	s.play(public, parts[1]) // the power goes, and it is written again
	for _, p := range parts {
		s.play(public, p)
	}
	s.play(yes, yesText)
	if r, err := s.p.Report(); err != nil || r.Releases != 1 || r.Books != 1 {
		t.Errorf("report: %+v, %v", r, err)
	}
	s = newTape(t)
	s.play(public, parts[0])
	s.play(public, parts[2])
	s.want(1, "do not follow each other")
}

// FuzzBook: a record of kind book has one form, and no text makes the player fall.
func FuzzBook(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzBook/*")
	if err != nil || len(seeds) < 3 {
		f.Fatalf("%d seeds, %v", len(seeds), err)
	}
	if _, err := os.Stat(seeds[0]); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, private []byte) {
		p, err := parsePart(private)
		if err != nil {
			return
		}
		if again, err := json.Marshal(p); err != nil || !bytes.Equal(again, private) {
			t.Fatalf("%q comes back as %q, %v", private, again, err)
		}
		New().Record(0, receipt.Public{Kind: receipt.Book, Book: p.Version}, private)
	})
}
