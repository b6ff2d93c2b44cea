package desk

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/account"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
)

const labelLife = 5 // years

// Nothing may be named that is called so: it stands in a name constraint for "none", since a missing one means "any".
const noName = "invalid" // RFC 2606

// NewOfficer hashes the first officer's passphrase.
func NewOfficer(name string, passphrase []byte) (label.Officer, error) {
	if err := account.Acceptable(passphrase); err != nil {
		return label.Officer{}, fmt.Errorf("name officer: %w", err)
	}
	return label.Officer{Name: name, Hash: account.Hash(passphrase)}, nil
}

// Facts of the journal that are read again: by which a request, and what it was answered with, are known, and on whose word a box's
// firmware is good.
const (
	factRequest  = "request"
	factBundle   = "bundle" // and the record in the books
	factFirmware = "firmware"
	notMeasured  = "not measured"
)

// Enrol answers a box's request: it examines the request, holds its registers against the release, and signs approvals, label
// and platform certificate, passport, first write of the epoch and the first officer as one bundle for this box. The answer is
// sealed: it opens only in the TPM that asked.
func (d *Desk) Enrol(a Admission) (sealed []byte, err error) {
	err = d.alone(func() error {
		f, err := d.examine(a)
		if err == nil {
			sealed, err = d.grant(f, actEnrol)
		}
		return err
	})
	return sealed, err
}

// grant signs, notes and remembers what was found good.
func (d *Desk) grant(f finding, act string) ([]byte, error) {
	text, err := d.bundle(f)
	if err != nil {
		return nil, err
	}
	sealed, err := f.verified.Seal(text)
	if err != nil {
		return nil, err
	}
	if err := d.noteEnrolled(act, f, text); err != nil {
		return nil, err
	}
	if err := d.revokeReplaced(f); err != nil {
		return nil, err
	}
	return sealed, d.remember(f, text)
}

// revokeReplaced takes the keys of who was replaced from the name that he had: the certificates are good for years. The name, or the
// keys under another name, stay.
func (d *Desk) revokeReplaced(f finding) error {
	if len(f.replaces) == 0 {
		return nil
	}
	issued, err := d.issued()
	if err != nil {
		return err
	}
	for _, c := range issued {
		if !slices.Contains(f.replaces, c.name) || c.name == f.Box.Name && f.certifies(KeyOf(c.cert)) {
			continue
		}
		if _, err := d.Revoke(Whom{Name: c.name, Key: KeyOf(c.cert), Reason: "replaced by " + f.Box.Name}); err != nil {
			return err
		}
	}
	return nil
}

// certifies says that a key is one of the newcomer's.
func (f finding) certifies(key label.Digest) bool {
	return slices.ContainsFunc(append(labelKeys(f.verified), f.verified.Attester), func(k *ecdsa.PublicKey) bool { return digestOfKey(k) == key })
}

// bundle is signed, and still in the clear.
func (d *Desk) bundle(f finding) ([]byte, error) {
	v, r := f.verified, f.Release
	e := &label.Enrolment{SRK: v.SRK, Authority: d.authority, Passport: v.Passport(), Box: f.Box, Officer: f.Officer}
	var err error
	if e.Epoch, err = d.byLabel().FirstEpoch(
		tpm.Release{Version: r.Epoch, Description: r.Description()}); err != nil {
		return nil, fmt.Errorf("approve box: %w", err)
	}
	for _, l := range f.labels {
		of, err := d.certifyLabel(v, l, f.Box)
		if err != nil {
			return nil, err
		}
		e.Labels = append(e.Labels, of)
	}
	if e.Platform, err = d.certifyPlatform(v, f.Box); err != nil {
		return nil, err
	}
	values, err := r.values(v.Request.PCRs)
	if err != nil {
		return nil, err
	}
	b, err := d.newBundle()
	if err != nil {
		return nil, err
	}
	b.Enrolment = e
	if err := d.approve(&b, d.byLabel(), r, f.labels, values); err != nil {
		return nil, err
	}
	return b.Sign(d.key)
}

func (d *Desk) noteEnrolled(act string, f finding, bundle []byte) error {
	facts := map[string]string{factRequest: f.verified.Request.Statement().String(), factBundle: digest(bundle), "release": f.Release.Description(),
		"ek": f.verified.EK.String(), "ak": f.verified.AK.String(), "tpm": f.tpm, factFirmware: f.firmware, "labels": labelNames(f.labels), "officer": f.Officer.Name}
	if len(f.replaces) > 0 {
		facts["replaces"] = strings.Join(f.replaces, ", ")
	}
	return d.note(act, f.Box.Name, facts)
}

