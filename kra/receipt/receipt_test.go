package receipt_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyrelease/krabox/kra/receipt"
	"github.com/keyrelease/krabox/kra/receipt/receipttest"
)

var now = time.Now().UTC().Truncate(time.Second)

// A box is a log that its own agent may falsify: it signs whatever it is told to.
type box struct {
	t      *testing.T
	domain receipttest.Domain
	by     string
	signer *receipt.Signer
	edge   receipt.Edge
	leaves []tlog.Hash
	out    *bytes.Buffer
	x      *receipt.Exporter
	at     time.Time
	gen    uint64
}

func newBox(t *testing.T) *box {
	t.Helper()
	return newBoxOf(t, "kra://example/label/key-release/box1")
}

// newBoxOf is box1, whose receipt keys are certified by a key with this one name.
func newBoxOf(t *testing.T, by string) *box {
	t.Helper()
	b := &box{t: t, domain: receipttest.New(t, "example"), by: by, out: &bytes.Buffer{}, at: now}
	b.x = receipt.NewExporter(b.out, receipt.Whole, receipt.ExportHeader{Box: "box1"})
	b.record(receipt.Public{Kind: receipt.ReceiptKey, Key: b.newKey()})
	b.checkpoint(receipt.ChainHead{})
	return b
}

// newKey takes a new key without introducing it.
func (b *box) newKey() *receipt.Link {
	b.t.Helper()
	key, path := b.domain.KeyOf(b.t, b.by, "box1", b.at)
	s, err := receipt.NewSigner("box1", key, path)
	if err != nil {
		b.t.Fatal(err)
	}
	b.signer = s
	l := s.NewLink(nil, b.edge.Size())
	return &l
}

func (b *box) record(p receipt.Public) receipt.Record {
	b.t.Helper()
	p.Time = receipt.NewStamp(b.at)
	pub, err := p.Encode()
	if err != nil {
		b.t.Fatal(err)
	}
	r := receipt.Record{Public: pub, Salt: receipt.NewSalt(), Private: []byte(`{"decryptor":"corp:CN=alice"}`)}
	b.edge.Append(r.Leaf())
	b.leaves = append(b.leaves, r.Leaf())
	b.x.Record(r)
	return r
}

func (b *box) checkpoint(h receipt.ChainHead) string {
	b.t.Helper()
	c, err := b.signer.Checkpoint(receipt.Checkpoint{Size: b.edge.Size(), Root: b.edge.Root(), HSM: h, Generation: b.gen, Time: b.at})
	if err != nil {
		b.t.Fatal(err)
	}
	b.x.Checkpoint(c)
	return c
}

func (b *box) verify(evidence ...receipt.Evidence) (receipt.Report, error) {
	b.t.Helper()
	if err := b.x.Close(); err != nil {
		b.t.Fatal(err)
	}
	return receipt.VerifyExport(bytes.NewReader(b.out.Bytes()), b.domain.Roots, evidence...)
}

// receipt makes the receipt of the record at index under the tree as it is.
func (b *box) receipt(index int64, r receipt.Record) receipt.Receipt {
	b.t.Helper()
	var stored []tlog.Hash
	var e receipt.Edge
	for _, leaf := range b.leaves {
		stored = e.AppendStored(stored, leaf)
	}
	proof, err := tlog.ProveRecord(b.edge.Size(), index, tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, x := range at {
			out[i] = stored[x]
		}
		return out, nil
	}))
	if err != nil {
		b.t.Fatal(err)
	}
	return receipt.Receipt{Index: index, Public: r.Public, Commitment: r.Commitment(), Proof: proof}
}

// items makes the first n items of an instance's chain and the heads after each.
func items(i receipt.Instance, n int) (all []receipt.Item, heads []receipt.ChainHead) {
	head := receipt.FirstHead(i)
	heads = append(heads, receipt.ChainHead{Instance: i, Head: head})
	for k := range n {
		item := receipt.Item{Instance: i, N: uint64(k + 1), Key: receipt.Hash{1}, Ciphertext: receipt.Hash{byte(k)}}
		head = receipt.NextHead(head, item.Key, item.Ciphertext)
		all = append(all, item)
		heads = append(heads, receipt.ChainHead{Instance: i, N: item.N, Head: head})
	}
	return all, heads
}

func release(i receipt.Item) receipt.Public {
	return receipt.Public{Kind: receipt.Release, Book: 1, Access: "legal-team", Item: &i}
}

