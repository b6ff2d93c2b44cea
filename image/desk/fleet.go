package desk

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
)

const platformsDir = "platforms" // NAME.pem: what each platform was answered last, in the clear

// Acts of the journal.
const (
	actEnrolPlatform   = "enrol-platform"
	actApprovePlatform = "approve-platform"
	actCertifyHolder   = "certify-unmeasured"

	factCertificate = "certificate"
)

// A Joining is a platform to take into the fleet: a machine that asks for keys as a machine. Its software is approved as the request shows it.
type Joining struct {
	Request []byte
	Name    string
	Release Manifest // Version, Epoch and Commit of what runs there, as the domain calls it
	Seen    string   // as Admission.Seen
	Private bool     // nothing that others see says which TPM it is
	Replace bool     // the name may be in the books already
}

// EnrolPlatform answers a platform's request: label certificates for its part of each label, platform certificate, approvals and label values.
// The answer opens only in the TPM that asked.
func (d *Desk) EnrolPlatform(j Joining) (sealed []byte, err error) {
	err = d.alone(func() error { sealed, err = d.enrolPlatform(j); return err })
	return sealed, err
}

func (d *Desk) enrolPlatform(j Joining) ([]byte, error) {
	v, word, err := d.joins(j)
	if err != nil {
		return nil, err
	}
	b, err := d.platformBundle(v, j.Release)
	if err != nil {
		return nil, err
	}
	if err := d.identify(&b, v, j); err != nil {
		return nil, err
	}
	text, err := b.Sign(d.key)
	if err != nil {
		return nil, err
	}
	sealed, err := v.Seal(text)
	if err != nil {
		return nil, err
	}
	facts := map[string]string{factRequest: label.PlatformRequest{EnrolRequest: v.Request}.Statement().String(), factBundle: digest(text), "release": j.Release.Version,
		"ek": v.EK.String(), "ak": v.AK.String(), "tpm": word, "labels": askedFor(v)}
	if err := d.note(actEnrolPlatform, j.Name, facts); err != nil {
		return nil, err
	}
	keys := []label.Digest{}
	for _, k := range append([]*ecdsa.PublicKey{v.Attester}, labelKeys(v)...) {
		keys = append(keys, digestOfKey(k))
	}
	if err := d.supersede(j.Name, keys); err != nil {
		return nil, err
	}
	return sealed, d.keep(j.Name, text)
}

func labelKeys(v tpm.Verified) (out []*ecdsa.PublicKey) {
	for _, k := range v.Labels {
		out = append(out, k.Public)
	}
	return out
}

// digestOfKey is how permissions name a key; none if it is not one.
func digestOfKey(k *ecdsa.PublicKey) label.Digest {
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		return label.Digest{}
	}
	return sha256.Sum256(der)
}

// ApprovePlatform approves what a request shows to run, under the labels that it names.
func (d *Desk) ApprovePlatform(j Joining) (text []byte, err error) {
	err = d.alone(func() error { text, err = d.approvePlatform(j); return err })
	return text, err
}

func (d *Desk) approvePlatform(j Joining) ([]byte, error) {
	v, word, err := d.examinePlatform(j)
	if err != nil {
		return nil, err
	}
	b, err := d.platformBundle(v, j.Release)
	if err != nil {
		return nil, err
	}
	text, err := b.Sign(d.key)
	if err != nil {
		return nil, err
	}
	return text, d.note(actApprovePlatform, askedFor(v), map[string]string{factRequest: label.PlatformRequest{EnrolRequest: v.Request}.Statement().String(),
		factBundle: digest(text), "release": j.Release.Version, "tpm": word})
}

// PreviewPlatform says what EnrolPlatform would sign, and changes nothing.
func (d *Desk) PreviewPlatform(j Joining) ([]string, error) {
	v, word, err := d.joins(j)
	if err != nil {
		return nil, err
	}
	return []string{fmt.Sprintf("platform %s, TPM %s", j.Name, word), "labels  " + askedFor(v), fmt.Sprintf("version %d (%s), as the request shows it to run", j.Release.Epoch, j.Release.Version)}, nil
}

func askedFor(v tpm.Verified) string {
	var all []string
	for _, k := range v.Labels {
		all = append(all, string(k.Label))
	}
	return strings.Join(all, ", ")
}

// examinePlatform checks a request, and on whose word its TPM is genuine. What it shows to run would be approved: so one that was answered
// is not answered again, since what it shows may be long gone.
func (d *Desk) examinePlatform(j Joining) (tpm.Verified, string, error) {
	r, err := label.ParsePlatformRequest(j.Request)
	if err != nil {
		return tpm.Verified{}, "", err
	}
	v, err := tpm.VerifyPlatform(r, d.domain)
	if err != nil {
		return v, "", err
	}
	if _, err := d.asksOfFleet(v); err != nil {
		return v, "", err
	}
	if err := d.unanswered(r.Statement(), "kra platform request", actEnrolPlatform, actApprovePlatform); err != nil {
		return v, "", err
	}
	word, err := d.vouched(v, j.Seen)
	return v, word, err
}

