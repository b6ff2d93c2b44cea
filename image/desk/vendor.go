package desk

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	vendorsDir      = "vendors" // *.pem: the authorities of TPM makers that the domain believes
	maxVendorFile   = 1 << 20
	factFile        = "file" // of the journal: its digest
	endorsementHint = "'domain vendor add' has its maker believed; or read the fingerprint at the box's console and say -first-seen FINGERPRINT"
)

// Object identifiers of the TCG EK Credential Profile 2.5, 3.1 and 3.2.
var (
	endorsementUsage = asn1.ObjectIdentifier{2, 23, 133, 8, 1} // tcg-kp-EKCertificate
	tpmManufacturer  = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	tpmModel         = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	tpmVersion       = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
	alternativeName  = asn1.ObjectIdentifier{2, 5, 29, 17} // RFC 5280, 4.2.1.6
	rsaesOAEP        = "06092a864886f70d010107"            // 1.2.840.113549.1.1.7, DER: some makers' name of an RSA key
)

// A maker is what an endorsement certificate says of a TPM.
type maker struct{ manufacturer, model, version, issuer string }

// String is for people.
func (m maker) String() string {
	return fmt.Sprintf("manufacturer %s, model %s, version %s, certified by %q", m.manufacturer, m.model, m.version, m.issuer)
}

// genuine checks that a maker whom the domain believes has certified the endorsement key of a request. That the attestation key
// lives in the same TPM shows only when the box opens what was sealed to it.
func (d *Desk) genuine(v tpm.Verified) (maker, error) {
	e := v.Request.EK
	if len(e.Certificate) == 0 {
		return maker{}, errors.New("approve box: its TPM brings no endorsement certificate, so nothing shows that it is genuine: read the fingerprint at the box's console and say -first-seen FINGERPRINT")
	}
	c, err := x509.ParseCertificate(e.Certificate)
	if err != nil {
		return maker{}, fmt.Errorf("approve box: endorsement certificate: %w", err)
	}
	m, err := d.endorsement(c, e.Chain)
	if err != nil {
		return maker{}, fmt.Errorf("approve box: endorsement certificate: %w", err)
	}
	if !certifies(c, v.Endorser) {
		return maker{}, errors.New("approve box: the endorsement certificate is of another TPM: it certifies another key")
	}
	return m, nil
}

// endorsement checks a certificate against the profile and the vendors. Its critical alternative name has only what crypto/x509
// leaves to us; nothing else that is critical is let through.
func (d *Desk) endorsement(c *x509.Certificate, chain [][]byte) (maker, error) {
	m, err := describe(c)
	if err != nil {
		return m, err
	}
	c.UnhandledCriticalExtensions = slices.DeleteFunc(c.UnhandledCriticalExtensions, alternativeName.Equal)
	if !slices.ContainsFunc(c.UnknownExtKeyUsage, endorsementUsage.Equal) {
		return m, errors.New("it is not for an endorsement key (tcg-kp-EKCertificate)")
	}
	usage := x509.KeyUsageKeyAgreement
	if c.PublicKeyAlgorithm != x509.ECDSA {
		usage = x509.KeyUsageKeyEncipherment
	}
	if c.IsCA || c.KeyUsage&usage == 0 || c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature) != 0 {
		return m, errors.New("its key usage is not that of an endorsement key")
	}
	o, err := d.vendors()
	if err != nil {
		return m, err
	}
	for _, raw := range chain {
		between, err := x509.ParseCertificate(raw)
		if err != nil {
			return m, fmt.Errorf("issuer: %w", err)
		}
		o.Intermediates.AddCert(between)
	}
	if _, err := c.Verify(o); err != nil {
		return m, fmt.Errorf("no vendor in %s vouches for it: %w; %s", filepath.Join(d.dir, vendorsDir), err, endorsementHint)
	}
	return m, nil
}

// vendors are the authorities that the domain believes: the self-signed ones as roots, the others between.
func (d *Desk) vendors() (x509.VerifyOptions, error) {
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	files, err := filepath.Glob(filepath.Join(d.dir, vendorsDir, "*.pem"))
	if err != nil {
		return o, fmt.Errorf("read vendors: %w", err)
	}
	if len(files) == 0 {
		return o, nil
	}
	said, err := d.said(aboutNames(actVendor, actForget, factFile))
	if err != nil {
		return o, fmt.Errorf("read vendors: %w", err)
	}
	for _, f := range files {
		text, err := readFile(f, maxVendorFile)
		if err != nil {
			return o, fmt.Errorf("read vendors: %w", err)
		}
		if counts, err := said.counts(strings.TrimSuffix(filepath.Base(f), ".pem"), digest(text), f, "domain vendor add"); err != nil {
			return o, fmt.Errorf("read vendors: %w", err)
		} else if !counts {
			continue
		}
		for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
			c, err := x509.ParseCertificate(b.Bytes)
			if err != nil || b.Type != "CERTIFICATE" || !c.IsCA {
				return o, errors.Join(fmt.Errorf("read vendors: %s holds something else than certificates of authorities", f), err)
			}
			if c.CheckSignatureFrom(c) == nil {
				o.Roots.AddCert(c)
			} else {
				o.Intermediates.AddCert(c)
			}
		}
	}
	return o, nil
}