func digest(b []byte) string { return label.Digest(sha256.Sum256(b)).String() }

// asksFor are the labels that a box asks for: key-release first, and all of boxes.
func (d *Desk) asksFor(v tpm.Verified) ([]label.Definition, error) {
	var out []label.Definition
	for i, k := range v.Labels {
		l, err := d.definition(k.Label)
		if err != nil {
			return nil, fmt.Errorf("approve box: it asks for label %q: %w", k.Label, err)
		}
		if !l.OfBox() || i == 0 && l.Label != label.KeyRelease {
			return nil, fmt.Errorf("approve box: it asks for label %q, where a box asks for %q first, and for labels of boxes", k.Label, label.KeyRelease)
		}
		out = append(out, l)
	}
	return out, nil
}

// acceptable is what the desk wants of a box beyond a true request.
func (d *Desk) acceptable(v tpm.Verified, r Release) error {
	q := v.Request
	if _, err := d.secrets(q.Escrow); err != nil {
		return fmt.Errorf("approve box: %w", err)
	}
	if r.Trust != AsObserved && v.Replayed == nil {
		return errors.New("approve box: it has no event log of its firmware; for a server without measured boot say so (-as-observed)")
	}
	if err := r.compare(q.PCRs); err != nil {
		return err
	}
	if q.PCRs[label.StagePCR] != label.StageValue(label.Sign) {
		return fmt.Errorf("approve box: PCR %d is not at stage running: the request was not made by a factory box", label.StagePCR)
	}
	return nil
}

// certifyLabel certifies the key that a platform has for a label, for the label's part. A peer gets two certificates: each has one
// extended key usage, and so no leaf of it serves as the other.
func (d *Desk) certifyLabel(v tpm.Verified, l label.Definition, box label.Box) (of label.OfLabel, err error) {
	k, ok := v.Of(l.Label)
	if !ok {
		return of, fmt.Errorf("certify label key: the request has none for %q", l.Label)
	}
	text, err := d.description(l.Label)
	if err != nil {
		return of, fmt.Errorf("describe label: %w", err)
	}
	of = label.OfLabel{Label: l.Label, Key: k.Name, Description: string(text)}
	first := x509.ExtKeyUsageServerAuth
	if l.Part == label.Client {
		first = x509.ExtKeyUsageClientAuth
	}
	der, err := d.certify(k, box, first)
	if err != nil {
		return of, err
	}
	of.Chain = [][]byte{der}
	if l.Part == label.Peer {
		if der, err = d.certify(k, box, x509.ExtKeyUsageClientAuth); err != nil {
			return of, err
		}
		of.Client = [][]byte{der}
	}
	return of, nil
}

// certify makes a label certificate: a CA of its own for one label of one box, which can name nothing but that box and its domain.
// Who a label key speaks for is read from this certificate, never from a leaf.
func (d *Desk) certify(k tpm.LabelKey, box label.Box, usage x509.ExtKeyUsage) ([]byte, error) {
	uri, err := url.Parse(d.domain.LabelURI(k.Label, box.Name))
	if err != nil {
		return nil, fmt.Errorf("certify label key: %w", err)
	}
	description, err := d.described(k.Label)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t := &x509.Certificate{
		ExtraExtensions: []pkix.Extension{description},
		Subject:         pkix.Name{Organization: []string{d.domain.Name}, OrganizationalUnit: []string{"label " + string(k.Label)}, CommonName: box.Name},
		NotBefore:       now.Add(-time.Hour), NotAfter: now.AddDate(labelLife, 0, 0), URIs: []*url.URL{uri},
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: box.DNS, PermittedIPRanges: hosts(box),
		PermittedURIDomains: []string{d.domain.Name}, PermittedEmailAddresses: []string{noName},
	}
	if len(box.DNS) == 0 {
		t.PermittedDNSDomains = []string{noName}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, d.root, k.Public, d.issuer)
	if err != nil {
		return nil, fmt.Errorf("certify label key: %w", err)
	}
	return der, nil
}

// hosts are the box's addresses as ranges of one; 0.0.0.0 stands for none.
func hosts(box label.Box) []*net.IPNet {
	var out []*net.IPNet
	for _, a := range box.IP {
		out = append(out, &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())})
	}
	if out == nil {
		out = append(out, &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(32, 32)})
	}
	return out
}