func (d *Desk) joins(j Joining) (tpm.Verified, string, error) {
	v, word, err := d.examinePlatform(j)
	if err == nil {
		err = d.free(j.Name, j.Replace)
	}
	return v, word, err
}

// free refuses a name that a box or another platform has: names are what others know them by.
func (d *Desk) free(name string, replace bool) error {
	if _, err := label.ParseID(name); err != nil {
		return fmt.Errorf("name platform: want a-z, 0-9 and '-', at most 63 of them, got %.80q", name)
	}
	for _, dir := range []string{boxesDir, platformsDir} {
		_, err := os.Stat(filepath.Join(d.dir, dir, name+".pem"))
		switch {
		case err == nil && (dir == boxesDir || !replace):
			return fmt.Errorf("name platform: %q is in the books already", name)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("name platform: %w", err)
		}
	}
	return nil
}

// asksOfFleet are the labels that a platform asks for: the domain's own, and none of boxes.
func (d *Desk) asksOfFleet(v tpm.Verified) ([]label.Definition, error) {
	var out []label.Definition
	for _, k := range v.Labels {
		l, err := d.definition(k.Label)
		if err != nil {
			return nil, fmt.Errorf("approve platform: it asks for label %q: %w", k.Label, err)
		}
		if l.OfBox() {
			return nil, fmt.Errorf("approve platform: label %q is one of boxes", k.Label)
		}
		out = append(out, l)
	}
	return out, nil
}

// platformBundle approves what runs, as the request shows it.
func (d *Desk) platformBundle(v tpm.Verified, m Manifest) (label.PlatformBundle, error) {
	labels, err := d.asksOfFleet(v)
	if err != nil {
		return label.PlatformBundle{}, err
	}
	r := Release{Manifest: m, Trust: AsObserved}
	found, err := r.values(v.Request.PCRs)
	if err != nil {
		return label.PlatformBundle{}, err
	}
	var b label.Bundle
	if err := d.approve(&b, d.byLabel(), r, labels, found); err != nil {
		return label.PlatformBundle{}, err
	}
	return label.PlatformBundle{Domain: d.domain.Hash(), Approvals: b.Approvals, Values: b.Values}, nil
}

// identify adds who the platform is.
func (d *Desk) identify(b *label.PlatformBundle, v tpm.Verified, j Joining) error {
	labels, err := d.asksOfFleet(v)
	if err != nil {
		return err
	}
	for _, l := range labels {
		of, err := d.certifyLabel(v, l, label.Box{Name: j.Name})
		if err != nil {
			return err
		}
		b.Labels = append(b.Labels, of)
	}
	ek := v.EK.String()
	if j.Private {
		ek = ""
	}
	if b.Platform, err = d.certifyAttester(v, j.Name, ek); err != nil {
		return err
	}
	epoch, err := d.byLabel().FirstEpoch(tpm.Release{Version: j.Release.Epoch, Description: j.Release.Version})
	if err != nil {
		return fmt.Errorf("approve platform: %w", err)
	}
	b.Name, b.SRK, b.AK, b.Epoch, b.Authority = j.Name, &v.SRK, &v.AK, &epoch, d.authority
	return nil
}

func (d *Desk) keep(name string, text []byte) error {
	dir := filepath.Join(d.dir, platformsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("remember platform: %w", err)
	}
	if err := writeWhole(filepath.Join(dir, name+".pem"), text, 0o600); err != nil {
		return fmt.Errorf("remember platform: %w", err)
	}
	return nil
}

// CertifyUnmeasured certifies a label key that no TPM holds, such as an HSM's, for a client's part. The request is PKCS #10 in PEM; only its key
// counts, and that whoever made it has the private part.
func (d *Desk) CertifyUnmeasured(csr []byte, l label.ID, name string, replace bool) (text []byte, err error) {
	err = d.alone(func() error { text, err = d.certifyHolder(csr, l, name, replace); return err })
	return text, err
}

// holderKey checks such a request, and gives its key.
func (d *Desk) holderKey(csr []byte, l label.ID, name string, replace bool) (*ecdsa.PublicKey, error) {
	of, err := d.definition(l)
	if err != nil {
		return nil, err
	}
	if of.OfBox() || of.Part == label.Server {
		return nil, fmt.Errorf("certify label key: label %q is not for a client's part", l)
	}
	if err := d.free(name, replace); err != nil {
		return nil, err
	}
	b, _ := pem.Decode(csr)
	if b == nil || b.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("certify label key: not a certificate request in PEM")
	}
	r, err := x509.ParseCertificateRequest(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certify label key: %w", err)
	}
	key, ok := r.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("certify label key: not a P-256 key")
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certify label key: whoever asks does not have it: %w", err)
	}
	return key, nil
}

