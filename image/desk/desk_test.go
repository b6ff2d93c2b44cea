package desk

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
	"github.com/keyrelease/krabox/tpm/wire"
)

func TestEnrol(t *testing.T) {
	d := newDesk(t)
	b := enrolled(t, d)
	b.boot(boot("v1"))
	if err := b.serve(); err != nil {
		t.Fatal(err)
	}
	key := newSigner(t)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	chain, err := b.LeafTLS(t.Context(), spki)
	if err != nil {
		t.Fatal(err)
	}
	opensslVerify(t, d, chain, true, "-purpose", "sslserver", "-verify_hostname", "box1.example.org")
	if chain, err = b.LeafKeyRelease(t.Context(), spki, "legal-team", wire.Agreement); err != nil {
		t.Fatal(err)
	}
	opensslVerify(t, d, chain, true)
}

// A box that runs something else, or was started otherwise, is not enrolled; the text names the register.
func TestEnrolRefuses(t *testing.T) {
	d := newDesk(t)
	for name, c := range map[string]struct {
		events []event
		change func(*Release)
		stage  label.Stage
		words  []string
	}{
		"other release":   {boot("v2"), nil, label.Running, []string{"PCR 4 is", "but release v1 (0123456789ab) has"}},
		"other kernel":    {append(boot("v1"), event{11, "more"}), nil, label.Running, []string{"PCR 11 is"}},
		"Secure Boot":     {append(boot("v1"), event{7, "more"}), nil, label.Running, []string{"PCR 7 is"}},
		"credential file": {append(boot("v1"), event{12, "x.cred"}), nil, label.Running, []string{"PCR 12 is", "has 0000000000000000"}},
		"extension":       {append(boot("v1"), event{13, "x.raw"}), nil, label.Running, []string{"PCR 13 is"}},
		"maintenance":     {boot("v1"), nil, label.Maintenance, []string{"PCR 14 is not at stage running"}},
		"no log":          {nil, nil, label.Running, []string{"no event log", "-as-observed"}},
		"other domain": {boot("v1"), func(r *Release) { r.Domain.SHA256 = label.Digest{1} }, label.Running,
			[]string{"v1 was built for domain 0100000000000000"}},
	} {
		b := newBox(t, d)
		if c.events == nil {
			b.start(func() ([]byte, error) { return nil, nil })
		} else {
			b.boot(c.events)
		}
		b.stage(c.stage)
		r := predicted(d, "v1", 1)
		if c.change != nil {
			c.change(&r)
		}
		_, err := d.Enrol(admission(t, b.request(), r))
		t.Run(name, func(t *testing.T) { wantText(t, err, c.words...) })
	}
}

// A manifest that leaves out a prediction, or for whom it was built, approves nothing: the register would be whatever the box says.
func TestManifestIncomplete(t *testing.T) {
	d := newDesk(t)
	b := enrolled(t, d)
	for name, c := range map[string]struct {
		change func(*Release)
		word   string
	}{
		"PCR 4":  {func(r *Release) { r.PCR4 = label.Digest{} }, "the manifest of v2 predicts no PCR 4"},
		"PCR 7":  {func(r *Release) { r.PCR7 = label.Digest{} }, "the manifest of v2 predicts no PCR 7"},
		"PCR 11": {func(r *Release) { r.PCR11 = label.Digest{} }, "the manifest of v2 predicts no PCR 11"},
		"domain": {func(r *Release) { r.Domain = Hash{} }, "does not say for which domain"},
	} {
		r := predicted(d, "v2", 1)
		c.change(&r)
		_, enrol := d.Enrol(admission(t, b.request(), r))
		_, fleet := d.ApproveFleet(r)
		_, preview := d.PreviewFleet(r)
		_, advance := d.Advance(r)
		for _, err := range []error{enrol, fleet, preview, advance} {
			t.Run(name, func(t *testing.T) { wantText(t, err, c.word, "-as-observed") })
		}
	}
	lines, err := d.PreviewFleet(predicted(d, "v2", 1))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(lines, "\n")
	for i, v := range predicted(d, "v2", 1).predicted() {
		if want := fmt.Sprintf("PCR %-2d   %s", i, v); !strings.Contains(text, want) {
			t.Errorf("the preview lacks %s: %s", want, text)
		}
	}
}

