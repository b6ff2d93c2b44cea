package release

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/board"
	"github.com/keyrelease/krabox/kra/board/boardtest"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
	"github.com/keyrelease/krabox/kra/receipt/receipttest"
)

// A world is a port on loopback with a real log, a real HSM whose faults are chosen, and two persons' authorities.
type world struct {
	t       testing.TB
	addr    string
	server  *Server
	log     *audit.Log
	domain  receipttest.Domain
	hsm     *token
	info    *knowledge
	outside services
	snap    atomic.Pointer[Snapshot]
	clock   atomic.Pointer[moment]
	health  atomic.Pointer[error]
	jour    *faultyJournal

	pages    map[string]board.Document
	document string // hash of one of the pages, in its path

	groups         *ledger
	platforms      *Platforms
	corp, stranger authority
	box            authority
	def            policy.Definition
	version        uint64
}

type moment struct {
	now     time.Time
	trusted bool
}

const testRule = `id.under("corp:O=Example") && clock.within("Mon-Sun 00:00-24:00 UTC")`

func newWorld(t testing.TB) *world {
	t.Helper()
	w := newWorldOn(t, newToken(t))
	w.start()
	return w
}

// newWorldOn is a world that nobody listens in.
func newWorldOn(t testing.TB, hsm *token) *world {
	t.Helper()
	w := &world{t: t, domain: receipttest.New(t, "example"), hsm: hsm, groups: newLedger(), info: &knowledge{}, corp: newAuthority(t), stranger: newAuthority(t), box: newAuthority(t)}
	var err error
	w.log, err = audit.Open(t.TempDir(), audit.Options{Key: [32]byte{1}, Box: "box1", Now: time.Now, SegmentSize: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.log.Close() })
	key, path := w.domain.Key(t, "box1", time.Now())
	if _, err := w.log.Rekey(context.Background(), key, path); err != nil {
		t.Fatal(err)
	}
	w.clock.Store(&moment{time.Now(), true})
	w.jour = &faultyJournal{real: w.log}
	w.def = policy.Definition{
		Rules:  []policy.RuleDef{{Name: "staff", Expr: testRule}, {Name: "nobody", Expr: "false"}},
		Access: []policy.AccessDef{{ID: "legal-team", Title: "Legal team", Keys: []block.KeyID{w.hsm.add("legal")}, Lists: []string{"nobody", "staff"}}, {ID: "board", Keys: []block.KeyID{w.hsm.add("board")}, Lists: []string{"nobody"}}},
	}
	w.publish()
	w.make()
	return w
}

// publish makes a new snapshot of the definition.
func (w *world) publish() {
	w.t.Helper()
	w.version++
	var prev *policy.Book
	if old := w.snap.Load(); old != nil {
		prev = old.Book
	}
	book, err := policy.Compile(w.version, w.def, prev)
	if err != nil {
		w.t.Fatal(err)
	}
	anchors, err := NewAnchors([]Anchor{{"corp", kra.WholeName, w.corp.cert}})
	if err != nil {
		w.t.Fatal(err)
	}
	var keys listed
	for _, a := range book.AllAccess() {
		for _, pub := range w.hsm.pubs {
			if id, err := block.KeyIDOf(pub); err != nil || id != a.Keys[0] {
				continue
			}
			k, err := kra.NewPublicKey(a.ID, a.Title, pub, "-----BEGIN CERTIFICATE-----\n")
			if err != nil {
				w.t.Fatal(err)
			}
			keys = append(keys, k)
		}
	}
	dir := NewDirectory("example", "box1", keys)
	w.snap.Store(&Snapshot{Domain: "example", Box: "box1", Book: book, Anchors: anchors, Platforms: w.platforms, Directory: dir})
}

// listed are the keys of a directory.
type listed []kra.PublicKey

func (l listed) PublicKeys() []kra.PublicKey { return l }

func (l listed) PublicKey(id kra.AccessID) (kra.PublicKey, bool) {
	for _, k := range l {
		if k.Access == id {
			return k, true
		}
	}
	return kra.PublicKey{}, false
}

// paint makes the pages of the box's board.
func (w *world) paint() {
	w.t.Helper()
	d := boardtest.New(w.t, "example.org")
	p := d.Permissions(1, label.Revoke, 0, label.Permission{Name: "box2", State: label.Revoked, Reason: "stolen"})
	b := board.New(d.Name, []label.SignedAdvert{d.Platform("box1", label.KeyRelease, label.Server, "127.0.0.1").Advert(1, "https://127.0.0.1:8443")}, &p)
	var err error
	if w.pages, err = board.Draw(board.View{Box: "box1", At: "https://127.0.0.1:8443", Root: d.Root, Board: b}, d.Roots, time.Now()); err != nil {
		w.t.Fatal(err)
	}
	w.document = strings.TrimPrefix(label.DescriptionPath(sha256.Sum256([]byte(boardtest.Explanation))), board.PathDocuments)
}