// TrustVendor has the domain believe the maker of TPMs whose authorities these are, in PEM. name is how the file is called.
func (d *Desk) TrustVendor(name string, text []byte) error {
	if _, err := label.ParseID(name); err != nil {
		return fmt.Errorf("believe vendor: its name: %w", err)
	}
	all, err := authorities(text)
	if err != nil {
		return err
	}
	if err := d.note(actVendor, name, map[string]string{"certificates": fmt.Sprint(len(all)), factFile: digest(text)}); err != nil {
		return err
	}
	dir := filepath.Join(d.dir, vendorsDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("believe vendor: %w", err)
	}
	return writeWhole(filepath.Join(dir, name+".pem"), text, 0o644)
}

// authorities are the subjects of the certificates in a text.
func authorities(text []byte) ([]string, error) {
	var out []string
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil || !c.IsCA {
			return nil, errors.New("believe vendor: the text holds something else than certificates of authorities")
		}
		out = append(out, strings.Map(printable, c.Subject.String()))
	}
	if len(out) == 0 || len(text) > maxVendorFile {
		return nil, fmt.Errorf("believe vendor: want certificates in PEM, at most %d bytes", maxVendorFile)
	}
	return out, nil
}

// ForgetVendor has the domain believe a maker no longer.
func (d *Desk) ForgetVendor(name string) error {
	if _, err := label.ParseID(name); err != nil {
		return fmt.Errorf("forget vendor: its name: %w", err)
	}
	path := filepath.Join(d.dir, vendorsDir, name+".pem")
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("forget vendor: %w", err)
	}
	if err := d.note(actForget, name, nil); err != nil {
		return err
	}
	return os.Remove(path)
}

// describe reads the three TPM attributes of the alternative name, each exactly once.
func describe(c *x509.Certificate) (maker, error) {
	var m maker
	i := slices.IndexFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(alternativeName) })
	if i < 0 {
		return m, errors.New("it does not say which TPM it is of")
	}
	in, names, explicit := cryptobyte.String(c.Extensions[i].Value), cryptobyte.String(nil), cryptobyte.String(nil)
	var name pkix.RDNSequence
	if !in.ReadASN1(&names, der.SEQUENCE) || !in.Empty() || !names.ReadASN1(&explicit, der.Tag(4).Constructed().ContextSpecific()) || !names.Empty() {
		return m, errors.New("its alternative name is not one directory name")
	}
	if rest, err := asn1.Unmarshal(explicit, &name); err != nil || len(rest) > 0 {
		return m, errors.New("its alternative name is not one directory name")
	}
	for _, part := range slices.Concat(name...) {
		text, ok := part.Value.(string)
		for _, a := range []struct {
			id asn1.ObjectIdentifier
			to *string
		}{{tpmManufacturer, &m.manufacturer}, {tpmModel, &m.model}, {tpmVersion, &m.version}} {
			if !part.Type.Equal(a.id) {
				continue
			}
			if !ok || *a.to != "" || !plain(text) {
				return m, errors.New("its description of the TPM is not plain")
			}
			*a.to = readable(text)
		}
	}
	if m.manufacturer == "" || m.model == "" || m.version == "" {
		return m, errors.New("it does not name manufacturer, model and version of the TPM")
	}
	m.issuer = strings.Map(printable, c.Issuer.String())
	return m, nil
}

const maxAttribute = 100

func plain(s string) bool { return s != "" && len(s) <= maxAttribute && strings.Map(printable, s) == s }

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return '?'
	}
	return r
}

// readable turns "id:494E5443" into "INTC": the vendor's identifier as hex of its letters (TCG Vendor ID Registry).
func readable(s string) string {
	b, err := hex.DecodeString(strings.TrimPrefix(s, "id:"))
	text := strings.TrimRight(string(b), "\x00 ")
	if err != nil || len(b) != 4 || !plain(text) {
		return s
	}
	return text
}

// certifies compares keys. crypto/x509 reads no key that is named RSAES-OAEP: it is an RSA key as any other (RFC 8017, A.2.1).
func certifies(c *x509.Certificate, key crypto.PublicKey) bool {
	k, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return false
	}
	if c.PublicKey != nil {
		return k.Equal(c.PublicKey)
	}
	info, algorithm := cryptobyte.String(c.RawSubjectPublicKeyInfo), cryptobyte.String(nil)
	var bits asn1.BitString
	if !info.ReadASN1(&info, der.SEQUENCE) || !info.ReadASN1(&algorithm, der.SEQUENCE) || !info.ReadASN1BitString(&bits) || !info.Empty() {
		return false
	}
	if !strings.HasPrefix(hex.EncodeToString(algorithm), rsaesOAEP) {
		return false
	}
	pub, err := x509.ParsePKCS1PublicKey(bits.RightAlign())
	return err == nil && k.Equal(pub)
}
