// Package boardtest is a domain for tests of boards: its root, its label key, and platforms that advertise, without a TPM.
package boardtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// Explanation is the description of every label.
const Explanation = "What this label means\n=====================\n\nThe platform runs what the domain has approved for it.\n"

// A Domain has all keys of one.
type Domain struct {
	Name  string
	Root  *x509.Certificate
	Roots *x509.CertPool
	Key   *ecdsa.PrivateKey // K_label

	t         testing.TB
	root      *ecdsa.PrivateKey
	authority []byte
}

// New makes a domain.
func New(t testing.TB, name string) *Domain {
	t.Helper()
	d := &Domain{Name: name, t: t, root: key(t), Key: key(t), Roots: x509.NewCertPool()}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{name}, CommonName: name + " root"}, NotBefore: time.Now().AddDate(-1, 0, 0),
		NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, MaxPathLen: 1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	d.Root = d.certificate(c, c, d.root.Public())
	d.Roots.AddCert(d.Root)
	d.authority = d.leaf(d.Key, label.Domain{Name: name}.AuthorityURI(), &x509.Certificate{}).Raw
	return d
}

func key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (d *Domain) certificate(c, by *x509.Certificate, pub any) *x509.Certificate {
	d.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, by, pub, d.root)
	if err != nil {
		d.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

// leaf completes a certificate under one name.
func (d *Domain) leaf(k *ecdsa.PrivateKey, uri string, c *x509.Certificate) *x509.Certificate {
	d.t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		d.t.Fatal(err)
	}
	c.URIs, c.BasicConstraintsValid = []*url.URL{u}, true
	c.NotBefore, c.NotAfter = time.Now().AddDate(0, -1, 0), time.Now().AddDate(1, 0, 0)
	if c.KeyUsage == 0 {
		c.KeyUsage = x509.KeyUsageDigitalSignature
	}
	return d.certificate(c, d.Root, k.Public())
}

// A Platform is a box or another platform of the domain, with one label.
type Platform struct {
	Of    *Domain
	Name  string
	Label label.ID
	Part  label.Part

	key             *ecdsa.PrivateKey
	cert, attesting *x509.Certificate
}

// Platform certifies a platform for a label; it may have addresses under the hosts.
func (d *Domain) Platform(name string, l label.ID, p label.Part, hosts ...string) *Platform {
	d.t.Helper()
	b := &Platform{Of: d, Name: name, Label: l, Part: p, key: key(d.t)}
	about, err := label.DescriptionExtension(label.Domain{Name: d.Name}.DescriptionURI([]byte(Explanation)))
	if err != nil {
		d.t.Fatal(err)
	}
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, ExtraExtensions: []pkix.Extension{about}, PermittedDNSDomainsCritical: true, PermittedURIDomains: []string{d.Name}}
	if p != label.Server {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			if ip.To4() != nil {
				ip = ip.To4()
			}
			c.PermittedIPRanges = append(c.PermittedIPRanges, &net.IPNet{IP: ip, Mask: net.CIDRMask(8*len(ip), 8*len(ip))})
			continue
		}
		c.PermittedDNSDomains = append(c.PermittedDNSDomains, h)
	}
	of := label.Domain{Name: d.Name}
	b.cert = d.leaf(b.key, of.LabelURI(l, name), c)
	b.attesting = d.leaf(key(d.t), of.PlatformURI(name), &x509.Certificate{Subject: pkix.Name{SerialNumber: "000b"}, UnknownExtKeyUsage: []asn1.ObjectIdentifier{label.AttestationKeyUsage}})
	return b
}

// Key names the label key as permissions do, Attester the attestation key.
func (b *Platform) Key() label.Digest      { return sha256.Sum256(b.cert.RawSubjectPublicKeyInfo) }
func (b *Platform) Attester() label.Digest { return sha256.Sum256(b.attesting.RawSubjectPublicKeyInfo) }

// Leaf is a TLS certificate of the platform, for 127.0.0.1, by its label key.
func (b *Platform) Leaf() tls.Certificate {
	t := b.Of.t
	t.Helper()
	k := key(t)
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: b.Name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, c, b.cert, k.Public(), b.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, b.cert.Raw}, PrivateKey: k}
}

// Advert is what the platform says now, for an hour.
func (b *Platform) Advert(serial uint64, addresses ...string) label.SignedAdvert {
	return b.AdvertAt(time.Now(), serial, addresses...)
}

// AdvertAt is what it said at another time.
func (b *Platform) AdvertAt(now time.Time, serial uint64, addresses ...string) label.SignedAdvert {
	t := b.Of.t
	t.Helper()
	offer := label.Provide
	if b.Part != label.Server {
		offer = label.TakePart
	}
	a, err := label.Domain{Name: b.Of.Name}.NewAdvert(b.Name, b.Label, b.Part, offer, addresses, now, now.Add(time.Hour), serial)
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.Sign(b.key, label.SignedAdvert{Chain: [][]byte{b.cert.Raw}, Platform: b.attesting.Raw, Authority: b.Of.authority, Values: []label.SignedValue{b.Of.value(b.Label)}, Description: Explanation})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Retract takes back what it said.
func (b *Platform) Retract(serial uint64) label.SignedRetraction {
	t := b.Of.t
	t.Helper()
	r, err := label.Domain{Name: b.Of.Name}.NewRetraction(b.Name, b.Label, serial, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Sign(b.key, [][]byte{b.cert.Raw})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// value is what the domain says of release v0.1.0, epoch 3.
func (d *Domain) value(l label.ID) label.SignedValue {
	d.t.Helper()
	v := label.Value{Domain: d.Name, Label: l, Version: 3, Release: "v0.1.0", Commit: strings.Repeat("0123456789", 4), Image: label.Digest{0xab}, PCRs: label.PCRs{}}
	for _, i := range label.ApprovedPCRs() {
		v.PCRs[i] = sha256.Sum256([]byte{byte(i)})
	}
	v.PCRs[label.StagePCR] = label.StageValue(label.Sign)
	s, err := v.Sign(d.Key)
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// Permissions are the domain's word from now on, for an hour.
func (d *Domain) Permissions(number uint64, m label.Mode, minEpoch uint64, entries ...label.Permission) label.SignedPermissions {
	d.t.Helper()
	return d.PermissionsAt(time.Now(), number, m, minEpoch, entries...)
}

// PermissionsAt are its word from another time on.
func (d *Domain) PermissionsAt(now time.Time, number uint64, m label.Mode, minEpoch uint64, entries ...label.Permission) label.SignedPermissions {
	d.t.Helper()
	now = now.UTC().Truncate(time.Second)
	p := label.Permissions{Domain: d.Name, Sequence: number, Issued: now, Until: now.Add(time.Hour), Mode: m, MinEpoch: minEpoch, Entries: append([]label.Permission{}, entries...)}
	for i := range p.Entries {
		p.Entries[i].Since = now
	}
	slices.SortFunc(p.Entries, label.Permission.Compare)
	s, err := p.Sign(d.Key, d.authority)
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// RevocationList is the root's list with a number.
func (d *Domain) RevocationList(number int64, revoked ...*Platform) []byte {
	d.t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, b := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: b.cert.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, d.Root, d.root)
	if err != nil {
		d.t.Fatal(err)
	}
	return der
}