func TestVerifyReceipt(t *testing.T) {
	b := newBox(t)
	all, heads := items(receipt.Instance{1}, 3)
	first := b.record(release(all[0]))
	second := b.record(release(all[1]))
	checkpoint := b.checkpoint(heads[2])
	good := b.receipt(2, second)
	v, err := receipt.Verify(good, checkpoint, b.signer.Path(), b.domain.Roots)
	if err != nil {
		t.Fatal(err)
	}
	if v.Index() != 2 || v.Public().Access != "legal-team" || v.Name() != (receipt.Name{Domain: "example", Box: "box1"}) || v.Checkpoint().Size != 3 {
		t.Errorf("verified as %+v", v)
	}
	coded, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := receipt.ParseReceipt(coded); err != nil || !reflect.DeepEqual(again, good) {
		t.Errorf("ParseReceipt = %+v, %v", again, err)
	}

	stranger := receipttest.New(t, "example")
	_, strangerPath := stranger.Key(t, "box1", now)
	otherKey, otherPath := b.domain.Key(t, "box2", now)
	other, err := receipt.NewSigner("box2", otherKey, otherPath)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.Checkpoint(receipt.Checkpoint{Size: 3, Root: b.edge.Root(), Time: now})
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(*receipt.Receipt)) receipt.Receipt {
		r := good
		r.Proof = append(tlog.RecordProof{}, good.Proof...)
		f(&r)
		return r
	}
	for _, c := range []struct {
		name       string
		receipt    receipt.Receipt
		checkpoint string
		path       receipt.Path
		want       string
	}{
		{"another record", change(func(r *receipt.Receipt) { r.Public = first.Public }), checkpoint, b.signer.Path(), "inclusion"},
		{"another access identifier", change(func(r *receipt.Receipt) {
			r.Public = bytes.Replace(r.Public, []byte("legal-team"), []byte("other-team"), 1)
		}), checkpoint, b.signer.Path(), "inclusion"},
		{"another commitment", change(func(r *receipt.Receipt) { r.Commitment[0] ^= 1 }), checkpoint, b.signer.Path(), "inclusion"},
		{"another index", change(func(r *receipt.Receipt) { r.Index = 1 }), checkpoint, b.signer.Path(), "inclusion"},
		{"an index outside", change(func(r *receipt.Receipt) { r.Index = 3 }), checkpoint, b.signer.Path(), "outside"},
		{"a shorter proof", change(func(r *receipt.Receipt) { r.Proof = r.Proof[1:] }), checkpoint, b.signer.Path(), "inclusion"},
		{"another root", good, strings.Replace(checkpoint, "\n3\n", "\n4\n", 1), b.signer.Path(), "verify checkpoint"},
		{"no signature", good, checkpoint[:strings.Index(checkpoint, "\n\n")+2], b.signer.Path(), "verify checkpoint"},
		{"a key of another domain", good, checkpoint, strangerPath, "verify checkpoint"},
		{"a key of another box", good, foreign, otherPath, ""},
		{"another box's key for this log", good, strings.Replace(foreign, "box2", "box1", 2), otherPath, "verify checkpoint"},
		{"no path", good, checkpoint, receipt.Path{}, "empty"},
	} {
		v, err := receipt.Verify(c.receipt, c.checkpoint, c.path, b.domain.Roots)
		if c.want == "" { // a sound statement, but of the box that made it
			if err != nil || v.Name().Box != "box2" {
				t.Errorf("%s: %+v, %v", c.name, v, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v; want %q", c.name, err, c.want)
		}
	}
	if _, err := receipt.Verify(good, checkpoint, b.signer.Path(), stranger.Roots); err == nil {
		t.Error("a receipt verifies under another domain's root")
	}
}

// TestLyingBoxFound: the agent holds the receipt key and signs what it likes; the auditor still finds each of these.
func TestLyingBoxFound(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  func(b *box)
		want string
	}{
		{"an unwrap that is not logged", func(b *box) {
			all, heads := items(receipt.Instance{1}, 3)
			b.record(release(all[0]))
			b.record(release(all[2]))
			b.checkpoint(heads[3])
		}, receipt.ErrChain.Error()},
		{"an unwrap logged with another key", func(b *box) {
			all, heads := items(receipt.Instance{1}, 1)
			all[0].Key[5] ^= 1
			b.record(release(all[0]))
			b.checkpoint(heads[1])
		}, receipt.ErrChain.Error()},
		{"one record for two releases", func(b *box) {
			all, heads := items(receipt.Instance{1}, 1)
			b.record(release(all[0]))
			b.record(release(all[0]))
			b.checkpoint(heads[1])
		}, receipt.ErrTwice.Error()},
		{"hsmd's chain set back", func(b *box) {
			all, heads := items(receipt.Instance{1}, 2)
			b.record(release(all[0]))
			b.record(release(all[1]))
			b.checkpoint(heads[2])
			b.record(receipt.Public{Kind: receipt.Boot})
			b.checkpoint(heads[1])
		}, receipt.ErrChain.Error()},
		{"a state set back", func(b *box) {
			b.gen = 7
			b.record(receipt.Public{Kind: receipt.Boot})
			b.checkpoint(receipt.ChainHead{})
			b.gen = 6
			b.record(receipt.Public{Kind: receipt.Boot})
			b.checkpoint(receipt.ChainHead{})
		}, "goes back to generation 6"},
		{"a key that nobody introduced", func(b *box) {
			b.newKey()
			b.record(receipt.Public{Kind: receipt.Boot})
			b.checkpoint(receipt.ChainHead{})
		}, "verify checkpoint"},
		{"a key that the one before did not sign", func(b *box) {
			b.record(receipt.Public{Kind: receipt.ReceiptKey, Key: b.newKey()})
			b.checkpoint(receipt.ChainHead{})
		}, "not signed by the key before it"},
		{"a signature after the key's time", func(b *box) {
			b.at = now.Add(72 * time.Hour)
			b.record(receipt.Public{Kind: receipt.Boot})
			b.checkpoint(receipt.ChainHead{})
		}, "expired"},
		{"a record outside every checkpoint", func(b *box) { b.record(receipt.Public{Kind: receipt.Boot}) }, "does not end with a checkpoint"},
		{"two checkpoints over the same", func(b *box) { b.checkpoint(receipt.ChainHead{}) }, "over no new record"},
	} {
		b := newBox(t)
		c.lie(b)
		if _, err := b.verify(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v; want %q", c.name, err, c.want)
		}
	}
}

