package desk

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
	"github.com/keyrelease/krabox/tpm/tpmtest"
)

// A node is a machine with a TPM that becomes a platform.
type node struct {
	*tpm.Platform
	t   *testing.T
	tpm *tpmtest.TPM
	dir string
	of  *Desk
}

func newNode(t *testing.T, d *Desk, m *tpmtest.TPM) *node {
	t.Helper()
	n := &node{t: t, tpm: m, dir: t.TempDir(), of: d}
	n.open()
	return n
}

// open opens the identity, as the next run of a program does.
func (n *node) open() {
	n.t.Helper()
	if n.Platform != nil {
		_ = n.Close()
	}
	p, err := tpm.OpenPlatform(tpm.PlatformConfig{Device: n.tpm.Device(), Folder: n.dir, Domain: n.of.Domain(), EventLog: tpm.MachineLog(n.tpm.Device()), Now: time.Now})
	if err != nil {
		n.t.Fatal(err)
	}
	n.Platform = p
	n.t.Cleanup(func() { _ = p.Close() })
}

// joining is on the officer's word.
func (n *node) joining(name string, labels ...label.ID) Joining {
	n.t.Helper()
	text, err := n.Request(n.t.Context(), labels...)
	if err != nil {
		n.t.Fatal(err)
	}
	r, err := label.ParsePlatformRequest(text)
	if err != nil {
		n.t.Fatal(err)
	}
	return Joining{Request: text, Name: name, Release: Manifest{Version: "v1", Epoch: 3, Commit: "c"}, Seen: r.Fingerprint()}
}

func (n *node) joins(j Joining) {
	n.t.Helper()
	text, err := n.of.EnrolPlatform(j)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.Install(n.t.Context(), text); err != nil {
		n.t.Fatal(err)
	}
}

func fleetDesk(t *testing.T) *Desk {
	t.Helper()
	d := newDesk(t)
	for l, p := range map[label.ID]label.Part{"analysis": label.Client, "exchange": label.Peer, "intake": label.Server} {
		if err := d.Define(label.Definition{Domain: d.Domain().Name, Label: l, Part: p, Stages: []label.Stage{}, Description: "for tests"}); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// leaf has a fresh key certified.
func (n *node) leaf(l label.ID) ([]*x509.Certificate, *ecdsa.PrivateKey, error) {
	n.t.Helper()
	key := newSigner(n.t).(*ecdsa.PrivateKey)
	chain, err := n.Leaf(n.t.Context(), l, &key.PublicKey)
	var out []*x509.Certificate
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			n.t.Fatal(err)
		}
		out = append(out, c)
	}
	return out, key, err
}