func (d *Desk) certifyHolder(csr []byte, l label.ID, name string, replace bool) ([]byte, error) {
	key, err := d.holderKey(csr, l, name, replace)
	if err != nil {
		return nil, err
	}
	der, err := d.certifyUnmeasured(key, label.Holder{Domain: d.domain.Name, Label: l, Name: name, Unmeasured: true})
	if err != nil {
		return nil, fmt.Errorf("certify label key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := d.note(actCertifyHolder, name, map[string]string{"label": string(l), factCertificate: digest(der)}); err != nil {
		return nil, err
	}
	if err := d.supersede(name, []label.Digest{digestOfKey(key)}); err != nil {
		return nil, err
	}
	return text, d.keep(name, text)
}

func (d *Desk) certifyUnmeasured(key *ecdsa.PublicKey, h label.Holder) ([]byte, error) {
	uri, err := url.Parse(h.URI())
	if err != nil {
		return nil, err
	}
	description, err := d.described(h.Label)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t := &x509.Certificate{ExtraExtensions: []pkix.Extension{description},
		Subject:   pkix.Name{Organization: []string{h.Domain}, OrganizationalUnit: []string{"label " + string(h.Label)}, CommonName: h.Name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(labelLife, 0, 0), URIs: []*url.URL{uri},
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: []string{noName}, PermittedIPRanges: []*net.IPNet{{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(32, 32)}},
		PermittedURIDomains: []string{h.Domain}, PermittedEmailAddresses: []string{noName}}
	return x509.CreateCertificate(rand.Reader, t, d.root, key, d.issuer)
}

func runPlatform(args []string, out, talk io.Writer) error {
	f := flags("platform", talk)
	var o joinOrder
	o.declare(f)
	d, verb, err := openFor(f, args, &o.dir, "enrol", "approve", "certify")
	if err != nil {
		return err
	}
	var text []byte
	switch verb {
	case "certify":
		if err := need(f, "csr", "label", "name"); err != nil {
			return err
		}
		csr, err := os.ReadFile(o.csr)
		if err != nil {
			return fmt.Errorf("platform certify: %w", err)
		}
		if _, err := d.holderKey(csr, label.ID(o.label), o.j.Name, o.j.Replace); err != nil {
			return err
		}
		fmt.Fprintf(talk, "to certify %s as %s, marked unmeasured: no TPM holds its key\n", o.j.Name, o.label)
		if o.dry {
			fmt.Fprintln(talk, nothingDone)
			return nil
		}
		if err := agree(f); err != nil {
			return err
		}
		text, err = d.CertifyUnmeasured(csr, label.ID(o.label), o.j.Name, o.j.Replace)
		if err != nil {
			return err
		}
	default:
		if text, err = o.answer(d, f, verb, talk); err != nil || text == nil {
			return err
		}
	}
	_, err = out.Write(text)
	return err
}

// joinOrder is a platform command, parsed.
type joinOrder struct {
	dir, request, csr, label string
	dry                      bool
	j                        Joining
}

func (o *joinOrder) declare(f *flag.FlagSet) {
	f.StringVar(&o.dir, "dir", "", "folder of the domain")
	f.StringVar(&o.request, "request", "", "the platform's request, from kra platform request")
	f.StringVar(&o.j.Name, "name", "", "name of the platform")
	f.StringVar(&o.j.Release.Version, "version", "", "what its software is called")
	f.Uint64Var(&o.j.Release.Epoch, "epoch", 1, "version number by which rules order its software")
	f.StringVar(&o.j.Release.Commit, "commit", "", "what it was built from")
	f.StringVar(&o.j.Seen, "first-seen", "", "fingerprint at the platform: take your word for the TPM")
	f.BoolVar(&o.j.Private, "private", false, "certify nothing that says which TPM it is")
	f.BoolVar(&o.j.Replace, "replace", false, "let it take a name that is in the books")
	f.BoolVar(&o.dry, "dry-run", false, "check and say what would be signed, and do nothing")
	f.StringVar(&o.csr, "csr", "", "certificate request of a key that no TPM holds")
	f.StringVar(&o.label, "label", "", "its label")
}

func (o *joinOrder) answer(d *Desk, f *flag.FlagSet, verb string, talk io.Writer) (text []byte, err error) {
	if err := need(f, "request", "version"); err != nil {
		return nil, err
	}
	if o.j.Request, err = os.ReadFile(o.request); err != nil {
		return nil, fmt.Errorf("platform %s: %w", verb, err)
	}
	if o.j.Seen != "" {
		warn(talk, SeenWarning)
	}
	if verb == "approve" {
		v, word, err := d.examinePlatform(o.j)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(talk, "TPM      %s\nlabels   %s\nversion  %d (%s), as the request shows it to run, for every platform in the same state\n", word, askedFor(v), o.j.Release.Epoch, o.j.Release.Version)
		if o.dry {
			fmt.Fprintln(talk, nothingDone)
			return nil, nil
		}
		if err := agree(f); err != nil {
			return nil, err
		}
		return d.ApprovePlatform(o.j)
	}
	lines, err := d.PreviewPlatform(o.j)
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		fmt.Fprintln(talk, l)
	}
	if o.dry {
		fmt.Fprintln(talk, nothingDone)
		return nil, nil
	}
	if err := agree(f); err != nil {
		return nil, err
	}
	return d.EnrolPlatform(o.j)
}
