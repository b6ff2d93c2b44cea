package appliance

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
	"github.com/keyrelease/krabox/kra/receipt/receipttest"
	"github.com/keyrelease/krabox/kra/replay"
)

// A history is a log with decisions of a board, whose HSM only counts.
type history struct {
	t       *testing.T
	log     *audit.Log
	domain  receipttest.Domain
	board   *board
	waiting []audit.Entry
	n       uint64 // unwraps
	head    receipt.Hash
}

func newHistory(t *testing.T) *history {
	t.Helper()
	h := &history{t: t, domain: receipttest.New(t, "example"), board: newBoard(t), head: receipt.FirstHead(receipt.Instance{7})}
	var err error
	if h.log, err = audit.Open(t.TempDir(), audit.Options{Key: [32]byte{1}, Box: "box1", Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.log.Close() })
	key, path := h.domain.Key(t, "box1", time.Now())
	if _, err := h.log.Rekey(t.Context(), key, path); err != nil {
		t.Fatal(err)
	}
	return h
}

// change logs the state's book and puts it to work.
func (h *history) change(st *store.State) {
	h.t.Helper()
	h.flush()
	p, err := h.board.build(st, h.board.version()+1)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := p.log(h.t.Context(), h.log); err != nil {
		h.t.Fatal(err)
	}
	h.board.use(p)
}

// decide logs one decision: by decides, and as if by the book of the board.
func (h *history) decide(by *policy.Book, r policy.Request, now time.Time) bool {
	h.t.Helper()
	grant, err := by.Decide(r, now)
	trace := grant.Trace()
	var no *policy.Refusal
	if errors.As(err, &no) {
		trace = no.Trace()
	}
	e := audit.Entry{Kind: receipt.Refusal, Book: h.board.version(), Private: json.RawMessage(`{"decision":` + string(trace.AppendJSON(nil)) + `}`)}
	if err == nil {
		h.n++
		i := receipt.Item{Instance: receipt.Instance{7}, N: h.n, Key: receipt.Hash(grant.KeyID()), Ciphertext: grant.Wrap().Hash()}
		h.head = receipt.NextHead(h.head, i.Key, i.Ciphertext)
		e.Kind, e.Access, e.Item = receipt.Release, string(grant.Access()), &i
		e.HSM = receipt.ChainHead{Instance: i.Instance, N: h.n, Head: h.head, MAC: receipt.Hash{9}}
	}
	if h.waiting = append(h.waiting, e); len(h.waiting) == 500 {
		h.flush()
	}
	return err == nil
}

func (h *history) flush() {
	h.t.Helper()
	if len(h.waiting) == 0 {
		return
	}
	if _, err := h.log.Append(context.Background(), h.waiting...); err != nil {
		h.t.Fatal(err)
	}
	h.waiting = nil
}

