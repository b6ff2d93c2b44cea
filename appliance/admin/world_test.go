package admin

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/book"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/boot/disks/diskstest"
	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
	"github.com/keyrelease/krabox/tpm/tpmtest"
	tpm "github.com/keyrelease/krabox/tpm/wire"
)

const (
	officer    = "olga"
	passphrase = "correct horse battery"
)

// A body1 is process 1 as far as these tests need one: it notes what it is asked for.
type body1 struct {
	asked   []string
	restart func() // what a restart comes to
	network machine.Network
	refuse  error
	refused int
	rack    *diskstest.Rack
	pulled  func() // what happens before a disk is written to
}

func (b *body1) did(what string) error {
	if b.refuse == nil {
		b.asked = append(b.asked, what)
	} else {
		b.refused++
	}
	return b.refuse
}

func (b *body1) Status(context.Context) (machine.Status, error) {
	return machine.Status{Mode: "enrolled", Stage: "running", Network: "eth0 has 10.0.2.15/24",
		Services: []machine.Service{{Name: "hsmd", State: machine.Ready, PID: 7}},
		Ports:    []machine.Port{{Name: "eth0", MAC: "52:54:00:12:34:56", Up: true, Addresses: []string{"10.0.2.15/24"}}}}, nil
}
func (b *body1) Reboot(context.Context) error {
	if b.restart != nil {
		b.restart()
	}
	return b.did("reboot")
}
func (b *body1) Maintenance(context.Context) error             { return b.did("maintenance") }
func (b *body1) PowerOff(context.Context) error                { return b.did("poweroff") }
func (b *body1) SetClock(_ context.Context, t time.Time) error { return b.did("clock " + stamp(t)) }
func (b *body1) Disks(context.Context) ([]machine.Disk, error) {
	if b.refuse != nil {
		return nil, b.refuse
	}
	return b.rack.Drawer.List()
}
func (b *body1) WriteDisk(_ context.Context, d machine.Disk, t machine.Title, text []byte) error {
	if b.pulled != nil {
		b.pulled()
	}
	return b.rack.Drawer.Write(d.Name, d.Mark, t, text)
}
func (b *body1) ReadDisk(_ context.Context, d machine.Disk) (string, error) {
	return b.rack.Drawer.Read(d.Name, d.Mark)
}
func (b *body1) SetNetwork(_ context.Context, n machine.Network) error {
	b.network = n
	return b.did("network " + string(n.Mode))
}

// A world is a box without its port: TPM, module, store and log are real.
type world struct {
	t      *testing.T
	dir    string
	desk   *desk.Desk
	tpmd   *tpmtest.Daemon
	hsmd   *hsmtest.Daemon
	body   *body1
	store  *store.Store
	log    *audit.Log
	book   atomic.Pointer[policy.Book]
	state  *store.State // that the book was made of
	fault  *faulty
	key    [32]byte
	closed bool

	vouched []store.Clock // what officers said of the clock

	*Agent                        // by become
	current atomic.Pointer[Agent] // the same, for consoles that run beside
	session wire.Session
}

// become makes an agent the one of this world.
func (w *world) become(a *Agent, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	w.Agent = a
	w.current.Store(a)
}

// factory makes a world that is not in service yet.
func factory(t *testing.T) *world {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "domain")
	if err := desk.Init(folder, "example"); err != nil {
		t.Fatal(err)
	}
	d, err := desk.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	return factoryOf(t, d)
}

// factoryOf makes one of a domain.
func factoryOf(t *testing.T, d *desk.Desk) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), body: &body1{rack: diskstest.New(t)}, desk: d}
	w.tpmd = tpmtest.StartDaemon(t, tpmtest.DaemonConfig{TPM: tpmtest.New(t), State: t.TempDir(), Domain: w.desk.Domain()})
	if err := w.tpmd.Init.Extend(t.Context(), label.Running); err != nil {
		t.Fatal(err)
	}
	w.become(New(Config{Mode: console.Factory, Domain: w.desk.Domain(), Version: "v1", TPM: w.tpmd.Client, Machine: w.body,
		Health: func() []string { return nil }, Install: w.install}))
	return w
}

func (w *world) storeFile() string { return filepath.Join(w.dir, "store.db") }

func (w *world) install(ctx context.Context, i tpm.Installed) (err error) {
	if w.key, err = i.StoreKey(); err != nil {
		return err
	}
	s, err := store.Create(ctx, w.storeFile(), w.key, w.tpmd.Client, store.BoxSet{Box: i.Box}, store.OfficerAdd{Name: i.Officer.Name, Hash: i.Officer.Hash, Duty: store.Chief})
	if err != nil {
		return err
	}
	return s.Close()
}

