package appliance

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/external"
	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/appliance/store"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/replay"
)

// An author makes keys of a state and certifies them.
type author struct {
	t   testing.TB
	key *ecdsa.PrivateKey
}

func newAuthor(t testing.TB) author {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return author{t, k}
}

// chain certifies a public key once more.
func (a author) chain(spki []byte) [][]byte {
	a.t.Helper()
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "key"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return [][]byte{der}
}

func (a author) keyAdd(access kra.AccessID) store.KeyAdd {
	a.t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(newAuthor(a.t).key.Public())
	if err != nil {
		a.t.Fatal(err)
	}
	id := block.KeyIDOfSPKI(spki)
	return store.KeyAdd{Key: hsm.Key{ID: id, Suite: hsm.P256, Custody: hsm.Bound, Origin: hsm.Generated, Mode: hsm.Resident, SPKI: spki}, Made: time.Now(),
		Files: map[string][]byte{"token/" + id.String()[:40] + ".object": make([]byte, 1000)}, Access: access, Chain: a.chain(spki)}
}

// after is a stored state after changes, as a commit makes it from the one before.
func after(t testing.TB, st *store.State, changes ...store.Change) *store.State {
	t.Helper()
	next, err := store.Apply(st, changes...)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// post builds a state's snapshot and serves from it.
func (b *board) post(t testing.TB, st *store.State) *posted {
	t.Helper()
	p, err := b.build(st, b.version()+1)
	if err != nil {
		t.Fatal(err)
	}
	b.use(p)
	return p
}

func newBoard(t testing.TB) *board {
	t.Helper()
	k := inform.NewKeeper(time.Now, nil)
	t.Cleanup(k.Close)
	return &board{domain: label.Domain{Name: "example"}, sources: k, outside: external.New("example", "box1")}
}

func (b *board) version() uint64 {
	if p := b.now.Load(); p != nil {
		return p.Book.Version()
	}
	return 0
}

// noNV is a TPM that forgets.
type noNV struct{}

func (noNV) WriteRecord(context.Context, label.Record) error { return nil }

func firstState(t testing.TB, changes ...store.Change) *store.State {
	t.Helper()
	s, err := store.Create(t.Context(), filepath.Join(t.TempDir(), "store.db"), [32]byte{1}, noNV{},
		append([]store.Change{store.OfficerAdd{Name: "alice", Hash: "$argon2id$x", Duty: store.Chief}, store.BoxSet{Box: label.Box{Name: "box1"}}}, changes...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.State()
}

func TestSnapshotFollowsTheState(t *testing.T) {
	a := newAuthor(t)
	legal, tax := a.keyAdd("legal"), a.keyAdd("tax")
	st := firstState(t, store.RuleAdd{Name: "staff", Expr: `groups.has("staff")`}, store.GroupAdd{Group: "staff", Member: "corp:CN=bob"},
		store.AccessAdd{ID: "legal", Title: "Legal"}, legal, store.AccessAdd{ID: "tax", Title: "Tax"}, tax)
	b := newBoard(t)
	directory := func(p *posted) string {
		t.Helper()
		all, err := p.Directory.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return string(all)
	}
	first := b.post(t, st)
	shown := directory(first)
	newer := a.keyAdd("legal")
	for _, step := range []struct {
		name    string
		change  store.Change
		another bool // directory
	}{
		{"lists", store.AccessLists{ID: "legal", Lists: []string{"staff"}}, false},
		{"group", store.GroupAdd{Group: "staff", Member: "corp:CN=carol"}, false},
		{"rule", store.RuleSet{Name: "staff", Expr: "true"}, false},
		{"title", store.AccessTitle{ID: "legal", Title: "Lawyers"}, true},
		{"key", newer, true},
		{"order of keys", store.AccessKeys{ID: "legal", Keys: []block.KeyID{legal.Key.ID, newer.Key.ID}}, true},
		{"certificate", store.CertificateSet{Access: "tax", Key: tax.Key.ID, Chain: a.chain(tax.Key.SPKI)}, true},
		{"no key", store.AccessKeys{ID: "tax"}, true},
		{"removed", store.AccessRemove{ID: "legal"}, true},
	} {
		before, was := b.now.Load(), directory(b.now.Load())
		st = after(t, st, step.change)
		now := b.post(t, st)
		if (now.Directory != before.Directory) != step.another {
			t.Errorf("%s: another directory: %v; want %v", step.name, !step.another, step.another)
		}
		fresh := (newBoard(t)).post(t, st)
		if got, want := directory(now), directory(fresh); got != want || (got != was) != step.another {
			t.Errorf("%s: the directory is\n%s\nwant\n%s", step.name, got, want)
		}
		if got, want := fmt.Sprintf("%+v", now.Book.AllAccess()), fmt.Sprintf("%+v", fresh.Book.AllAccess()); got != want {
			t.Errorf("%s: the book has\n%s\nwant\n%s", step.name, got, want)
		}
	}
	if got := directory(first); got != shown || len(first.Book.AllAccess()) != 2 || first.Book.Version() != 1 {
		t.Errorf("the first snapshot is no longer what it was:\n%s", got)
	}
}

// manyKeys is a state with n access identifiers, each with one key.
func manyKeys(t testing.TB, n int) *store.State {
	t.Helper()
	a := newAuthor(t)
	changes := []store.Change{store.RuleAdd{Name: "staff", Expr: "true"}}
	for i := range n {
		id := kra.AccessID(fmt.Sprintf("access-%d", i))
		changes = append(changes, store.AccessAdd{ID: id}, store.AccessLists{ID: id, Lists: []string{"staff"}}, a.keyAdd(id))
	}
	return firstState(t, changes...)
}

// One more key costs the same, however many there are: next to what a state of 10,000 makes when it is read, a change of it makes little.
func TestChangeCostsTheChange(t *testing.T) {
	st, a := manyKeys(t, 10_000), newAuthor(t)
	b := newBoard(t)
	whole := allocated(func() { b.post(t, st) })
	add := a.keyAdd("new")
	change := allocated(func() {
		st = after(t, st, store.AccessAdd{ID: "new"}, store.AccessLists{ID: "new", Lists: []string{"staff"}}, add)
		if p := b.post(t, st); len(p.Book.AccessOf(add.Key.ID)) != 1 {
			t.Fatalf("key is under %v", p.Book.AccessOf(add.Key.ID))
		}
	})
	t.Logf("one more key makes %d bytes, the whole %d", change, whole)
	if change > whole/20 {
		t.Errorf("one more key makes %d bytes, the whole %d", change, whole)
	}
}

// allocated is how many bytes f makes.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func BenchmarkOneMoreKey(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		st, a := manyKeys(b, n), newAuthor(b)
		x := newBoard(b)
		x.post(b, st)
		add := a.keyAdd("access-1")
		b.Run(fmt.Sprintf("keys%d", n), func(b *testing.B) {
			for b.Loop() {
				next, err := store.Apply(st, add)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := x.build(next, 2); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// An nv holds what was recorded last.
type nv struct{ label.Record }

func (n *nv) WriteRecord(_ context.Context, r label.Record) error { n.Record = r; return nil }

// BenchmarkStart is what a start of krad takes with so many keys in the vault, from the sealed state to what the port serves from. What hsmd
// takes is in package hsm's BenchmarkKeys.
func BenchmarkStart(b *testing.B) {
	for _, n := range []int{10, 10_000, 100_000} {
		b.Run(fmt.Sprintf("keys%d", n), func(b *testing.B) {
			a, tpm, path := newAuthor(b), &nv{}, filepath.Join(b.TempDir(), "store.db")
			changes := []store.Change{store.OfficerAdd{Name: "alice", Hash: "$argon2id$x", Duty: store.Chief}, store.BoxSet{Box: label.Box{Name: "box1"}}, store.RuleAdd{Name: "staff", Expr: "true"}}
			for i := range n {
				id := kra.AccessID(fmt.Sprintf("access-%d", i))
				k := a.keyAdd(id)
				k.Key.Mode, k.Files = hsm.Vault, map[string][]byte{"vault/" + k.Key.ID.String(): make([]byte, 400)}
				changes = append(changes, store.AccessAdd{ID: id}, store.AccessLists{ID: id, Lists: []string{"staff"}}, k)
			}
			s, err := store.Create(b.Context(), path, [32]byte{1}, tpm, changes...)
			if err == nil {
				err = s.Close()
			}
			if err != nil {
				b.Fatal(err)
			}
			changes = nil
			runtime.GC()
			for b.Loop() {
				runtime.GC()
				began, end := time.Now(), inHaste()
				open, err := store.Open(path, [32]byte{1}, tpm.Record)
				if err != nil {
					b.Fatal(err)
				}
				opened := time.Now()
				if _, err := open.Files(); err != nil {
					b.Fatal(err)
				}
				given := time.Now()
				p, err := newBoard(b).build(open.State(), 1)
				if err != nil || len(p.Book.AllAccess()) != n {
					b.Fatal(err)
				}
				built := time.Now()
				if _, err := replay.Parts(p.Book.Version(), 0, p.edit); err != nil {
					b.Fatal(err)
				}
				logged := time.Now()
				end()
				if err := open.Close(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(opened.Sub(began).Seconds(), "open-s/op")
				b.ReportMetric(given.Sub(opened).Seconds(), "files-s/op")
				b.ReportMetric(built.Sub(given).Seconds(), "book-s/op")
				b.ReportMetric(logged.Sub(built).Seconds(), "parts-s/op")
			}
		})
	}
}

func BenchmarkDirectory(b *testing.B) {
	st := manyKeys(b, 10_000)
	for b.Loop() {
		p := newBoard(b).post(b, st)
		if _, err := p.Directory.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}