// TestTwoLogsFound: the box shows the auditor another log than the one it gave a receipt from.
func TestTwoLogsFound(t *testing.T) {
	b := newBox(t)
	all, heads := items(receipt.Instance{1}, 2)
	r := b.record(release(all[0]))
	c := b.checkpoint(heads[1])
	rec := b.receipt(1, r)
	held := receipt.Evidence{Checkpoint: c, Path: b.signer.Path(), Receipt: &rec}
	if rep, err := b.verify(held); err != nil || rep.Seen != 1 {
		t.Fatalf("the true log: %+v, %v", rep, err)
	}
	// The same box, keys and all, without that release.
	b.out.Reset()
	b.edge, b.leaves = receipt.Edge{}, nil
	b.x = receipt.NewExporter(b.out, receipt.Whole, receipt.ExportHeader{Box: "box1"})
	l := b.signer.NewLink(nil, 0)
	b.record(receipt.Public{Kind: receipt.ReceiptKey, Key: &l})
	b.checkpoint(receipt.ChainHead{})
	b.record(receipt.Public{Kind: receipt.Boot})
	b.checkpoint(receipt.ChainHead{})
	if _, err := b.verify(); err != nil {
		t.Fatalf("the other log by itself: %v", err)
	}
	if _, err := b.verify(held); err == nil || !strings.Contains(err.Error(), "receipt says otherwise") {
		t.Errorf("the other log against the receipt: %v", err)
	}
	held.Receipt = nil
	if _, err := b.verify(held); err == nil || !strings.Contains(err.Error(), "given out earlier") {
		t.Errorf("the other log against the checkpoint: %v", err)
	}
}

// TestEdgeIsTlog: our incremental tree is x/mod's, hash for hash.
func TestEdgeIsTlog(t *testing.T) {
	var e receipt.Edge
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, x := range at {
			out[i] = stored[x]
		}
		return out, nil
	})
	for n := range int64(300) {
		want, err := tlog.TreeHash(n, read)
		if err != nil || e.Root() != want {
			t.Fatalf("root of %d leaves = %v; want %v, %v", n, e.Root(), want, err)
		}
		at, _ := read(receipt.EdgeIndexes(n))
		if other, err := receipt.NewEdge(n, at); err != nil || other.Root() != want {
			t.Fatalf("edge of %d leaves has root %v; want %v, %v", n, other.Root(), want, err)
		}
		leaf := receipt.Leaf(fmt.Append(nil, n), receipt.Hash{byte(n)})
		hashes, err := tlog.StoredHashesForRecordHash(n, leaf, read)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.AppendStored(nil, leaf); !reflect.DeepEqual(got, hashes) {
			t.Fatalf("stored hashes of leaf %d = %v; want %v", n, got, hashes)
		}
		stored = append(stored, hashes...)
	}
}

