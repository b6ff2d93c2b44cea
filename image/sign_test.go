package image

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/image/manifest"
)

// testSigner is a key of db with its certificate.
func testSigner(t *testing.T, key crypto.Signer) Signer {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "db of the test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return Signer{key, c}
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestSignedUKI has other people's tools verify the signature, and refuse it under another key and after a byte has changed.
func TestSignedUKI(t *testing.T) {
	uki := testUKI(t, "initramfs")
	by, other := testSigner(t, rsaKey(t, signerBits)), testSigner(t, rsaKey(t, signerBits))
	signed, err := SignUKI(uki, by)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(signed)
	changed[len(uki)-1] ^= 1
	for _, c := range []struct {
		name  string
		image []byte
		by    Signer
		good  bool
	}{{"as signed", signed, by, true}, {"unsigned", uki, by, false}, {"another key", signed, other, false}, {"a byte changed", changed, by, false}} {
		dir := t.TempDir()
		file, cert := filepath.Join(dir, "kra.efi"), filepath.Join(dir, "db.pem")
		if err := os.WriteFile(file, c.image, 0o600); err != nil {
			t.Fatal(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.by.Certificate.Raw})
		if err := os.WriteFile(cert, text, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, tool := range [][]string{{"sbverify", "--cert", cert, file}, {"osslsigncode", "verify", "-CAfile", cert, "-in", file}} {
			out, err := exec.Command(tool[0], tool[1:]...).CombinedOutput()
			if (err == nil) != c.good {
				t.Errorf("%s: %s: %v\n%s", c.name, tool[0], err, out)
			}
		}
	}
}

// TestSigningKeepsMeasurements signs twice: the same bytes come out, and all that is measured is as it was before.
func TestSigningKeepsMeasurements(t *testing.T) {
	uki := testUKI(t, "initramfs")
	by := testSigner(t, rsaKey(t, signerBits))
	firmware := SecureBoot{PK: []byte("pk"), KEK: []byte("kek"), DB: by.Certificate.Raw}
	first, err := SignUKI(uki, by)
	if err != nil {
		t.Fatal(err)
	}
	second, err := SignUKI(uki, by)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("two signatures of one image differ")
	}
	for name, predict := range map[string]func([]byte) (manifest.Digest, error){"PCR 4": firmware.PCR4, "PCR 11": PredictPCR11, "Authenticode": Authenticode} {
		a, err := predict(uki)
		if err != nil {
			t.Fatal(err)
		}
		b, err := predict(first)
		if err != nil {
			t.Fatal(err)
		}
		if a != b {
			t.Errorf("%s: %s unsigned, %s signed", name, a, b)
		}
	}
	if _, err := SignUKI(first, by); err == nil {
		t.Error("signed what is signed")
	}
}

func TestSignUKIRefuses(t *testing.T) {
	uki := testUKI(t, "initramfs")
	good := testSigner(t, rsaKey(t, signerBits))
	weak := testSigner(t, rsaKey(t, 3072))
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		uki []byte
		by  Signer
	}{
		"RSA-3072":            {uki, weak},
		"no RSA":              {uki, testSigner(t, curve)},
		"another certificate": {uki, Signer{good.Key, weak.Certificate}},
		"no UKI":              {[]byte("MZ"), good},
		"odd length":          {append(bytes.Clone(uki), 0), good},
	} {
		if _, err := SignUKI(c.uki, c.by); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

// TestSecureBootIsMeasured exchanges each certificate: PCR 7 must move.
func TestSecureBootIsMeasured(t *testing.T) {
	on := SecureBoot{PK: []byte("pk"), KEK: []byte("kek"), DB: []byte("db")}
	seen := map[manifest.Digest]string{SecureBoot{}.PCR7(): "off"}
	for name, s := range map[string]SecureBoot{
		"on": on, "PK": {[]byte("p"), on.KEK, on.DB}, "KEK": {on.PK, []byte("k"), on.DB}, "db": {on.PK, on.KEK, []byte("d")},
	} {
		if other, ok := seen[s.PCR7()]; ok {
			t.Errorf("%s measures like %s", name, other)
		}
		seen[s.PCR7()] = name
	}
}

// TestSignImage signs what was built, and nothing else, for firmware that it was built for.
func TestSignImage(t *testing.T) {
	dir := t.TempDir()
	uki := testUKI(t, "initramfs")
	by := testSigner(t, rsaKey(t, signerBits))
	firmware := SecureBoot{PK: []byte("pk"), KEK: []byte("kek"), DB: by.Certificate.Raw}
	const size = StateSize + mebibyte // of the state: the signed disk's is the same
	m := manifest.Image{Release: manifest.Release{Version: "v1", Epoch: 1, Commit: "c", Inputs: []manifest.Input{}, Programs: []manifest.Program{}},
		Files:      map[string]manifest.File{FileUKI: {Size: int64(len(uki)), SHA256: sum256(uki)}, FileDisk: {Size: stateOffset + size + mebibyte}},
		SecureBoot: firmware.Names()}
	put := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(FileUKI, uki)
	put(FileManifest, m.Bytes())
	if _, err := Sign(dir, testSigner(t, rsaKey(t, signerBits))); err == nil || !strings.Contains(err.Error(), "another key in db") {
		t.Errorf("signed by another key: %v", err)
	}
	for range 2 { // again is the same
		got, err := Sign(dir, by)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{FileUKI, FileSigned, FileDisk} {
			if f, err := fileOf(filepath.Join(dir, name)); err != nil || got.Files[name] != f {
				t.Errorf("%s: %v in the manifest, %v on the disk: %v", name, got.Files[name], f, err)
			}
		}
		if n := got.Files[FileDisk].Size; n != stateOffset+size+mebibyte {
			t.Errorf("the disk has %d bytes, its state was to have %d", n, size)
		}
		files, err := ReadESP(filepath.Join(dir, FileDisk))
		if err != nil || !bytes.Equal(files[BootPath], read(t, filepath.Join(dir, FileSigned))) {
			t.Errorf("the disk does not carry the signed image: %v", err)
		}
	}
	put(FileUKI, append(bytes.Clone(uki), make([]byte, 8)...))
	if _, err := Sign(dir, by); err == nil || !strings.Contains(err.Error(), "not what was built") {
		t.Errorf("signed what was not built: %v", err)
	}
}