// Approvals as observed count on every box: a domain whose boxes are known by predicted registers has none.
func TestObservedAmongPredicted(t *testing.T) {
	d := newDesk(t)
	enrolled(t, d)
	server := newBox(t, d)
	server.start(func() ([]byte, error) { return nil, nil })
	server.stage(label.Running)
	r := Release{Manifest: Manifest{Version: "v1", Epoch: 1}, Trust: AsObserved}
	a := admission(t, server.request(), r)
	a.Box.Name = "server"
	_, err := d.Enrol(a)
	wantText(t, err, "box1 was enrolled by predicted registers", "a domain of their own")
	_, err = d.ApproveFleet(r, server.request())
	wantText(t, err, "box1 was enrolled by predicted registers")
	for _, w := range []string{ObservedWarning, FirmwareWarning} {
		if !strings.Contains(w, "every box of the domain") {
			t.Errorf("the warning does not say how far it reaches: %s", w)
		}
	}
}

// The request of an image of another domain is not this desk's to answer, and its escrow not this desk's to read.
func TestForeignRequest(t *testing.T) {
	d, other := newDesk(t), newDesk(t)
	b := newBox(t, other)
	b.boot(boot("v1"))
	b.stage(label.Running)
	text := b.request()
	_, err := d.Enrol(admission(t, text, predicted(d, "v1", 1)))
	wantText(t, err, "the image was built for domain")
	_, err = d.Escrow(text)
	wantText(t, err, "the image was built for domain")
	_, err = other.Escrow(text)
	wantText(t, err, "a platform that this domain has not enrolled")
	if _, err := other.Enrol(admission(t, text, predicted(other, "v1", 1))); err != nil {
		t.Fatal(err)
	}
	s, err := other.Escrow(text)
	if err != nil || len(s.Owner) != 64 || len(s.Lockout) != 64 || len(s.Presence) < 16 || s.Owner == s.Lockout {
		t.Errorf("Escrow() = %v", err)
	}
}