// TestKnownAnswers pins the formats: other implementations compute the same.
func TestKnownAnswers(t *testing.T) {
	i := receipt.Instance{0: 1, 15: 2}
	first := receipt.FirstHead(i)
	next := receipt.NextHead(first, [32]byte{3}, [32]byte{4})
	r := receipt.Record{Public: []byte(`{"kind":"boot","time":"2026-01-02T03:04:05.006Z"}`), Salt: receipt.Salt{5}, Private: []byte(`{}`)}
	c := receipt.Checkpoint{Box: "box1", Size: 7, Root: tlog.Hash{8}, HSM: receipt.ChainHead{Instance: i, N: 9, Head: next, MAC: receipt.Hash{10}},
		Generation: 11, Reset: 12, Time: time.Unix(1767323045, 0)}
	left := receipt.Item{Key: receipt.Hash{3}, Ciphertext: receipt.Hash{4}, Peer: receipt.Hash{5}}.After(next)
	got := fmt.Sprintf("first  %x\nnext   %x\ncopy   %x\nhead   %x\ncommit %s\nleaf   %s\n\n%s", first, next, left, receipt.HeadMessage(i, 9, next), r.Commitment(), r.Leaf(), c.Text())
	want, err := os.ReadFile("testdata/known-answers.txt")
	if err != nil || string(want) != got {
		t.Errorf("got\n%s\nwant testdata/known-answers.txt, %v", got, err)
	}
	if p, err := receipt.ParsePublic(r.Public); err != nil || p.Kind != receipt.Boot {
		t.Errorf("ParsePublic = %+v, %v", p, err)
	}
	if receipt.Leaf([]byte("x"), receipt.Hash{1}) != tlog.RecordHash(append([]byte("kra/record/v1\x00x"), append([]byte{1}, make([]byte, 31)...)...)) {
		t.Error("Leaf is not RFC 6962's leaf hash")
	}
}

// TestPublicIsJSON: what the fast path writes is what encoding/json writes, and is read again.
func TestPublicIsJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		p := receipt.Public{Kind: receipt.Kind(r.IntN(13)), Time: receipt.NewStamp(time.Unix(r.Int64N(1<<33), r.Int64N(1e9))), Book: r.Uint64N(3)}
		p.Access = []string{"", "legal-team", "a\"b", "é", "<&>", "x y"}[r.IntN(6)]
		if r.IntN(2) == 0 {
			p.Header = &receipt.Hash{byte(r.IntN(256))}
		}
		if r.IntN(2) == 0 {
			p.Item = &receipt.Item{Instance: receipt.Instance{1}, N: r.Uint64() >> r.IntN(64), Key: receipt.Hash{byte(r.IntN(256))}}
		}
		if p.Item != nil && r.IntN(2) == 0 {
			p.Item.Peer = receipt.Hash{byte(r.IntN(256))}
		}
		if r.IntN(3) == 0 {
			p.Answer = &receipt.Hash{byte(r.IntN(256))}
		}
		got, err := p.Encode()
		if err != nil {
			continue
		}
		if want, err := json.Marshal(p); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("Encode = %s; want %s, %v", got, want, err)
		}
		again, err := receipt.ParsePublic(got)
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("ParsePublic(%s) = %+v, %v", got, again, err)
		}
		if g, err := receipt.GlanceAt(got); err != nil || !reflect.DeepEqual(g.Item, p.Item) {
			t.Fatalf("GlanceAt(%s) = %+v, %v", got, g, err)
		}
	}
}

func TestRecordParts(t *testing.T) {
	item := &receipt.Item{Instance: receipt.Instance{1}, N: 1}
	left := &receipt.Item{Instance: receipt.Instance{1}, N: 1, Peer: receipt.Hash{1}}
	for _, p := range []receipt.Public{{}, {Kind: 99}, {Kind: receipt.Release}, {Kind: receipt.HSMOrphan}, {Kind: receipt.Copy}, {Kind: receipt.Copy, Item: item}, {Kind: receipt.Release, Item: left}, {Kind: receipt.Refusal, Item: left}, {Kind: receipt.Login, Item: item},
		{Kind: receipt.Release, Item: &receipt.Item{N: 1}}, {Kind: receipt.Release, Item: &receipt.Item{Instance: receipt.Instance{1}}},
		{Kind: receipt.ReceiptKey}, {Kind: receipt.Boot, Key: &receipt.Link{}}, {Kind: receipt.Refusal, Item: item, Answer: &receipt.Hash{1}}, {Kind: receipt.Boot, Answer: &receipt.Hash{1}}, {Kind: receipt.Boot, Access: strings.Repeat("x", 300)}} {
		if b, err := p.Encode(); err == nil {
			t.Errorf("%s is encoded", b)
		}
	}
}
