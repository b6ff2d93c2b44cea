package crl_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/inform/crl"
)

var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t testing.TB, name string, usage x509.KeyUsage) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: usage, SubjectKeyId: []byte(name)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{c, key}
}

const bothUsages = x509.KeyUsageCertSign | x509.KeyUsageCRLSign

func template(serials ...int64) *x509.RevocationList {
	l := &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour)}
	for _, n := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: now.Add(-2 * time.Hour), ReasonCode: 1})
	}
	return l
}

func (a authority) sign(t testing.TB, l *x509.RevocationList) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, l, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestParse(t *testing.T) {
	a, b := newAuthority(t, "corp", bothUsages), newAuthority(t, "partner", bothUsages)
	der := a.sign(t, template(5, 1<<40))
	for what, raw := range map[string][]byte{"DER": der, "PEM": pem.EncodeToMemory(&pem.Block{Type: crl.PEMType, Bytes: der})} {
		l, err := crl.Parse(raw, b.cert, a.cert)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for n, want := range map[int64]bool{5: true, 1 << 40: true, 6: false, 0: false} {
			if l.Revoked(big.NewInt(n)) != want {
				t.Errorf("%s: %d revoked = %v", what, n, !want)
			}
		}
		if l.Len() != 2 || !l.Of(a.cert) || l.Of(b.cert) || l.Of(newAuthority(t, "corp", bothUsages).cert) {
			t.Errorf("%s: of %d entries, of the wrong authority", what, l.Len())
		}
		if l.Stale(now) || l.Stale(l.Until()) || !l.Stale(l.Until().Add(time.Second)) {
			t.Error("is stale at the wrong time")
		}
	}
}

func TestNewer(t *testing.T) {
	a := newAuthority(t, "corp", bothUsages)
	parse := func(edit func(*x509.RevocationList)) *crl.List {
		tmpl := template()
		edit(tmpl)
		l, err := crl.Parse(a.sign(t, tmpl), a.cert)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	first := parse(func(*x509.RevocationList) {})
	later := parse(func(l *x509.RevocationList) { l.ThisUpdate, l.Number = now, big.NewInt(6) })
	higher := parse(func(l *x509.RevocationList) { l.Number = big.NewInt(8) })
	if !first.Newer(nil) || first.Newer(first) || !later.Newer(first) || first.Newer(later) || !higher.Newer(first) || !later.Newer(higher) {
		t.Error("the newer list is not the newer one")
	}
}

func TestParseRefuses(t *testing.T) {
	a := newAuthority(t, "corp", bothUsages)
	with := func(id asn1.ObjectIdentifier, critical bool, value []byte) *x509.RevocationList {
		l := template(5)
		l.ExtraExtensions = []pkix.Extension{{Id: id, Critical: critical, Value: value}}
		return l
	}
	entry := template(5)
	entry.RevokedCertificateEntries[0].ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}
	good := a.sign(t, template(5))
	bad := slices.Clone(good)
	bad[len(bad)-1] ^= 1
	// Its list is made under a certificate that says otherwise: x509 would not sign it.
	signOnly := newAuthority(t, "corp", x509.KeyUsageCertSign)
	may := *signOnly.cert
	may.KeyUsage = bothUsages
	cases := map[string]struct {
		raw []byte
		by  *x509.Certificate
		why string
	}{
		"delta":                      {a.sign(t, with(asn1.ObjectIdentifier{2, 5, 29, 27}, true, []byte{2, 1, 1})), a.cert, "delta"},
		"indirect":                   {a.sign(t, with(asn1.ObjectIdentifier{2, 5, 29, 28}, true, []byte{0x30, 3, 0x84, 1, 0xff})), a.cert, "indirect"},
		"indirect, not critical":     {a.sign(t, with(asn1.ObjectIdentifier{2, 5, 29, 28}, false, []byte{0x30, 3, 0x84, 1, 0xff})), a.cert, "indirect"},
		"unknown critical":           {a.sign(t, with(asn1.ObjectIdentifier{1, 2, 3}, true, []byte{5, 0})), a.cert, "critical"},
		"entry of another authority": {a.sign(t, entry), a.cert, "entry with the unknown critical"},
		"another authority":          {good, newAuthority(t, "partner", bothUsages).cert, "another authority"},
		"another key":                {good, newAuthority(t, "corp", bothUsages).cert, "verif"},
		"no leave to sign lists":     {authority{&may, signOnly.key}.sign(t, template(5)), signOnly.cert, "cRLSign"},
		"signature changed":          {bad, a.cert, ""},
		"cut short":                  {good[:len(good)-1], a.cert, ""},
		"with a tail":                {append(slices.Clone(good), 0), a.cert, ""},
		"a certificate":              {a.cert.Raw, a.cert, ""},
		"nothing":                    {nil, a.cert, ""},
		"too long":                   {make([]byte, crl.MaxSize+1), a.cert, "longer"},
		"two":                        {append(pem.EncodeToMemory(&pem.Block{Type: crl.PEMType, Bytes: good}), pem.EncodeToMemory(&pem.Block{Type: crl.PEMType, Bytes: good})...), a.cert, "one PEM block"},
	}
	for what, x := range cases {
		t.Run(what, func(t *testing.T) {
			if l, err := crl.Parse(x.raw, x.by); err == nil || l != nil || !strings.Contains(err.Error(), x.why) {
				t.Errorf("Parse = %v; want %q", err, x.why)
			}
		})
	}
}

// OpenSSL's lists are read.
func TestOpenSSL(t *testing.T) {
	dir := t.TempDir()
	a := newAuthority(t, "corp", bothUsages)
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"ca.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}),
		"ca.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), "number": []byte("01\n"),
		"index": []byte("R\t270101000000Z\t260504100000Z,keyCompromise\tABCDEF\tunknown\t/CN=mallory\n"),
		"conf":  []byte("[ca]\ndefault_ca=x\n[x]\ndatabase=index\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=1\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("openssl", "ca", "-config", "conf", "-gencrl", "-cert", "ca.pem", "-keyfile", "ca.key", "-batch")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl ca -gencrl: %v", err)
	}
	l, err := crl.Parse(out, a.cert)
	if err != nil || !l.Revoked(big.NewInt(0xabcdef)) || l.Revoked(big.NewInt(0xabcdee)) || l.Len() != 1 {
		t.Errorf("list of openssl: %v", err)
	}
}

// FuzzParse asserts that nothing but the issuer's list is taken.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/fuzz/FuzzParse/*")
	if err != nil || len(files) < 3 {
		f.Fatalf("%d committed seeds; want 3 or more", len(files))
	}
	a := newAuthority(f, "corp", bothUsages)
	f.Add(a.sign(f, template(5, 6)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := crl.Parse(raw, a.cert)
		if err != nil {
			if l != nil {
				t.Fatal("a refused list is there")
			}
			return
		}
		if !l.Of(a.cert) || l.Until().Before(l.From()) {
			t.Fatal("list of nobody")
		}
	})
}
