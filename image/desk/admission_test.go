package desk

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
	"github.com/keyrelease/krabox/tpm/tpmtest"
)

// certified is a factory box at running, whose TPM the vendor has certified.
func certified(t *testing.T, d *Desk, v tpmtest.Vendor) *box {
	t.Helper()
	b := &box{t: t, tpm: v.New(t), dir: t.TempDir(), of: d}
	b.boot(boot("v1"))
	b.stage(label.Running)
	return b
}

// asking is one that nobody certified.
func asking(t *testing.T, d *Desk) *box {
	t.Helper()
	b := newBox(t, d)
	b.boot(boot("v1"))
	b.stage(label.Running)
	return b
}

// onCertificate is an admission on the word of the TPM's maker.
func onCertificate(t *testing.T, d *Desk, request []byte) Admission {
	t.Helper()
	a := admission(t, request, predicted(d, "v1", 1))
	a.Seen = ""
	return a
}

func believe(t *testing.T, d *Desk, v tpmtest.Vendor) {
	t.Helper()
	var all []byte
	for _, path := range v.Certificates() {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	if err := d.TrustVendor("swtpm", all); err != nil {
		t.Fatal(err)
	}
}

func parsedRequest(t *testing.T, text []byte) label.EnrolRequest {
	t.Helper()
	q, err := label.ParseRequest(text)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// A box is enrolled on the word of its TPM's maker, if the domain believes that one; OpenSSL says the same of the certificate.
func TestEndorsement(t *testing.T) {
	d, v := newDesk(t), tpmtest.NewVendor(t)
	b := certified(t, d, v)
	request := b.request()
	_, err := d.Enrol(onCertificate(t, d, request))
	wantText(t, err, "endorsement certificate: no vendor in", "-first-seen FINGERPRINT")
	believe(t, d, v)
	q := parsedRequest(t, request)
	opensslEndorses(t, d, v, q, true)
	text, err := d.Enrol(onCertificate(t, d, request))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.EnrolInstall(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	all, _, err := d.Journal()
	if err != nil || !strings.Contains(all[len(all)-1].Facts["tpm"], "genuine: manufacturer") || !strings.Contains(all[len(all)-1].Facts["tpm"], "swtpm-localca") {
		t.Errorf("journal: %+v, %v", all, err)
	}
	stranger := certified(t, d, tpmtest.NewVendor(t))
	_, err = d.Enrol(onCertificate(t, d, stranger.request()))
	wantText(t, err, "endorsement certificate: no vendor in")
	opensslEndorses(t, d, v, parsedRequest(t, stranger.request()), false)
}

func opensslEndorses(t *testing.T, d *Desk, v tpmtest.Vendor, q label.EnrolRequest, ok bool) {
	t.Helper()
	leaf := filepath.Join(t.TempDir(), "ek.der")
	if err := os.WriteFile(leaf, q.EK.Certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("openssl", "verify", "-ignore_critical", "-CAfile", v.Certificates()[0], "-untrusted", v.Certificates()[1], leaf).CombinedOutput()
	if (err == nil) != ok {
		t.Errorf("openssl verify: %v; want ok %v: %s", err, ok, out)
	}
}

// The certificate must be of the very key of the request, and of a form that the profile knows.
func TestEndorsementOfAnother(t *testing.T) {
	d, v := newDesk(t), tpmtest.NewVendor(t)
	one, two := certified(t, d, v), certified(t, d, v)
	believe(t, d, v)
	q := parsedRequest(t, one.request())
	verified, err := tpm.VerifyRequest(q, d.domain)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := d.genuine(verified); err != nil || m.model == "" || m.version == "" {
		t.Fatalf("genuine() = %+v, %v", m, err)
	}
	theirs := parsedRequest(t, two.request()).EK
	verified.Request.EK.Certificate = theirs.Certificate
	_, err = d.genuine(verified)
	wantText(t, err, "the endorsement certificate is of another TPM")
	verified.Request.EK.Certificate = []byte("no certificate")
	_, err = d.genuine(verified)
	wantText(t, err, "endorsement certificate: x509")
	// the maker's own authority is no TPM
	issuer, err := os.ReadFile(v.Certificates()[1])
	if err != nil {
		t.Fatal(err)
	}
	verified.Request.EK.Certificate = derOf(t, issuer)
	_, err = d.genuine(verified)
	wantText(t, err, "it does not say which TPM it is of")
	verified.Request.EK.Certificate = parsedRequest(t, one.request()).EK.Certificate
	if _, err := d.genuine(verified); err != nil {
		t.Errorf("undone: %v", err)
	}
}

// A critical extension that nobody here understands is not let through, and neither is another alternative name.
func TestEndorsementProfile(t *testing.T) {
	d, v := newDesk(t), tpmtest.NewVendor(t)
	b := certified(t, d, v)
	believe(t, d, v)
	q := parsedRequest(t, b.request())
	fresh := func() *x509.Certificate {
		c, err := x509.ParseCertificate(q.EK.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if len(fresh().UnhandledCriticalExtensions) != 1 {
		t.Fatalf("control: crypto/x509 leaves %v", fresh().UnhandledCriticalExtensions)
	}
	if _, err := d.endorsement(fresh(), nil); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		word   string
	}{
		"another critical extension": {func(c *x509.Certificate) {
			c.UnhandledCriticalExtensions = append(c.UnhandledCriticalExtensions, []int{1, 2, 3})
		}, "unhandled critical extension"},
		"another usage":    {func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }, "not for an endorsement key"},
		"a CA":             {func(c *x509.Certificate) { c.IsCA = true }, "key usage"},
		"signs":            {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDigitalSignature }, "key usage"},
		"no alternative":   {func(c *x509.Certificate) { c.Extensions = nil }, "does not say which TPM"},
		"names a host":     {func(c *x509.Certificate) { alter(t, c, []byte{0x30, 3, 0x82, 1, 'a'}) }, "not one directory name"},
		"names no model":   {func(c *x509.Certificate) { alter(t, c, []byte{0x30, 4, 0xa4, 2, 0x30, 0}) }, "does not name manufacturer"},
		"name with a tail": {func(c *x509.Certificate) { alter(t, c, []byte{0x30, 6, 0xa4, 4, 0x30, 0, 5, 0}) }, "not one directory name"},
		"two names":        {func(c *x509.Certificate) { alter(t, c, []byte{0x30, 8, 0xa4, 2, 0x30, 0, 0xa4, 2, 0x30, 0}) }, "not one directory name"},
		"altered otherwise": {func(c *x509.Certificate) {
			c.Signature[9] ^= 1
			c.RawTBSCertificate = append([]byte{}, c.RawTBSCertificate...)
		}, "no vendor in"},
	} {
		x := fresh()
		c.change(x)
		_, err := d.endorsement(x, nil)
		t.Run(name, func(t *testing.T) { wantText(t, err, c.word) })
	}
}

// alter puts another alternative name into a parsed certificate.
func alter(t *testing.T, c *x509.Certificate, value []byte) {
	t.Helper()
	for i, e := range c.Extensions {
		if e.Id.Equal(alternativeName) {
			c.Extensions[i].Value = value
			return
		}
	}
	t.Fatal("no alternative name")
}

// What is no authority is not believed.
func TestVendorRefused(t *testing.T) {
	d := newDesk(t)
	leaf, err := os.ReadFile(filepath.Join(d.dir, AuthorityFile))
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(filepath.Join(d.dir, RootFile))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"nothing": nil, "leaf": leaf, "both": append(append([]byte{}, root...), leaf...), "key": []byte("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n")} {
		wantText(t, d.TrustVendor("maker", text), "believe vendor")
		if files, _ := filepath.Glob(filepath.Join(d.dir, vendorsDir, "*")); len(files) != 0 {
			t.Errorf("%s: left %v", name, files)
		}
	}
	wantText(t, d.TrustVendor("../maker", root), "its name")
}

// Without a maker's word it takes the officer's, who has read the fingerprint of this very request at the console.
func TestFirstSeen(t *testing.T) {
	d := newDesk(t)
	b, other := asking(t, d), asking(t, d)
	a := admission(t, b.request(), predicted(d, "v1", 1))
	right := a.Seen
	for _, wrong := range []string{"", admission(t, other.request(), predicted(d, "v1", 1)).Seen, right[:len(right)-1], "-", right + "0"} {
		a.Seen = wrong
		_, err := d.Enrol(a)
		if wrong == "" {
			wantText(t, err, "no endorsement certificate")
		} else {
			wantText(t, err, "not from the box whose console you read")
		}
	}
	a.Seen = strings.ToUpper(strings.ReplaceAll(right, "-", ""))
	text, err := d.Enrol(a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.EnrolInstall(t.Context(), text); err != nil {
		t.Error(err)
	}
}

// Firmware is approved by model, or taken as seen on the officer's word; a new one is refused until it is approved.
func TestFirmwareList(t *testing.T) {
	d := newDesk(t)
	b := asking(t, d)
	listed := func(request []byte) Admission {
		a := admission(t, request, predicted(d, "v1", 1))
		a.Release.FirmwareAsSeen = false
		return a
	}
	_, err := d.Enrol(listed(b.request()))
	wantText(t, err, `the firmware of model "unknown" is not approved`, "nothing of this model is on the list", "-firmware-as-seen")
	_, err = d.ApproveFirmware(b.request(), "1.0", "")
	wantText(t, err, "no endorsement certificate")
	if _, err := d.ApproveFirmware(b.request(), "1.0", fingerprintOf(t, b.request())); err != nil {
		t.Fatal(err)
	}
	_, err = d.ApproveFirmware(b.request(), "1.0", fingerprintOf(t, b.request()))
	wantText(t, err, "on the list already")
	text, err := d.Enrol(listed(b.request()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.EnrolInstall(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	events := boot("v1")
	events[0].what = "new firmware"
	b.boot(events)
	b.stage(label.Running)
	next := b.request()
	_, err = d.Enrol(listed(next))
	wantText(t, err, "is not approved", "the list has PCR 0")
	r := predicted(d, "v1", 1)
	r.FirmwareAsSeen = false
	_, err = d.ApproveFleet(r, next)
	wantText(t, err, "is not approved")
	if _, err := d.ApproveFirmware(next, "1.1", ""); err != nil {
		t.Fatal(err)
	}
	if text, err = d.ApproveFleet(r, next); err != nil {
		t.Fatal(err)
	}
	if _, err := label.OpenBundle(text, d.domain); err != nil {
		t.Error(err)
	}
	unmeasured := newBox(t, d)
	unmeasured.start(func() ([]byte, error) { return nil, nil })
	unmeasured.stage(label.Running)
	_, err = d.ApproveFirmware(unmeasured.request(), "", "")
	wantText(t, err, "it measures nothing")
}

// A request is answered once, a name is one platform's, and a platform has one name, unless the officer says otherwise.
func TestBooks(t *testing.T) {
	d := newDesk(t)
	b, other := asking(t, d), asking(t, d)
	a := admission(t, b.request(), predicted(d, "v1", 1))
	if _, err := d.Enrol(a); err != nil {
		t.Fatal(err)
	}
	_, err := d.Enrol(a)
	wantText(t, err, "this request was answered on", "for box1")
	if _, err := d.Enrol(admission(t, b.request(), predicted(d, "v1", 1))); err != nil {
		t.Errorf("the same platform under the same name, by a new request: %v", err)
	}
	_, err = d.Enrol(admission(t, other.request(), predicted(d, "v1", 1)))
	wantText(t, err, "box1 is another platform in the books", "-replace")
	renamed := admission(t, b.request(), predicted(d, "v1", 1))
	renamed.Box.Name = "box2"
	_, err = d.Enrol(renamed)
	wantText(t, err, "this platform is in the books as box1")
	renamed.Replace = true
	lines, err := d.Preview(renamed)
	if err != nil || !strings.Contains(strings.Join(lines, "\n"), "replaces   box1") {
		t.Errorf("Preview() = %q, %v", lines, err)
	}
	if _, err := d.Enrol(renamed); err != nil {
		t.Fatal(err)
	}
	if files, _ := filepath.Glob(filepath.Join(d.dir, boxesDir, "*.pem")); len(files) != 1 || filepath.Base(files[0]) != "box2.pem" {
		t.Errorf("books: %v", files)
	}
}

// Nothing leaves a desk whose journal does not verify.
func TestJournalSpoilt(t *testing.T) {
	d := newDesk(t)
	b := asking(t, d)
	path := filepath.Join(d.dir, journalFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(text, []byte("example.org"), []byte("example.com"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = d.Enrol(admission(t, b.request(), predicted(d, "v1", 1)))
	wantText(t, err, "read journal, entry 1: not signed by the domain's label key")
	wantText(t, d.note(actEnrol, "box1", nil), "note in journal")
	if files, _ := filepath.Glob(filepath.Join(d.dir, boxesDir, "*.pem")); len(files) != 0 {
		t.Errorf("books: %v", files)
	}
}

// The label certificate's reference leads to the description on the domain's server, and the hash in it is the document's.
func TestDescriptionResolves(t *testing.T) {
	d := newDesk(t)
	enrolled(t, d)
	text, err := os.ReadFile(filepath.Join(d.dir, boxesDir, "box1.pem"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := label.OpenBundle(text, d.domain)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(b.Enrolment.Labels[0].Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	uri, hash, err := label.Description(c)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(d.dir, PublicDir))))
	defer s.Close()
	r, err := http.Get(s.URL + label.DescriptionPath(hash))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	var doc bytes.Buffer
	if _, err := doc.ReadFrom(r.Body); err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", uri, r.Status, err)
	}
	ours, err := descriptions.ReadFile("labels/key-release.txt")
	if err != nil {
		t.Fatal(err)
	}
	if d.domain.DescriptionURI(doc.Bytes()) != uri || !bytes.Equal(doc.Bytes(), ours) {
		t.Errorf("%s leads to a document of another hash", uri)
	}
	out, err := exec.Command("openssl", "x509", "-inform", "der", "-noout", "-ext", "certificatePolicies", "-in", pathOf(t, b.Enrolment.Labels[0].Chain[0])).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "CPS: "+uri) {
		t.Errorf("openssl shows %s, %v", out, err)
	}
	// the domain may describe its service in its own words, from the next certificate on
	own := filepath.Join(d.dir, labelsDir, "key-release.txt")
	if err := os.WriteFile(own, []byte("ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	if e, err := d.described(label.KeyRelease); err != nil || !bytes.Contains(e.Value, []byte(d.domain.DescriptionURI([]byte("ours")))) {
		t.Errorf("described() = %q, %v", e.Value, err)
	}
	if err := os.Truncate(own, 0); err != nil {
		t.Fatal(err)
	}
	_, err = d.described(label.KeyRelease)
	wantText(t, err, "describe label")
}

func derOf(t *testing.T, text []byte) []byte {
	t.Helper()
	b, _ := pem.Decode(text)
	if b == nil {
		t.Fatal("no PEM")
	}
	return b.Bytes
}

func pathOf(t *testing.T, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.der")
	if err := os.WriteFile(path, der, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func fingerprintOf(t *testing.T, request []byte) string {
	t.Helper()
	f, err := Fingerprint(request)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Machines to approve for are believed like boxes: by a maker, a fingerprint read at the console, or an enrolment.
func TestLikeIsVouchedFor(t *testing.T) {
	d := newDesk(t)
	enrolled(t, d)
	stranger := asking(t, d)
	r := predicted(d, "v2", 1)
	_, err := d.ApproveFleet(r, stranger.request())
	wantText(t, err, "no endorsement certificate", "-first-seen FINGERPRINT")
	_, err = d.Advance(r, stranger.request())
	wantText(t, err, "no endorsement certificate")
	r.Seen = []string{"0000-1111", fingerprintOf(t, stranger.request())}
	if _, err := d.ApproveFleet(r, stranger.request()); err != nil {
		t.Errorf("its fingerprint was read: %v", err)
	}
	v := tpmtest.NewVendor(t)
	b := certified(t, d, v)
	r.Seen = nil
	_, err = d.ApproveFleet(r, b.request())
	wantText(t, err, "endorsement certificate: no vendor in")
	believe(t, d, v)
	if _, err := d.ApproveFleet(r, b.request()); err != nil {
		t.Errorf("its maker vouches for it: %v", err)
	}
}

// An act that was cut short while it was noted, by a full disk or a loss of power, was not done: the journal goes on without it.
func TestJournalCutShort(t *testing.T) {
	d := newDesk(t)
	path := filepath.Join(d.dir, journalFile)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.note("try", "it", nil); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{len(before) + 1, len(text) - 1} {
		if err := os.WriteFile(path, text[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if all, _, err := d.Journal(); err != nil || len(all) != 1 {
			t.Errorf("cut at %d: %d acts, %v", n, len(all), err)
		}
		if err := d.note("again", "it", nil); err != nil {
			t.Errorf("cut at %d: %v", n, err)
		}
		all, _, err := d.Journal()
		if err != nil || len(all) != 2 || all[1].Act != "again" {
			t.Errorf("cut at %d, and gone on: %v, %v", n, all, err)
		}
	}
	if err := os.WriteFile(path, text[:len(before)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	wantText(t, d.note("try", "it", nil), "this domain's journal is gone")
}
