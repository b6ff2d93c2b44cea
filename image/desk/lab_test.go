package desk

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
	"github.com/keyrelease/krabox/tpm/tpmtest"
)

func newDesk(t *testing.T) *Desk {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "domain")
	if err := Init(dir, "example.org"); err != nil {
		t.Fatal(err)
	}
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// event is one line of a firmware's log.
type event struct {
	pcr  int
	what string
}

func boot(uki string) []event {
	return []event{{0, "firmware"}, {2, "option ROM"}, {7, "secure boot"}, {4, uki}, {11, "sections of " + uki}}
}

// measure extends a TPM and writes the log of it.
func measure(t *testing.T, m *tpmtest.TPM, events []event) []byte {
	t.Helper()
	le := binary.LittleEndian
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0)
	log := le.AppendUint32(le.AppendUint32(nil, 0), 3)
	log = append(append(log, make([]byte, 20)...), le.AppendUint32(nil, uint32(len(spec)))...)
	log = append(log, spec...)
	for _, e := range events {
		d := sha256.Sum256([]byte(e.what))
		m.Extend(t, e.pcr, d)
		for _, n := range []uint32{uint32(e.pcr), 0x80000003, 1} {
			log = le.AppendUint32(log, n)
		}
		log = append(le.AppendUint16(log, 0x0b), d[:]...)
		log = append(le.AppendUint32(log, uint32(len(e.what))), e.what...)
	}
	return log
}

// predicted is what the build would say of boot(uki).
func predicted(of *Desk, uki string, epoch uint64) Release {
	once := func(s string) label.Digest {
		d := sha256.Sum256([]byte(s))
		return sha256.Sum256(append(make([]byte, 32), d[:]...))
	}
	return Release{Manifest: Manifest{Version: uki, Epoch: epoch, Commit: "0123456789abcdef", Domain: Hash{of.Domain().Hash()}, PCR4: once(uki), PCR7: once("secure boot"), PCR11: once("sections of " + uki)}, Trust: AsPredicted, FirmwareAsSeen: true}
}

// box is a machine with an image of the domain.
type box struct {
	t   *testing.T
	tpm *tpmtest.TPM
	dir string
	of  *Desk
	*tpm.Agent
}

func newBox(t *testing.T, of *Desk) *box {
	t.Helper()
	return &box{t: t, tpm: tpmtest.New(t), dir: t.TempDir(), of: of}
}

// boot measures and starts tpmd's part; the stages are the caller's.
func (b *box) boot(events []event) {
	b.t.Helper()
	if b.Agent != nil {
		_ = b.Agent.Close()
	}
	b.tpm.Restart(b.t)
	log := measure(b.t, b.tpm, events)
	b.start(func() ([]byte, error) { return log, nil })
}

func (b *box) start(log func() ([]byte, error)) {
	b.t.Helper()
	a, err := tpm.Open(tpm.Config{Device: b.tpm.Device(), Folder: b.dir, Domain: b.of.Domain(), Software: "test", EventLog: log, Now: time.Now})
	if err != nil {
		b.t.Fatal(err)
	}
	b.Agent = a
	b.t.Cleanup(func() { _ = a.Close() })
}

func (b *box) stage(s label.Stage) {
	b.t.Helper()
	if err := b.Extend(b.t.Context(), s); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) request() []byte {
	b.t.Helper()
	text, err := b.EnrolRequest(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

func (b *box) serve() error {
	b.t.Helper()
	b.stage(label.Open)
	if _, _, err := b.Unseal(b.t.Context()); err != nil {
		return err
	}
	b.stage(label.Running)
	return nil
}

var one = label.Box{Name: "box1", DNS: []string{"box1.example.org"}, IP: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fd00::1")}}

func alice(t *testing.T) label.Officer {
	t.Helper()
	o, err := NewOfficer("alice", []byte("correct horse battery"))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// admission is on the officer's word, who has read the fingerprint.
func admission(t *testing.T, request []byte, r Release) Admission {
	t.Helper()
	seen, err := Fingerprint(request)
	if err != nil {
		t.Fatal(err)
	}
	return Admission{Request: request, Release: r, Box: one, Officer: alice(t), Seen: seen}
}

// enrolled is a box in service under uki "v1".
func enrolled(t *testing.T, d *Desk) *box {
	t.Helper()
	b := newBox(t, d)
	b.boot(boot("v1"))
	b.stage(label.Running)
	text, err := d.Enrol(admission(t, b.request(), predicted(d, "v1", 1)))
	if err != nil {
		t.Fatal(err)
	}
	i, err := b.EnrolInstall(t.Context(), text)
	if err != nil || !i.NeedsStore || i.Officer.Name != "alice" || i.Box.Name != "box1" {
		t.Fatalf("installed %+v, %v", i, err)
	}
	if err := b.WriteRecord(t.Context(), label.Record{Generation: 1}); err != nil {
		t.Fatal(err)
	}
	return b
}

func wantText(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("got no error; want %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q lacks %q", err, w)
		}
	}
}

func newSigner(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func goVerify(t *testing.T, d *Desk, chain [][]byte, usages []x509.ExtKeyUsage, ok bool) {
	t.Helper()
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(d.root)
	for _, der := range chain[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(c)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	if usages == nil {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: usages}); (err == nil) != ok {
		t.Errorf("Go verifies: %v; want ok %v", err, ok)
	}
}

func opensslVerify(t *testing.T, d *Desk, chain [][]byte, ok bool, extra ...string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, ders ...[]byte) string {
		var b bytes.Buffer
		for _, der := range ders {
			b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	args := append([]string{"verify", "-x509_strict", "-CAfile", filepath.Join(d.dir, RootFile)}, extra...)
	if len(chain) > 1 {
		args = append(args, "-untrusted", write("between.pem", chain[1:]...))
	}
	out, err := exec.Command("openssl", append(args, write("leaf.pem", chain[0]))...).CombinedOutput()
	if (err == nil) != ok {
		t.Errorf("openssl %s: %v; want ok %v: %s", strings.Join(extra, " "), err, ok, out)
	}
}

func publicPEM(t *testing.T, k crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
func named(who string) pkix.Name { return pkix.Name{CommonName: who} }