// replay exports the log and decides again.
func (h *history) replay() (replay.Report, error) {
	h.t.Helper()
	h.flush()
	f, err := os.Create(filepath.Join(h.t.TempDir(), "export"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	if err := h.log.Export(f, 0, 0); err != nil {
		h.t.Fatal(err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		h.t.Fatal(err)
	}
	p := replay.New()
	if _, err := receipt.ReadExport(f, h.domain.Roots, p.Record); err != nil {
		h.t.Fatal(err)
	}
	return p.Report()
}

// envelopeTo returns the header of a block that is encrypted to a key.
func envelopeTo(t testing.TB, k store.KeyAdd) block.Envelope {
	t.Helper()
	pub, err := x509.ParsePKIXPublicKey(k.Key.SPKI)
	if err != nil {
		t.Fatal(err)
	}
	ecdh, err := pub.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	to, err := block.NewRecipient(ecdh)
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
	header, _, err := block.ParseHeader(strings.NewReader(out.String()), block.MaxHeader)
	if err != nil {
		t.Fatal(err)
	}
	return block.EnvelopeOf(header)
}

// An exported log says what every decision was made of: 100,000 releases, and what was refused between them, come out the
// same from the books that the log's edits make. One decision by another rule is found.
func TestReplayedHistory(t *testing.T) {
	const releases = 100_000
	h, a := newHistory(t), newAuthor(t)
	legal, tax := a.keyAdd("legal"), a.keyAdd("tax")
	st := firstState(t, store.RuleAdd{Name: "staff", Expr: `groups.has("staff")`}, store.RuleAdd{Name: "office", Expr: `source.net("10.20.0.0/16")`},
		store.RuleAdd{Name: "day", Expr: `clock.within("Mon-Fri 08:00-18:00 Europe/Berlin")`}, store.GroupAdd{Group: "staff", Member: "corp:CN=p0"},
		store.AccessAdd{ID: "legal", Title: "Legal"}, legal, store.AccessLists{ID: "legal", Lists: []string{"staff && office", "day && office"}},
		store.AccessAdd{ID: "tax", Title: "Tax"}, tax, store.AccessLists{ID: "tax", Lists: []string{"staff || office"}})
	h.change(st)
	envelopes := []block.Envelope{envelopeTo(t, legal), envelopeTo(t, tax)}
	people := make([]kra.Decryptor, 20)
	for i := range people {
		var err error
		if people[i], err = kra.ParseDecryptor(fmt.Sprintf("corp:CN=p%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	request := func(n int) (policy.Request, time.Time) {
		f := policy.Facts{Decryptor: people[n%len(people)], Source: netip.AddrFrom4([4]byte{10, byte(20 + n%7/6), 3, byte(n)}), ClockTrusted: n%11 > 0,
			Channel: policy.Authenticated}
		return policy.Request{Envelope: envelopes[n%2], Facts: f}, time.Date(2026, 11, 18, 0, n%(7*24*60), 0, 0, time.UTC)
	}
	n, refusals := 0, int64(0)
	for done := 0; done < releases; n++ {
		if n%5000 == 4999 {
			st = after(t, st, store.GroupAdd{Group: "staff", Member: fmt.Sprintf("corp:CN=p%d", n/5000+1)},
				store.RuleSet{Name: "office", Expr: fmt.Sprintf(`source.net("10.20.0.0/16") || source.net("10.99.%d.0/24")`, n/5000)})
			h.change(st)
		}
		r, now := request(n)
		if h.decide(h.board.book(), r, now) {
			done++
		} else {
			refusals++
		}
	}
	if refusals < releases/50 {
		t.Errorf("only %d refusals beside %d releases", refusals, releases)
	}
	got, err := h.replay()
	want := replay.Report{Books: int(h.board.version()), Releases: releases, Refusals: refusals}
	if err != nil || got != want {
		t.Fatalf("replay: %+v, %v; want %+v", got, err, want)
	}

	// An agent that lies once: it uses a rule that its log does not know, for somebody whom the logged rule refuses.
	lie := after(t, st, store.RuleSet{Name: "staff", Expr: `true`}, store.RuleSet{Name: "day", Expr: "true"})
	p, err := h.board.build(lie, h.board.version())
	if err != nil {
		t.Fatal(err)
	}
	r, now := request(6) // the first one from elsewhere
	r.Facts.Source = netip.MustParseAddr("192.0.2.1")
	r.Envelope, r.Facts.Decryptor = envelopes[1], stranger(t)
	if h.decide(h.board.book(), r, now) {
		t.Fatal("the logged rules let a stranger in")
	}
	at := h.log.Head().Size + int64(len(h.waiting))
	if !h.decide(p.Book, r, now) {
		t.Fatal("the other rules keep a stranger out")
	}
	r, now = request(0)
	h.decide(h.board.book(), r, now)
	var differs *replay.Difference
	if _, err := h.replay(); !errors.As(err, &differs) || differs.Index != at || !strings.Contains(err.Error(), "rule step 1") {
		t.Errorf("replay: %v; want a rule step that differs in record %d", err, at)
	}
}

func stranger(t testing.TB) kra.Decryptor {
	t.Helper()
	d, err := kra.ParseDecryptor("corp:CN=stranger")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Books that were prepared and not used, a book longer than a record, and every start's whole book.
func TestBooksOfALog(t *testing.T) {
	h, a := newHistory(t), newAuthor(t)
	legal := a.keyAdd("legal")
	changes := []store.Change{store.RuleAdd{Name: "staff", Expr: `groups.has("staff")`}, store.AccessAdd{ID: "legal", Title: "Legal"}, legal,
		store.AccessLists{ID: "legal", Lists: []string{"staff"}}}
	for i := range 4000 {
		changes = append(changes, store.GroupAdd{Group: "staff", Member: fmt.Sprintf("corp:CN=somebody with a long name %d", i)})
	}
	st := firstState(t, changes...)
	h.change(st)
	if size := h.log.Head().Size; size < 4 {
		t.Fatalf("the log has %d records; want a book in several", size)
	}
	unused := after(t, st, store.RuleSet{Name: "staff", Expr: "true"})
	p, err := h.board.build(unused, h.board.version()+1)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.log(t.Context(), h.log); err != nil { // and then it is not committed
		t.Fatal(err)
	}
	r := policy.Request{Envelope: envelopeTo(t, legal), Facts: policy.Facts{Decryptor: stranger(t), Source: netip.MustParseAddr("192.0.2.1"),
		ClockTrusted: true, Channel: policy.Authenticated}}
	now := time.Now().UTC().Truncate(time.Second)
	h.decide(h.board.book(), r, now)
	h.change(after(t, st, store.GroupAdd{Group: "staff", Member: "corp:CN=stranger"}))
	if !h.decide(h.board.book(), r, now) {
		t.Fatal("a new member is refused")
	}
	nothing, err := h.board.build(after(t, h.board.now.Load().state, store.OfficerAdd{Name: "bob", Hash: "$argon2id$x", Duty: store.Chief}), h.board.version()+1)
	if err != nil || nothing.Book != h.board.book() {
		t.Errorf("a change that is none makes another book: %v", err)
	}
	h.flush()
	again := newBoard(t) // the agent starts again: its book has a number that none had before
	again.now.Store(nil)
	st = h.board.now.Load().state
	version := h.board.version() + 5
	h.board = again
	q, err := h.board.build(st, version)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.log(t.Context(), h.log); err != nil {
		t.Fatal(err)
	}
	h.board.use(q)
	h.decide(h.board.book(), r, now)
	if got, err := h.replay(); err != nil || got.Releases != 2 || got.Refusals != 1 || got.Books != 3 {
		t.Errorf("replay: %+v, %v", got, err)
	}
}
