package desk

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/url"
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

// factRequest is the fact of the journal by which a request is known again.
const factRequest = "request"

// Enrol answers a box's request: it examines the request, holds its registers against the release, and signs approvals, label
// and platform certificate, passport, first write of the epoch and the first officer as one bundle for this box. The answer is
// sealed: it opens only in the TPM that asked.
func (d *Desk) Enrol(a Admission) ([]byte, error) {
	f, err := d.examine(a)
	if err != nil {
		return nil, err
	}
	text, err := d.bundle(f)
	if err != nil {
		return nil, err
	}
	sealed, err := f.verified.Seal(text)
	if err != nil {
		return nil, err
	}
	if err := d.noteEnrolled(f, text); err != nil {
		return nil, err
	}
	return sealed, d.remember(f, text)
}

// bundle is signed, and still in the clear.
func (d *Desk) bundle(f finding) ([]byte, error) {
	v, r := f.verified, f.Release
	e := &label.Enrolment{SRK: v.SRK, LabelKey: v.LabelKey, Authority: d.authority, Passport: v.Passport(), Box: f.Box, Officer: f.Officer}
	var err error
	if e.Epoch, err = (tpm.Desk{Domain: d.domain, By: label.ByLabel, Key: d.key}).FirstEpoch(label.KeyRelease,
		tpm.Release{Version: r.Epoch, Description: r.Description()}); err != nil {
		return nil, fmt.Errorf("approve box: %w", err)
	}
	der, err := d.certify(v, f.Box)
	if err != nil {
		return nil, err
	}
	e.Chain = [][]byte{der}
	if e.Platform, err = d.certifyPlatform(v, f.Box); err != nil {
		return nil, err
	}
	values, err := r.values(v.Request.PCRs)
	if err != nil {
		return nil, err
	}
	b := label.Bundle{Domain: d.domain.Hash(), Enrolment: e}
	if err := d.approve(&b, r, values); err != nil {
		return nil, err
	}
	return b.Sign(d.key)
}

func (d *Desk) noteEnrolled(f finding, bundle []byte) error {
	facts := map[string]string{factRequest: f.verified.Request.Digest().String(), "bundle": digest(bundle), "release": f.Release.Description(),
		"ek": f.verified.EK.String(), "ak": f.verified.AK.String(), "tpm": f.tpm, "firmware": f.firmware, "officer": f.Officer.Name}
	if len(f.replaces) > 0 {
		facts["replaces"] = strings.Join(f.replaces, ", ")
	}
	return d.note(actEnrol, f.Box.Name, facts)
}

func digest(b []byte) string { return label.Digest(sha256.Sum256(b)).String() }

// acceptable is what the desk wants of a box beyond a true request.
func (d *Desk) acceptable(v tpm.Verified, r Release) error {
	q := v.Request
	if q.Label != label.KeyRelease {
		return fmt.Errorf("approve box: it asks for label %q", q.Label)
	}
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

// certify makes the label certificate: a CA of its own for one box, which can name nothing but that box and its domain.
// Who a label key speaks for is read from this certificate, never from a leaf.
func (d *Desk) certify(v tpm.Verified, box label.Box) ([]byte, error) {
	uri, err := url.Parse(d.domain.LabelURI(v.Request.Label, box.Name))
	if err != nil {
		return nil, fmt.Errorf("certify label key: %w", err)
	}
	description, err := d.described(v.Request.Label)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t := &x509.Certificate{
		ExtraExtensions: []pkix.Extension{description},
		Subject:         pkix.Name{Organization: []string{d.domain.Name}, OrganizationalUnit: []string{"label " + string(v.Request.Label)}, CommonName: box.Name},
		NotBefore:       now.Add(-time.Hour), NotAfter: now.AddDate(labelLife, 0, 0), URIs: []*url.URL{uri},
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: box.DNS, PermittedIPRanges: hosts(box),
		PermittedURIDomains: []string{d.domain.Name}, PermittedEmailAddresses: []string{noName},
	}
	if len(box.DNS) == 0 {
		t.PermittedDNSDomains = []string{noName}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, d.root, v.Public, d.issuer)
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