// A new release for the fleet: by the boxes that the desk knows, or like a request, or like a bundle.
func TestApproveFleet(t *testing.T) {
	d := newDesk(t)
	_, err := d.ApproveFleet(predicted(d, "v2", 1))
	wantText(t, err, "no box is enrolled yet")
	b := enrolled(t, d)
	bundle, err := os.ReadFile(filepath.Join(d.dir, boxesDir, "box1.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		name string
		like [][]byte
	}{{"known boxes", nil}, {"a request", [][]byte{b.request()}}, {"a bundle", [][]byte{bundle}}, {"both, once", [][]byte{bundle, b.request()}}} {
		name, like := c.name, c.like
		text, err := d.ApproveFleet(predicted(d, "v2", 1), like...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := label.OpenBundle(text, d.Domain())
		if err != nil || got.Enrolment != nil || len(got.Approvals) != 6 || len(got.Values) != 5 {
			t.Fatalf("%s: %d approvals, %v", name, len(got.Approvals), err)
		}
		b.boot(boot("v2"))
		if err := b.serve(); i == 0 { // nothing has approved v2 yet
			wantText(t, err, "PCR 4 (boot loader)")
		}
		b.boot(boot("v1"))
		if err := b.serve(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := b.EnrolInstall(t.Context(), text); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b.boot(boot("v2"))
		if err := b.serve(); err != nil {
			t.Errorf("%s: v2 after its approval: %v", name, err)
		}
	}
	_, err = d.ApproveFleet(predicted(d, "v2", 1), []byte("nonsense"))
	wantText(t, err, "neither a request nor a bundle")
}

// A server without measured boot is enrolled as it is, by an explicit word.
func TestAsObserved(t *testing.T) {
	d := newDesk(t)
	b := newBox(t, d)
	b.start(func() ([]byte, error) { return nil, nil })
	b.stage(label.Running)
	r := Release{Manifest: Manifest{Version: "v1", Epoch: 1}, Trust: AsObserved}
	text, err := d.Enrol(admission(t, b.request(), r))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.EnrolInstall(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	if err := b.WriteRecord(t.Context(), label.Record{Generation: 1}); err != nil {
		t.Fatal(err)
	}
	_ = b.Agent.Close()
	b.tpm.Restart(t)
	b.start(func() ([]byte, error) { return nil, nil })
	if err := b.serve(); err != nil {
		t.Error(err)
	}
}

// The label certificate of a box can name that box and nothing else: Go and OpenSSL both refuse every other name.
func TestLabelCertificateConstrains(t *testing.T) {
	d := newDesk(t)
	for name, c := range map[string]struct {
		box  label.Box
		leaf x509.Certificate
		ok   bool
	}{
		"own name":       {one, x509.Certificate{DNSNames: []string{"box1.example.org"}}, true},
		"own addresses":  {one, x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP("fd00::1")}}, true},
		"own domain":     {one, x509.Certificate{URIs: []*url.URL{{Scheme: "kra", Host: "example.org", Path: "/legal-team"}}}, true},
		"other name":     {one, x509.Certificate{DNSNames: []string{"box2.example.org"}}, false},
		"other address":  {one, x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 2)}}, false},
		"other IPv6":     {one, x509.Certificate{IPAddresses: []net.IP{net.ParseIP("fd00::2")}}, false},
		"other domain":   {one, x509.Certificate{URIs: []*url.URL{{Scheme: "kra", Host: "example.com", Path: "/legal-team"}}}, false},
		"mail":           {one, x509.Certificate{EmailAddresses: []string{"alice@example.org"}}, false},
		"no DNS allowed": {label.Box{Name: "box1", IP: one.IP}, x509.Certificate{DNSNames: []string{"box1.example.org"}}, false},
		"no IP allowed":  {label.Box{Name: "box1", DNS: one.DNS}, x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, false},
		"a CA below":     {one, x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, false},
		"client":         {one, x509.Certificate{DNSNames: one.DNS, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			key := newSigner(t)
			pub := key.Public().(*ecdsa.PublicKey)
			der, err := d.certify(tpm.LabelKey{Label: label.KeyRelease, Public: pub}, c.box, x509.ExtKeyUsageServerAuth)
			if err != nil {
				t.Fatal(err)
			}
			issuer, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			c.leaf.Subject, c.leaf.NotBefore, c.leaf.NotAfter = pkix.Name{CommonName: "leaf"}, time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
			below := newSigner(t)
			leaf, err := x509.CreateCertificate(rand.Reader, &c.leaf, issuer, below.Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			chain := [][]byte{leaf, der}
			if c.leaf.IsCA { // pathlen 0 bites for what is below it
				parent, err := x509.ParseCertificate(leaf)
				if err != nil {
					t.Fatal(err)
				}
				last := x509.Certificate{Subject: pkix.Name{CommonName: "last"}, NotBefore: c.leaf.NotBefore, NotAfter: c.leaf.NotAfter, DNSNames: one.DNS}
				if leaf, err = x509.CreateCertificate(rand.Reader, &last, parent, newSigner(t).Public(), below); err != nil {
					t.Fatal(err)
				}
				chain = append([][]byte{leaf}, chain...)
			}
			goVerify(t, d, chain, c.leaf.ExtKeyUsage, c.ok)
			extra := []string{}
			if len(c.leaf.ExtKeyUsage) > 0 {
				extra = []string{"-purpose", "sslclient"}
			}
			opensslVerify(t, d, chain, c.ok, extra...)
		})
	}
}