// enrol takes the box into service through its console, and begins again as the agent does after the restart.
// fingerprint is what an officer reads at the console beside the request.
func fingerprint(t testing.TB, shown string) string {
	t.Helper()
	m := regexp.MustCompile(`fingerprint is ([0-9a-f-]{39})`).FindStringSubmatch(shown)
	if m == nil {
		t.Fatalf("no fingerprint in %q", shown)
	}
	return m[1]
}

func (w *world) enrol() { w.t.Helper(); w.enrolAs("box1") }

func (w *world) enrolAs(box string) {
	w.t.Helper()
	first, err := desk.NewOfficer(officer, []byte(passphrase))
	if err != nil {
		w.t.Fatal(err)
	}
	shown := w.do("enrol request")
	b, _ := pem.Decode([]byte(shown))
	if b == nil {
		w.t.Fatal("enrol request shows no PEM block")
	}
	bundle, err := w.desk.Enrol(desk.Admission{Request: pem.EncodeToMemory(b), Release: desk.Release{Manifest: desk.Manifest{Version: "v1", Epoch: 1}, Trust: desk.AsObserved},
		Box:     label.Box{Name: box, DNS: []string{box + ".example"}, IP: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		Officer: first, Seen: fingerprint(w.t, shown)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.do("enrol install", string(bundle))
	if got := strings.Join(w.body.asked, ","); got != "reboot" {
		w.t.Fatalf("after the enrolment process 1 was asked for %q", got)
	}
	w.serve()
}

// serve opens what was enrolled.
func (w *world) serve() {
	w.t.Helper()
	nv, err := w.tpmd.Client.Record(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	accepted, err := store.Open(w.storeFile(), w.key, nv)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.log, err = audit.Open(filepath.Join(w.dir, "log"), audit.Options{Key: [32]byte{7}, Box: "box1", Now: time.Now, SegmentSize: 1 << 20}); err != nil {
		w.t.Fatal(err)
	}
	w.rekey()
	w.store, err = accepted.Boot(w.t.Context(), w.tpmd.Client, func() (uint64, [32]byte) { h := w.log.Head(); return uint64(h.Size), h.Root })
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := errors.Join(w.store.Close(), w.log.Close()); err != nil && !w.closed {
			w.t.Error(err)
		}
	})
	w.hsmd = hsmtest.Start(w.t)
	w.fault = &faulty{Client: w.hsmd.Client(), tpm: w.tpmd.Client}
	w.token()
	if _, err := w.prepare(w.store.State()); err != nil {
		w.t.Fatal(err)
	}
	use, err := w.prepare(w.store.State())
	if err != nil {
		w.t.Fatal(err)
	}
	use()
	w.start()
}

func (w *world) rekey() {
	w.t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		w.t.Fatal(err)
	}
	chain, err := w.tpmd.Client.LeafReceipt(w.t.Context(), spki)
	if err != nil {
		w.t.Fatal(err)
	}
	path, err := receipt.NewPath(chain)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.log.Rekey(w.t.Context(), key, path); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) token() {
	w.t.Helper()
	open := hsmtest.Token()
	pins := store.PINSet{User: store.NewSecret(open.PIN), SO: store.NewSecret(open.SOPIN)}
	i, err := w.fault.Open(w.t.Context(), open)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.store.Commit(w.t.Context(), pins, store.TokenSet{Files: i.Files}); err != nil {
		w.t.Fatal(err)
	}
}

// prepare compiles the book, as krad does.
func (w *world) prepare(next *store.State) (func(), error) {
	edit, err := book.Edit(next, w.state, next.Since(w.state))
	if err != nil {
		return nil, err
	}
	b, err := w.book.Load().Revise(next.Generation()+1, edit)
	return func() { w.book.Store(b); w.state = next }, err
}

// start makes the agent of an enrolled box: nobody is logged in.
func (w *world) start() {
	w.t.Helper()
	root, err := w.desk.Domain().Certificate()
	if err != nil {
		w.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	w.become(New(Config{Mode: console.Enrolled, Domain: w.desk.Domain(), Version: "v1", Roots: roots, Started: time.Now(), TPM: w.fault.tpmd(),
		Machine: w.body, Store: w.store, HSM: w.fault, Log: w.log, Book: w.book.Load, Prepare: w.prepare,
		Try:    func(next *store.State) error { _, err := w.prepare(next); return err },
		Clock:  func() (bool, string) { c := w.store.State().Clock(); return !c.Time.IsZero(), string(c.Source) },
		Trust:  func(c store.Clock) { w.vouched = append(w.vouched, c) },
		Health: func() []string { return nil }, Erase: func() error { return w.body.did("erase") }}))
	w.session = ""
}

// enrolled makes a world in service with its officer logged in.
func enrolled(t *testing.T) *world {
	t.Helper()
	w := factory(t)
	w.enrol()
	w.login()
	return w
}

func (w *world) login() {
	w.t.Helper()
	var err error
	if w.session, err = w.Login(w.t.Context(), wire.Credentials{Officer: officer, Passphrase: passphrase}); err != nil {
		w.t.Fatal(err)
	}
}

// try runs a line.
func (w *world) try(line string, answers ...string) (string, wire.Outcome) {
	var out bytes.Buffer
	o := w.Do(w.t.Context(), wire.Request{Session: w.session, Line: line, Answers: answers}, &out)
	return out.String(), o
}

// do runs a line that must succeed, and holds what it shows to the terminal's width.
func (w *world) do(line string, answers ...string) string {
	w.t.Helper()
	out, o := w.try(line, answers...)
	if o.Error != "" || o.Ask != nil {
		w.t.Fatalf("%s: %+v %+v\n%s", line, o, o.Ask, out)
	}
	if strings.HasPrefix(line, "log export") || strings.HasSuffix(line, "| json") {
		return out
	}
	for l := range strings.SplitSeq(out, "\n") {
		if len([]rune(l)) >= columns {
			w.t.Errorf("%s shows a line of %d columns: %q", line, len([]rune(l)), l)
		}
	}
	return out
}

// fail runs a line that must fail with an error that has all the parts, and must not change the state.
func (w *world) fail(line string, answers []string, parts ...string) string {
	w.t.Helper()
	before := w.store.State().Root()
	out, o := w.try(line, answers...)
	for _, p := range parts {
		if !strings.Contains(o.Error, p) {
			w.t.Errorf("%s: error %q, want %q", line, o.Error, p)
		}
	}
	if o.Error == "" {
		w.t.Errorf("%s succeeded:\n%s", line, out)
	}
	if w.store.State().Root() != before {
		w.t.Errorf("%s failed and changed the state", line)
	}
	return o.Error
}

// has wants all the parts in what a line shows.
func (w *world) has(line string, parts ...string) {
	w.t.Helper()
	out := w.do(line)
	for _, p := range parts {
		if !strings.Contains(out, p) {
			w.t.Errorf("%s lacks %q:\n%s", line, p, out)
		}
	}
}

// A faulty passes everything on to the real module and TPM, and can be told to fail: before the thing is done or after.
type faulty struct {
	*hsm.Client
	tpm       *tpm.Client
	certify   error // LeafKeyRelease fails with it
	holdings  error // Holdings fails with it
	destroyed int
	stored    func() hsm.Token
}

func (f *faulty) Destroy(ctx context.Context, id block.KeyID) (hsm.Files, error) {
	f.destroyed++
	return f.Client.Destroy(ctx, id)
}

// Refresh opens the token that the store has, where a test says so.
func (f *faulty) Refresh(ctx context.Context) error {
	if f.stored == nil {
		return nil
	}
	_, err := f.Open(ctx, f.stored())
	return err
}

func (f *faulty) tpmd() platform { return &faultyTPM{f.tpm, f} }

type faultyTPM struct {
	*tpm.Client
	f *faulty
}

func (p *faultyTPM) Holdings(ctx context.Context) ([]tpm.Holding, error) {
	if p.f.holdings != nil {
		return nil, p.f.holdings
	}
	return p.Client.Holdings(ctx)
}

func (p *faultyTPM) LeafImport(ctx context.Context, spki []byte) ([][]byte, error) {
	if p.f.certify != nil {
		return nil, p.f.certify
	}
	return p.Client.LeafImport(ctx, spki)
}

func (p *faultyTPM) LeafKeyRelease(ctx context.Context, spki []byte, access string, u tpm.Usage) ([][]byte, error) {
	if p.f.certify != nil {
		return nil, p.f.certify
	}
	return p.Client.LeafKeyRelease(ctx, spki, access, u)
}

// people makes a certification authority of persons, in PEM.
func people(t *testing.T, cn string) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
