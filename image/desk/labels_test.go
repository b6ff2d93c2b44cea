package desk

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
)

// A server's label certificate serves for servers and nothing else, a client's for clients; a peer has one of each, of one key.
func TestLabelParts(t *testing.T) {
	d := newDesk(t)
	for part, usages := range map[label.Part][]string{label.Server: {"sslserver"}, label.Client: {"sslclient"}, label.Peer: {"sslserver", "sslclient"}} {
		name := label.ID("part-" + part.String())
		if err := d.Define(label.Definition{Label: name, Part: part, Description: "a platform of this part"}); err != nil {
			t.Fatal(err)
		}
		l, err := d.definition(name)
		if err != nil {
			t.Fatal(err)
		}
		key := newSigner(t)
		v := tpm.Verified{Labels: []tpm.LabelKey{{Label: name, Name: label.Name{1}, Public: key.Public().(*ecdsa.PublicKey)}}}
		of, err := d.certifyLabel(v, l, one)
		if err != nil {
			t.Fatal(err)
		}
		var chains [][]byte
		chains = append(append(chains, of.Chain...), of.Client...)
		if len(chains) != len(usages) {
			t.Fatalf("%s: %d certificates; want %d", part, len(chains), len(usages))
		}
		for i, der := range chains {
			issuer, err := x509.ParseCertificate(der)
			if err != nil || len(issuer.ExtKeyUsage) != 1 || !key.Public().(*ecdsa.PublicKey).Equal(issuer.PublicKey) {
				t.Fatalf("%s: %v, usages %v", part, err, issuer.ExtKeyUsage)
			}
			for _, usage := range []string{"sslserver", "sslclient"} {
				ext := map[string]x509.ExtKeyUsage{"sslserver": x509.ExtKeyUsageServerAuth, "sslclient": x509.ExtKeyUsageClientAuth}[usage]
				leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}, NotBefore: time.Now().Add(-time.Minute),
					NotAfter: time.Now().Add(time.Hour), DNSNames: one.DNS, ExtKeyUsage: []x509.ExtKeyUsage{ext}}, issuer, newSigner(t).Public(), key)
				if err != nil {
					t.Fatal(err)
				}
				goVerify(t, d, [][]byte{leaf, der}, []x509.ExtKeyUsage{ext}, usage == usages[i])
				opensslVerify(t, d, [][]byte{leaf, der}, usage == usages[i], "-purpose", usage)
			}
		}
	}
}