// make makes the server.
func (w *world) make() {
	w.t.Helper()
	w.paint()
	serverCert := w.box.issue(w.t, pkix.Name{CommonName: "box1"}, x509.ExtKeyUsageServerAuth)
	s, err := New(Options{
		Custody: w.hsm, Journal: w.jour, Snapshot: w.snap.Load, Groups: w.groups,
		Clock: func() (time.Time, bool) { m := w.clock.Load(); return m.now, m.trusted },
		Health: func() error {
			if e := w.health.Load(); e != nil {
				return *e
			}
			return w.log.Health()
		},
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &serverCert, nil },
		World:       func() World { return w.info.now() },
		Services:    askable{w},
		Prover:      w.box,
		Documents:   func() map[string]board.Document { return w.pages },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.server = s
}

// start serves it.
func (w *world) start() {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.server.Serve(ctx, l) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.addr = l.Addr().String()
}

// client returns an HTTP client with that certificate, or without.
func (w *world) client(cert ...tls.Certificate) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(w.box.cert)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "box1", Certificates: cert}, MaxIdleConnsPerHost: 64}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// alice is a client of the anchor corp, in O=Example.
func (w *world) alice() *http.Client { return w.client(w.corp.person(w.t, "alice", "Example")) }

// mallory is a client of the anchor corp who satisfies no rule.
func (w *world) mallory() *http.Client { return w.client(w.corp.person(w.t, "mallory", "Elsewhere")) }

func (w *world) post(c *http.Client, body []byte) (int, []byte) {
	w.t.Helper()
	resp, err := c.Post("https://"+w.addr+kra.PathRelease, kra.ContentType, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, out
}

// ask sends a request for headers and parses the answer.
func (w *world) ask(c *http.Client, claim string, headers ...block.Header) (int, kra.Response) {
	w.t.Helper()
	var raw [][]byte
	for _, h := range headers {
		raw = append(raw, h.Bytes())
	}
	req, err := kra.NewRequest(raw, claim)
	if err != nil {
		w.t.Fatal(err)
	}
	code, body := w.post(c, req.Encode())
	if code != http.StatusOK && code != http.StatusForbidden {
		w.t.Fatalf("ask: %d %s", code, body)
	}
	resp, err := kra.ParseResponse(body, len(headers))
	if err != nil {
		w.t.Fatal(err)
	}
	return code, resp
}

// opens reports whether the released key is the header's, and its receipt verifies.
func (w *world) opens(h block.Header, resp kra.Response, i int) bool {
	w.t.Helper()
	if resp.Results[i].Refused() {
		return false
	}
	r, err := receipt.ParseReceipt(resp.Results[i].Receipt())
	if err != nil {
		w.t.Fatal(err)
	}
	path, err := receipt.ParsePath(resp.Chain)
	if err != nil {
		w.t.Fatal(err)
	}
	v, err := receipt.Verify(r, resp.Checkpoint, path, w.domain.Roots)
	if err != nil {
		w.t.Fatal(err)
	}
	if p := v.Public(); p.Kind != receipt.Release || *p.Header != h.Hash() || p.Access != string(resp.Results[i].Access()) {
		w.t.Fatalf("receipt is about %+v", p)
	}
	return resp.Results[i].Key().Use(h.VerifyMAC) == nil
}

// An authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	key := newECDSA(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(20, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func newECDSA(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a authority) person(t testing.TB, cn, org string) tls.Certificate {
	return a.issue(t, pkix.Name{CommonName: cn, Organization: []string{org}}, x509.ExtKeyUsageClientAuth)
}

func (a authority) issue(t testing.TB, name pkix.Name, use x509.ExtKeyUsage, change ...func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	return a.issueTo(t, newECDSA(t), name, use, change...)
}

// issueTo certifies that key.
func (a authority) issueTo(t testing.TB, key crypto.Signer, name pkix.Name, use x509.ExtKeyUsage, change ...func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: name, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use}, DNSNames: []string{"box1"}}
	for _, f := range change {
		f(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A faultyJournal is the real log with faults in front of it and behind it.
type faultyJournal struct {
	real          journal
	before, after atomic.Bool
	calls         atomic.Int64
	mu            sync.Mutex
	entries       []audit.Entry
}

var errFault = errors.New("fault injected")

func (f *faultyJournal) Append(ctx context.Context, entries ...audit.Entry) (audit.Committed, error) {
	f.calls.Add(1)
	if f.before.Load() {
		return audit.Committed{}, errFault
	}
	f.mu.Lock()
	f.entries = append(f.entries, entries...)
	f.mu.Unlock()
	done, err := f.real.Append(ctx, entries...)
	if f.after.Load() {
		return audit.Committed{}, errFault
	}
	return done, err
}

// last returns the last n entries that were written.
func (f *faultyJournal) last(n int) []audit.Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.entries[len(f.entries)-n:]
}