// TestPlatformEnrols: a machine joins the fleet without giving up anything of its TPM, and signs in the approved state only.
func TestPlatformEnrols(t *testing.T) {
	d := fleetDesk(t)
	n := newNode(t, d, tpmtest.New(t))
	if _, _, err := n.leaf("analysis"); err == nil {
		t.Error("a leaf before enrolment")
	}
	n.joins(n.joining("build7", "analysis", "exchange", "intake"))
	n.open()
	for l, ok := range map[label.ID]bool{"analysis": true, "exchange": true, "intake": false} {
		chain, _, err := n.leaf(l)
		if (err == nil) != ok {
			t.Errorf("leaf of %s: %v", l, err)
		}
		if err != nil {
			continue
		}
		h, err := label.HolderOf(chain[1], x509.ExtKeyUsageClientAuth)
		if err != nil || h != (label.Holder{Domain: d.Domain().Name, Label: l, Name: "build7"}) {
			t.Errorf("%+v, %v", h, err)
		}
		if err := h.CheckLeaf(chain[0]); err != nil {
			t.Error(err)
		}
		goVerify(t, d, [][]byte{chain[0].Raw, chain[1].Raw}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, true)
		goVerify(t, d, [][]byte{chain[0].Raw, chain[1].Raw}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, false)
		opensslVerify(t, d, [][]byte{chain[0].Raw, chain[1].Raw}, true, "-purpose", "sslclient")
		opensslVerify(t, d, [][]byte{chain[0].Raw, chain[1].Raw}, false, "-purpose", "sslserver")
	}
	nonce, channel := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	s, err := n.Show(t.Context(), "exchange", nonce, channel)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(d.root)
	v, err := s.Confirmation.Verify(label.Asked{Roots: roots, Now: time.Now(), Nonce: nonce, Channel: channel})
	if err != nil || v.Box() != "build7" || v.Value().Label != "exchange" || v.Value().Version != 3 {
		t.Errorf("%+v, %v", v, err)
	}
	cert, err := x509.ParseCertificate(s.Confirmation.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	_, document, err := label.Description(cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Interpretation.Verify(label.Holder{Domain: d.Domain().Name, Label: "exchange", Name: "build7"}, cert, document, nonce, channel); err != nil {
		t.Error(err)
	}
	n.tpm.Extend(t, 11, sha256.Sum256([]byte("other software")))
	if _, _, err := n.leaf("analysis"); err == nil {
		t.Error("a leaf in a state that nobody approved")
	}
	if _, err := n.Show(t.Context(), "analysis", nonce, channel); err == nil {
		t.Error("a confirmation in a state that nobody approved")
	}
	j := n.joining("build7", "analysis")
	j.Release = Manifest{Version: "v2", Epoch: 4, Commit: "c"}
	text, err := d.ApprovePlatform(j)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Install(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.leaf("analysis"); err != nil {
		t.Errorf("after approval: %v", err)
	}
}

// TestPlatformEnrolmentRefuses: what is for another TPM, another folder or a box, is for nobody.
func TestPlatformEnrolmentRefuses(t *testing.T) {
	d := fleetDesk(t)
	n, other := newNode(t, d, tpmtest.New(t)), newNode(t, d, tpmtest.New(t))
	j := n.joining("build7", "analysis")
	theirs := other.joining("build8", "analysis")
	unseen := j
	unseen.Seen = ""
	swapped := j
	swapped.Seen = theirs.Seen
	for name, x := range map[string]Joining{"nobody vouches": unseen, "another's fingerprint": swapped} {
		if _, err := d.EnrolPlatform(x); err == nil {
			t.Errorf("%s: enrolled", name)
		}
	}
	if _, err := d.EnrolPlatform(n.joining("build7", "unknown")); err == nil {
		t.Error("a label that nobody defined")
	}
	if _, err := n.Request(t.Context(), label.KeyRelease); err == nil {
		t.Error("a label of boxes")
	}
	text, err := d.EnrolPlatform(j)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Install(t.Context(), text); err == nil {
		t.Error("installed in another TPM")
	}
	second := newNode(t, d, n.tpm)
	second.joining("build9", "analysis")
	if err := second.Install(t.Context(), text); err == nil {
		t.Error("installed in another folder")
	}
	if _, err := d.EnrolPlatform(j); err == nil {
		t.Error("the name is taken twice")
	}
	stranger := newNode(t, fleetDesk(t), tpmtest.New(t))
	if _, err := d.EnrolPlatform(stranger.joining("build10", "analysis")); err == nil {
		t.Error("a platform of another domain")
	}
}

// TestPrivateIdentities: of two identities of one TPM, neither certificates nor leaves nor what is shown says so.
func TestPrivateIdentities(t *testing.T) {
	d := fleetDesk(t)
	m := tpmtest.New(t)
	seen := map[string]string{}
	ek := ""
	for _, name := range []string{"heron", "otter"} {
		n := newNode(t, d, m)
		j := n.joining(name, "analysis")
		j.Private = true
		r, err := label.ParsePlatformRequest(j.Request)
		if err != nil {
			t.Fatal(err)
		}
		id := label.NameOf(r.EK.Public)
		ek = string(id[2:])
		n.joins(j)
		s, err := n.Show(t.Context(), "analysis", bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32))
		if err != nil {
			t.Fatal(err)
		}
		leaf, _, err := n.leaf("analysis")
		if err != nil {
			t.Fatal(err)
		}
		ak, err := x509.ParseCertificate(s.Confirmation.Platform)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(s.Bytes(), []byte(id.String())) || bytes.Contains(ak.Raw, []byte(id.String())) || bytes.Contains(ak.Raw, []byte(ek)) || ak.Subject.SerialNumber != "" {
			t.Errorf("%s: its endorsement key is named", name)
		}
		for what, c := range map[string]*x509.Certificate{"label": leaf[1], "platform": ak, "leaf": leaf[0]} {
			for part, b := range map[string][]byte{"key": c.RawSubjectPublicKeyInfo, "number": c.SerialNumber.Bytes(), "subject": c.RawSubject, "identifier": c.SubjectKeyId, "signature": c.Signature} {
				if len(b) == 0 {
					continue
				}
				if before, ok := seen[string(b)]; ok && before[:5] != name {
					t.Errorf("%s %s of %s is %s", what, part, name, before)
				}
				seen[string(b)] = name + " " + what + " " + part
			}
		}
		at := tpmsSigner(t, s.Confirmation.Quote.Attest)
		if before, ok := seen[at]; ok {
			t.Errorf("the quote of %s names the same key as %s", name, before)
		}
		seen[at] = name + " quote"
		_ = n.Close()
	}
	open := newNode(t, d, m)
	open.joins(open.joining("badger", "analysis"))
	s, err := open.Show(t.Context(), "", bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32))
	if err != nil {
		t.Fatal(err)
	}
	if ak, err := x509.ParseCertificate(s.Confirmation.Platform); err != nil || ak.Subject.SerialNumber == "" {
		t.Errorf("without -private the certificate names the endorsement key: %v", err)
	}
}

// tpmsSigner is the qualified name of the key in a TPMS_ATTEST.
func tpmsSigner(t *testing.T, attest []byte) string {
	t.Helper()
	n := int(attest[6])<<8 | int(attest[7])
	return string(attest[8 : 8+n])
}

// TestUnmeasuredHolders: a key that no TPM holds is certified as what it is, for whoever has it.
func TestUnmeasuredHolders(t *testing.T) {
	d := fleetDesk(t)
	key := newSigner(t)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	text, err := d.CertifyUnmeasured(csr, "analysis", "hsm1", false)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := pem.Decode(text)
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	h, err := label.HolderOf(c, x509.ExtKeyUsageClientAuth)
	if err != nil || !h.Unmeasured || h.Name != "hsm1" || h.Label != "analysis" || c.CheckSignatureFrom(d.root) != nil {
		t.Errorf("%+v, %v", h, err)
	}
	der[len(der)-1] ^= 1
	forged := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	for name, f := range map[string]func() ([]byte, error){
		"forged":      func() ([]byte, error) { return d.CertifyUnmeasured(forged, "analysis", "hsm2", false) },
		"a server":    func() ([]byte, error) { return d.CertifyUnmeasured(csr, "intake", "hsm2", false) },
		"of boxes":    func() ([]byte, error) { return d.CertifyUnmeasured(csr, label.KeyRelease, "hsm2", false) },
		"taken":       func() ([]byte, error) { return d.CertifyUnmeasured(csr, "analysis", "hsm1", false) },
		"not a name":  func() ([]byte, error) { return d.CertifyUnmeasured(csr, "analysis", "../x", false) },
		"not defined": func() ([]byte, error) { return d.CertifyUnmeasured(csr, "none", "hsm2", false) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: certified", name)
		}
	}
}

// TestPlatformRevoked: the certificates of a platform, measured or not, are on the root's list when it is revoked, for programs that know of
// X.509 only; and who replaces it under its name does not inherit for it.
func TestPlatformRevoked(t *testing.T) {
	d := fleetDesk(t)
	n, other := newNode(t, d, tpmtest.New(t)), newNode(t, d, tpmtest.New(t))
	n.joins(n.joining("build7", "analysis", "exchange"))
	if _, err := d.CertifyUnmeasured(csrOf(t, newSigner(t)), "analysis", "hsm1", false); err != nil {
		t.Fatal(err)
	}
	old, err := d.issued()
	if err != nil || len(old) != 5 { // analysis; exchange of both parts; the attestation key; hsm1
		t.Fatalf("%d certificates, %v", len(old), err)
	}
	listed := func(c issuedTo) bool {
		l, err := d.lastList()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range l.RevokedCertificateEntries {
			if e.SerialNumber.Cmp(c.cert.SerialNumber) == 0 {
				return true
			}
		}
		return false
	}
	for _, name := range []string{"build7", "hsm1"} {
		if _, err := d.Revoke(Whom{Name: name}); err != nil {
			t.Fatal(err)
		}
		for _, c := range old {
			if c.name == name && !listed(c) {
				t.Errorf("revoked: a certificate of %s for %q is not on the list", name, c.label)
			}
		}
		if _, err := d.Restore(Whom{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	j := other.joining("build7", "analysis")
	j.Replace = true
	other.joins(j)
	if _, err := d.CertifyUnmeasured(csrOf(t, newSigner(t)), "analysis", "hsm1", true); err != nil {
		t.Fatal(err)
	}
	s, err := d.Permissions()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range old {
		if err := s.Permissions.Allows("analysis", c.name, KeyOf(c.cert), time.Now()); !errors.Is(err, label.ErrRevoked) || !listed(c) {
			t.Errorf("replaced: a key of %s for %q: %v, listed %v", c.name, c.label, err, listed(c))
		}
	}
	now, err := d.issued()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range now {
		if err := s.Permissions.Allows("analysis", c.name, KeyOf(c.cert), time.Now()); err != nil || listed(c) {
			t.Errorf("the successor's key of %s for %q: %v, listed %v", c.name, c.label, err, listed(c))
		}
	}
}

func csrOf(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// TestPlatformAnsweredOnce: a captured request shows what ran once. It is not approved again as what runs now, nor under another version.
func TestPlatformAnsweredOnce(t *testing.T) {
	d := fleetDesk(t)
	n := newNode(t, d, tpmtest.New(t))
	j := n.joining("build7", "analysis")
	n.joins(j)
	j.Release.Version, j.Release.Epoch = "v9", 9
	_, err := d.ApprovePlatform(j)
	wantText(t, err, "this request was answered on", "kra platform request")
	j.Name = "build8"
	_, err = d.EnrolPlatform(j)
	wantText(t, err, "this request was answered on")
	again := n.joining("build7", "analysis")
	if _, err := d.ApprovePlatform(again); err != nil {
		t.Fatal(err)
	}
	_, err = d.ApprovePlatform(again)
	wantText(t, err, "this request was answered on")
	a := admission(t, asking(t, d).request(), predicted(d, "v1", 1))
	a.Box.Name, a.Replace = "build7", true
	_, err = d.Enrol(a)
	wantText(t, err, "build7 is the name of a platform in the books")
}

// TestPlatformBooks: a record that cannot be read, is another's, or is older than the journal, stops the desk.
func TestPlatformBooks(t *testing.T) {
	d := fleetDesk(t)
	n := newNode(t, d, tpmtest.New(t))
	n.joins(n.joining("build7", "analysis"))
	n.joins(n.joining("build8", "analysis"))
	theirs, err := fleetDesk(t).CertifyUnmeasured(csrOf(t, newSigner(t)), "analysis", "build7", false)
	if err != nil {
		t.Fatal(err)
	}
	mine, another := contents(t, d.platformFile("build7")), contents(t, d.platformFile("build8"))
	for name, c := range map[string]struct {
		text  []byte
		words string
	}{"spoilt": {mine[:len(mine)/2], "is not what a platform was answered"}, "another's": {another, "it is of another name"}, "of another domain": {theirs, "is not what a platform was answered"}} {
		putBack(t, d.platformFile("build7"), c.text)
		_, err := d.Revoke(Whom{Name: "build8"})
		t.Run(name, func(t *testing.T) { wantText(t, err, c.words) })
	}
	putBack(t, d.platformFile("build7"), mine)
	if _, err := d.Revoke(Whom{Name: "build8"}); err != nil {
		t.Error(err)
	}
	for who, want := range map[Whom]bool{{Name: "build8"}: true, {Name: "build8", Label: "analysis"}: true, {Name: "build8", Label: "exchange"}: false, {Name: "build9"}: false, {Key: label.Digest{1}}: false} {
		if got, err := d.concerns(who); err != nil || got != want {
			t.Errorf("%s concerns somebody: %v, %v; want %v", who, got, err, want)
		}
	}
	var out bytes.Buffer
	if err := Command([]string{"passport", "-dir", d.dir}, &out, io.Discard); err != nil || !strings.Contains(out.String(), "build7               platform, label analysis, until ") {
		t.Errorf("%s, %v", out.String(), err)
	}
}
