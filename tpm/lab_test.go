package tpm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"maps"
	"math/big"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/tpmtest"
	"github.com/keyrelease/krabox/tpm/wire"
)

// authority is a domain with all its keys.
type authority struct {
	domain          label.Domain
	root            *ecdsa.PrivateKey
	rootCertificate *x509.Certificate
	label, recovery *ecdsa.PrivateKey
	certificate     []byte // of label
	escrow          *age.X25519Identity
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{root: newKey(t), label: newKey(t), recovery: newKey(t)}
	var err error
	if a.escrow, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.root.Public(), a.root)
	if err != nil {
		t.Fatal(err)
	}
	if a.rootCertificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.domain = label.Domain{Name: name, Root: der, Label: domainKey(t, a.label), Recovery: domainKey(t, a.recovery), Escrow: a.escrow.Recipient().String()}
	a.certificate = a.certify(t, &a.label.PublicKey, &x509.Certificate{}, a.domain.AuthorityURI())
	return a
}

// certify has the root sign a certificate for signatures, under one name.
func (a *authority) certify(t testing.TB, key *ecdsa.PublicKey, c *x509.Certificate, uri string) []byte {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	c.URIs, c.KeyUsage, c.BasicConstraintsValid = []*url.URL{u}, x509.KeyUsageDigitalSignature, true
	c.NotBefore, c.NotAfter = a.rootCertificate.NotBefore, a.rootCertificate.NotAfter
	der, err := x509.CreateCertificate(rand.Reader, c, a.rootCertificate, key, a.root)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// platform certifies an attestation key.
func (a *authority) platform(t testing.TB, key *ecdsa.PublicKey, ek label.Name, box string) []byte {
	t.Helper()
	return a.certify(t, key, &x509.Certificate{Subject: pkix.Name{SerialNumber: ek.String()},
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{label.AttestationKeyUsage}}, a.domain.PlatformURI(box))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func domainKey(t testing.TB, k *ecdsa.PrivateKey) label.Key {
	t.Helper()
	p, err := label.NewKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (a *authority) desk() Desk         { return Desk{a.domain, label.ByLabel, a.label} }
func (a *authority) recoveryDesk() Desk { return Desk{a.domain, label.ByRecovery, a.recovery} }

// version is a release: what its boot extends before the stages.
type version struct {
	name  string
	epoch uint64
}

var v1, v2 = version{"v1", 1}, version{"v2", 2}

func (v version) events() map[int]string {
	return map[int]string{0: "firmware", 2: "option ROM", 4: "uki " + v.name, 7: "secure boot", 11: "sections " + v.name}
}

func (v version) release() Release {
	p := label.PCRs{12: {}, 13: {}}
	for i, e := range v.events() {
		d := sha256.Sum256([]byte(e))
		p[i] = sha256.Sum256(append(make([]byte, 32), d[:]...))
	}
	return Release{Version: v.epoch, Description: "release " + v.name, PCRs: p}
}

// certifyLabel makes a label certificate.
func (a *authority) certifyLabel(t testing.TB, k LabelKey, box string, from, until time.Time) []byte {
	t.Helper()
	uri, err := url.Parse(a.domain.LabelURI(k.Label, box))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: box}, NotBefore: from, NotAfter: until, URIs: []*url.URL{uri},
		IsCA: true, MaxPathLenZero: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, a.rootCertificate, k.Public, a.root)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// ofLabels are the approvals to sign, and the values, of a version under each built-in label: by presence where it wants an operator.
func (a *authority) ofLabels(t testing.TB, v version) (as []label.Approval, values []label.SignedValue) {
	t.Helper()
	for _, l := range label.Builtin() {
		for _, s := range l.Stages {
			r := v.release()
			r.PCRs[label.StagePCR] = s.Value()
			who := label.NoOperator
			if l.Operator {
				who = label.Presence
			}
			p, err := a.desk().Attend(l.Label, who, r)
			if err != nil {
				t.Fatal(err)
			}
			x, err := (label.Value{Domain: a.domain.Name, Label: l.Label, Version: v.epoch, Release: v.name, Commit: "abc", PCRs: r.PCRs}).Sign(a.label)
			if err != nil {
				t.Fatal(err)
			}
			as, values = append(as, p), append(values, x)
		}
	}
	return as, values
}

// approvals are the two of a version.
func approvals(t testing.TB, k Desk, v version) []label.Approval {
	t.Helper()
	var out []label.Approval
	for _, kind := range []label.Kind{label.Seal, label.Sign} {
		a, err := k.Approve(label.KeyRelease, kind, v.release())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
	return out
}

// bench is a box: a TPM, a disk, an image for a domain.
type bench struct {
	t   testing.TB
	tpm *tpmtest.TPM
	dir string
	of  *authority
	now time.Time
	*Agent

	answered Verified // the last request that was answered
	number   uint64   // of the last bundle
}

func newBench(t testing.TB, of *authority) *bench {
	t.Helper()
	b := &bench{t: t, tpm: tpmtest.New(t), dir: t.TempDir(), of: of, now: time.Now()}
	t.Cleanup(b.down)
	return b
}

func (b *bench) down() {
	if b.Agent != nil {
		_ = b.Agent.Close()
		b.Agent = nil
	}
}

// boot cuts the power and measures a version; the stages are the caller's.
func (b *bench) boot(v version) {
	b.t.Helper()
	b.down()
	b.tpm.Restart(b.t)
	b.measure(v)
	b.open()
}

func (b *bench) measure(v version) {
	b.t.Helper()
	for i, e := range v.events() {
		b.tpm.Extend(b.t, i, sha256.Sum256([]byte(e)))
	}
}

func (b *bench) config() Config {
	return Config{Device: b.tpm.Device(), Folder: b.dir, Domain: b.of.domain, Software: "test",
		EventLog: func() ([]byte, error) { return nil, nil }, Now: func() time.Time { return b.now }}
}

// open is a start of tpmd.
func (b *bench) open() {
	b.t.Helper()
	b.down()
	a, err := Open(b.config())
	if err != nil {
		b.t.Fatal(err)
	}
	b.Agent = a
}

func (b *bench) stage(s label.Stage) {
	b.t.Helper()
	if err := b.Extend(b.t.Context(), s); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) request() label.EnrolRequest {
	b.t.Helper()
	text, err := b.EnrolRequest(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := label.ParseRequest(text)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// bundle is what the desk answers to a request.
func (b *bench) bundle(r label.EnrolRequest, v version) label.Bundle {
	b.t.Helper()
	q, err := VerifyRequest(r, b.of.domain)
	if err != nil {
		b.t.Fatal(err)
	}
	b.answered = q
	first, err := b.of.desk().FirstEpoch(v.release())
	if err != nil {
		b.t.Fatal(err)
	}
	var labels []label.OfLabel
	for _, k := range q.Labels {
		labels = append(labels, label.OfLabel{Label: k.Label, Key: k.Name, Chain: [][]byte{b.of.certifyLabel(b.t, k, "box1", b.now.Add(-time.Hour), b.now.AddDate(5, 0, 0))}})
	}
	b.number++
	return label.Bundle{Domain: b.of.domain.Hash(), Sequence: b.number, Approvals: approvals(b.t, b.of.desk(), v), Enrolment: &label.Enrolment{
		SRK: q.SRK, Labels: labels, Epoch: first,
		Authority: b.of.certificate, Platform: b.of.platform(b.t, q.Attester, q.EK, "box1"), Passport: q.Passport(),
		Box:     label.Box{Name: "box1", DNS: []string{"box1.example"}, IP: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		Officer: label.Officer{Name: "alice", Hash: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA"}}}
}

func (b *bench) signed(x label.Bundle) []byte {
	b.t.Helper()
	text, err := x.Sign(b.of.label)
	if err != nil {
		b.t.Fatal(err)
	}
	if x.Enrolment == nil {
		return text
	}
	if text, err = b.answered.Seal(text); err != nil {
		b.t.Fatal(err)
	}
	return text
}

// enrol takes a factory box into service under v1, up to the first record, and leaves it at running.
func (b *bench) enrol() wire.Installed {
	b.t.Helper()
	b.boot(v1)
	b.stage(label.Running)
	i, err := b.EnrolInstall(b.t.Context(), b.signed(b.bundle(b.request(), v1)))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.WriteRecord(b.t.Context(), record(1)); err != nil {
		b.t.Fatal(err)
	}
	return i
}

func enrolled(t testing.TB) *bench {
	t.Helper()
	b := newBench(t, newAuthority(t, "example"))
	b.enrol()
	return b
}

func record(gen uint64) label.Record {
	return label.Record{Generation: gen, Root: sha256.Sum256([]byte{byte(gen)}), LogSize: 10 * gen, LogRoot: [32]byte{1}}
}

// give installs approvals only.
func (b *bench) give(as []label.Approval) {
	b.t.Helper()
	if _, err := b.EnrolInstall(b.t.Context(), b.signed(label.Bundle{Domain: b.of.domain.Hash(), Sequence: 1, Approvals: as})); err != nil {
		b.t.Fatal(err)
	}
}

// serve goes from a measured boot to running, as process 1 does.
func (b *bench) serve() (wire.Opened, error) {
	b.t.Helper()
	b.stage(label.Open)
	o, r, err := b.Unseal(b.t.Context())
	if err != nil {
		return o, err
	}
	if r.Generation == 0 {
		b.t.Error("record is empty")
	}
	b.stage(label.Running)
	return o, nil
}

func (b *bench) serves() wire.Opened {
	b.t.Helper()
	o, err := b.serve()
	if err != nil {
		b.t.Fatalf("serve: %v", err)
	}
	return o
}

// wantRefused checks that a decision was made, and its named reason.
func wantRefused(t testing.TB, err error, words ...string) {
	t.Helper()
	var r wire.Refused
	if !errors.As(err, &r) {
		t.Errorf("got %v; want a refusal", err)
		return
	}
	wantText(t, err, words...)
}

func wantText(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("got no error; want one with %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q lacks %q", err, w)
		}
	}
}

func with(p label.PCRs, i int, d label.Digest) label.PCRs {
	q := maps.Clone(p)
	q[i] = d
	return q
}