// The domain's own labels: defined once, in every bundle, with a key and a certificate on boxes that ask for them, and approved for
// themselves.
func TestDefine(t *testing.T) {
	d := newDesk(t)
	backup := label.Definition{Label: "backup", Part: label.Server, Stages: []label.Stage{label.Running}, Description: "keeps copies of keys"}
	if err := d.Define(backup); err != nil {
		t.Fatal(err)
	}
	wantText(t, d.Define(backup), `the domain has a label "backup" already`)
	wantText(t, d.Define(label.Definition{Label: label.Root, Part: label.Server, Description: "x"}), "already")
	wantText(t, d.Define(label.Definition{Label: "x", Part: label.Client, Stages: []label.Stage{label.Running}, Description: "x"}), "boxes are servers")
	if err := d.Define(label.Definition{Label: "reader", Part: label.Client, Description: "decrypts"}); err != nil {
		t.Fatal(err)
	}
	all, err := d.Labels()
	if err != nil || len(all) != len(label.Builtin())+2 {
		t.Fatalf("Labels() = %+v, %v", all, err)
	}
	_, err = d.ApproveFleet(Release{Manifest: predicted(d, "v1", 1).Manifest, Trust: AsPredicted, Labels: []label.ID{"none"}})
	wantText(t, err, "no box is enrolled yet")
	b := enrolled(t, d)
	_, err = d.ApproveFleet(Release{Manifest: predicted(d, "v1", 1).Manifest, Trust: AsPredicted, Labels: []label.ID{"none"}})
	wantText(t, err, `the domain has no label "none"`)
	_, err = d.ApproveFleet(Release{Manifest: predicted(d, "v1", 1).Manifest, Trust: AsPredicted, Labels: []label.ID{"reader"}})
	wantText(t, err, `label "reader" is not one of boxes`)
	text, err := d.ApproveFleet(Release{Manifest: predicted(d, "v1", 1).Manifest, Trust: AsPredicted, Labels: []label.ID{"backup"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := label.OpenBundle(text, d.domain)
	if err != nil || len(got.Approvals) != 1 || got.Approvals[0].Label != "backup" || len(got.Labels) != 2 {
		t.Fatalf("approved %+v, %v", got, err)
	}
	if _, err := b.EnrolInstall(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	again, err := d.Enrol(admission(t, b.request(), predicted(d, "v1", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.EnrolInstall(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	shown, err := b.Confirm(t.Context(), label.Challenge{Nonce: make([]byte, label.NonceSize)}, make([]byte, label.NonceSize))
	if err != nil {
		t.Fatal(err)
	}
	var labels []label.ID
	for _, c := range shown.Confirmations {
		labels = append(labels, c.Statement.Label)
	}
	if !slices.Equal(labels, []label.ID{label.KeyRelease, label.Root, "backup"}) {
		t.Errorf("the box confirms %q", labels)
	}
	whole, err := os.ReadFile(filepath.Join(d.dir, labelsDir, "backup.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.dir, labelsDir, "backup.json"), []byte(strings.Replace(string(whole), "copies", "nothing", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = d.Labels()
	wantText(t, err, "backup.json", "not signed by the label key")
}

// A software state is described by its registers, and indirectly by the image that leads to them: each label of a release has both.
func TestLabelValues(t *testing.T) {
	d := newDesk(t)
	enrolled(t, d)
	r := predicted(d, "v2", 1)
	uki := label.Digest(sha256.Sum256([]byte("the UKI")))
	r.Files = map[string]Hash{"kra.efi": {uki}}
	text, err := d.ApproveFleet(r)
	if err != nil {
		t.Fatal(err)
	}
	b, err := label.OpenBundle(text, d.domain)
	if err != nil {
		t.Fatal(err)
	}
	stages := map[label.ID]int{}
	for _, v := range b.Values {
		x := v.Value
		stages[x.Label]++
		if x.Image != uki || x.Release != "v2" || x.Commit != r.Commit || x.PCRs[4] != r.PCR4 || x.PCRs[7] != r.PCR7 || x.PCRs[11] != r.PCR11 {
			t.Errorf("label %q: %+v", x.Label, x)
		}
	}
	for _, l := range label.Builtin() {
		if stages[l.Label] != len(l.Stages) {
			t.Errorf("label %q has %d values; want one for each of %v", l.Label, stages[l.Label], l.Stages)
		}
	}
}

// An operator's token is approved from then on; keys that a TPM cannot check are not taken.
func TestAddOperator(t *testing.T) {
	d := newDesk(t)
	key := newSigner(t)
	if err := d.AddOperator("bob", publicPEM(t, key)); err != nil {
		t.Fatal(err)
	}
	wantText(t, d.AddOperator("bob", publicPEM(t, newSigner(t))), "is an operator's already")
	wantText(t, d.AddOperator("carol", publicPEM(t, key)), "is an operator's already")
	wantText(t, d.AddOperator("../carol", publicPEM(t, newSigner(t))), "its name")
	wantText(t, d.AddOperator("carol", []byte("no key")), "want a public key in PEM")
	enrolled(t, d)
	text, err := d.ApproveFleet(Release{Manifest: predicted(d, "v1", 1).Manifest, Trust: AsPredicted, Labels: []label.ID{label.OperatorPresent}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := label.OpenBundle(text, d.domain)
	if err != nil || len(b.Approvals) != 2 || b.Approvals[0].Operator != label.Presence {
		t.Fatalf("approved %+v, %v", b.Approvals, err)
	}
	k, err := label.NewKey(key.Public().(*ecdsa.PublicKey))
	if err != nil || b.Approvals[1].Operator != label.ByToken(k) {
		t.Errorf("the second is by %q, %v", b.Approvals[1].Operator, err)
	}
}

// Each bundle of a domain has a higher number than the one before.
func TestBundlesAreNumbered(t *testing.T) {
	d := newDesk(t)
	b := enrolled(t, d)
	var last uint64
	for range 2 {
		text, err := d.ApproveFleet(predicted(d, "v2", 1))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := label.OpenBundle(text, d.domain); err != nil || got.Sequence <= last {
			t.Errorf("number %d after %d, %v", got.Sequence, last, err)
		} else {
			last = got.Sequence
		}
	}
	first, err := d.Enrol(admission(t, b.request(), predicted(d, "v1", 1)))
	if err != nil {
		t.Fatal(err)
	}
	second, err := d.Enrol(admission(t, b.request(), predicted(d, "v1", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.EnrolInstall(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	_, err = b.EnrolInstall(t.Context(), first)
	wantText(t, err, "an older one does not replace it")
}