// The command line, from nothing to an enrolled box and a second release.
func TestCommand(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	var talk bytes.Buffer
	run := func(args ...string) ([]byte, error) {
		var out bytes.Buffer
		talk.Reset()
		err := Command(args, &out, &talk)
		return out.Bytes(), err
	}
	must := func(args ...string) []byte {
		t.Helper()
		out, err := run(args...)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out
	}
	write := func(name string, b []byte) string {
		t.Helper()
		if err := os.WriteFile(file(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file(name)
	}
	must("init", file("d"), "-name", "example.org", "-plain")
	if !strings.Contains(talk.String(), "WARNING") {
		t.Errorf("init warns of nothing: %s", talk.String())
	}
	_, err := run("init", file("d"))
	wantText(t, err, "holds a domain already")
	for _, key := range []string{"root.key", "label.key", "recovery.key", "escrow.key"} {
		st, err := os.Stat(filepath.Join(file("d"), key))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want 0600", key, st.Mode(), err)
		}
	}
	d, err := Open(file("d"))
	if err != nil {
		t.Fatal(err)
	}
	b := newBox(t, d)
	b.boot(boot("v1"))
	b.stage(label.Running)
	request := write("request.pem", b.request())
	manifest := func(v string) string {
		doc, err := json.Marshal(predicted(d, v, 1).Manifest)
		if err != nil {
			t.Fatal(err)
		}
		return write(v+".json", doc)
	}
	pass := write("pass", []byte("correct horse battery\n"))
	enrol := []string{"enrol", "-dir", file("d"), "-manifest", manifest("v1"), "-request", request, "-officer", "alice", "-name", "box1", "-ip", "127.0.0.1"}
	_, err = run(enrol...)
	wantText(t, err, "-passphrase-file is missing")
	_, err = run(append(enrol, "-passphrase-file", file("none"))...)
	wantText(t, err, "passphrase is needed")
	_, err = run(append(enrol, "-passphrase-file", write("short", []byte("secret")))...)
	wantText(t, err, "at least 12 characters")
	_, err = run(append(enrol, "-passphrase-file", pass, "-manifest", manifest("v2"))...)
	wantText(t, err, "PCR 4 is")
	_, err = run(append(enrol, "-passphrase-file", pass)...)
	wantText(t, err, "no endorsement certificate", "-first-seen FINGERPRINT")
	seen, err := Fingerprint(b.request())
	if err != nil {
		t.Fatal(err)
	}
	enrol = append(enrol, "-passphrase-file", pass, "-first-seen", seen)
	_, err = run(enrol...)
	wantText(t, err, "the firmware of model \"unknown\" is not approved", "-firmware-as-seen")
	before := len(must("journal", "-dir", file("d")))
	if out := must(append(enrol, "-firmware-as-seen", "-dry-run")...); len(out) != 0 || !strings.Contains(talk.String(), nothingDone) || !strings.Contains(talk.String(), "to sign") {
		t.Errorf("dry run made %d bytes and said %s", len(out), talk.String())
	}
	if after := len(must("journal", "-dir", file("d"))); after != before {
		t.Errorf("a dry run is in the journal: %d bytes instead of %d", after, before)
	}
	_, err = run("firmware", "approve", "-dir", file("d"), "-request", request)
	wantText(t, err, "no endorsement certificate", "-first-seen FINGERPRINT")
	must("firmware", "approve", "-dir", file("d"), "-request", request, "-note", "1.2.3", "-first-seen", seen)
	if out := must("firmware", "list", "-dir", file("d")); !strings.Contains(string(out), "note   1.2.3") {
		t.Errorf("firmware list: %s", out)
	}
	text := must(enrol...)
	if said := talk.String(); !strings.Contains(said, "WARNING: no maker vouches") || !strings.Contains(said, "firmware   on the list: unknown") {
		t.Errorf("enrol says %s", said)
	}
	if _, err := b.EnrolInstall(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	text = must("approve", "-dir", file("d"), "-manifest", manifest("v2"))
	if i, err := b.EnrolInstall(t.Context(), text); err != nil || i.Approvals != 6 {
		t.Errorf("installed %+v, %v", i, err)
	}
	_, err = run("approve", "-dir", file("d"), "-manifest", manifest("v2"), "-like", request, "-as-observed")
	wantText(t, err, "was enrolled by predicted registers")
	if !strings.Contains(talk.String(), "WARNING: approved as observed") {
		t.Errorf("as-observed warns of nothing: %s", talk.String())
	}
	text = must("approve", "-dir", file("d"), "-manifest", manifest("v2"), "-labels", "root,maintenance")
	if got, err := label.OpenBundle(text, d.Domain()); err != nil || len(got.Approvals) != 3 {
		t.Errorf("approved for two labels: %d approvals, %v", len(got.Approvals), err)
	}
	text = must("epoch", "advance", "-dir", file("d"), "-manifest", manifest("v2"))
	if got, err := label.OpenBundle(text, d.Domain()); err != nil || len(got.Approvals) != 1 || !got.Approvals[0].Advances() {
		t.Errorf("epoch advance: %+v, %v", got.Approvals, err)
	}
	token := write("token.pem", publicPEM(t, newSigner(t)))
	must("operator", "add", "-dir", file("d"), "-name", "bob", "-key", token)
	if out := must("operator", "list", "-dir", file("d")); !strings.HasPrefix(string(out), "bob ") {
		t.Errorf("operator list: %s", out)
	}
	if out := must("escrow", "-dir", file("d"), "-request", request); !strings.Contains(string(out), "presence passphrase  ") {
		t.Errorf("escrow: %s", out)
	}
	out := string(must("journal", "-dir", file("d")))
	for _, act := range []string{actInit, actFirmware, actEnrol, actApprove, actEscrow, actAdvance, actOperator, "tpm: first seen, on your word: fingerprint " + seen} {
		if !strings.Contains(out, act) {
			t.Errorf("the journal lacks %q: %s", act, out)
		}
	}
	for _, bad := range [][]string{{}, {"frobnicate"}, {"firmware", "-dir", file("d")}, {"vendor", "add", "-dir", file("d")}, {"init"}, {"init", "a", "b"}, {"approve"}, {"install", "-uki", file("none")}, {"approve", "-dir", file("d"), "extra"}} {
		if _, err := run(bad...); err == nil {
			t.Errorf("%q: done", bad)
		}
	}
}

// What a verb cannot do without is asked for by name; help is not a failure.
func TestCommandLine(t *testing.T) {
	for line, want := range map[string]string{
		"approve":                     "approve: -dir is missing; 'domain approve -h' shows how",
		"approve -dir d":              "approve: -manifest is missing; 'domain approve -h' shows how",
		"install -uki kra.efi":        "install: -disk is missing; 'domain install -h' shows how",
		"install -disk kra.img":       "install: -uki is missing; 'domain install -h' shows how",
		"escrow -request request.pem": "escrow: -dir is missing; 'domain escrow -h' shows how",
		"escrow -dir d":               "escrow: -request is missing; 'domain escrow -h' shows how",
		"enrol -dir d -manifest m":    "enrol: -request is missing; 'domain enrol -h' shows how",
		"firmware list":               "firmware: -dir is missing; 'domain firmware -h' shows how",
		"epoch":                       "epoch: say advance",
		"epoch advance -dir d":        "epoch: -manifest is missing; 'domain epoch -h' shows how",
		"operator add":                "operator: -dir is missing; 'domain operator -h' shows how",
		"operator forget":             "operator: say add or list or remove",
		"vendor forget":               "vendor: say add or list or remove",
		"journal":                     "journal: -dir is missing; 'domain journal -h' shows how",
		"help":                        "", "-h": "", "init -h": "", "approve -h": "", "install -h": "", "escrow -h": "",
	} {
		var got string
		if err := Command(strings.Fields(line), io.Discard, io.Discard); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("domain %s: %q, want %q", line, got, want)
		}
	}
}
