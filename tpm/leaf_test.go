package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

func spkiOf(t testing.TB, pub crypto.PublicKey) []byte {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tlsKey(t *testing.T) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	k := newKey(t)
	return spkiOf(t, &k.PublicKey), k
}

func parsed(t *testing.T, chain [][]byte, err error) (*x509.Certificate, *x509.CertPool) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	for _, der := range chain[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		pool.AddCert(c)
	}
	return leaf, pool
}

func TestLeaves(t *testing.T) {
	b := enrolled(t)
	roots := x509.NewCertPool()
	roots.AddCert(b.of.rootCertificate)

	spki, _ := tlsKey(t)
	chain, err := b.LeafTLS(t.Context(), spki)
	leaf, between := parsed(t, chain, err)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: "box1.example"}); err != nil {
		t.Errorf("verify TLS leaf: %v", err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: "127.0.0.1"}); err != nil {
		t.Errorf("verify TLS leaf by address: %v", err)
	}
	if d := leaf.NotAfter.Sub(leaf.NotBefore); d > 24*time.Hour {
		t.Errorf("TLS leaf lives for %v; want at most 24 hours", d)
	}

	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain, err = b.LeafReceipt(t.Context(), spkiOf(t, pub))
	leaf, between = parsed(t, chain, err)
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != "kra://example/receipt/box1" {
		t.Errorf("receipt leaf names %v", leaf.URIs)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Errorf("verify receipt leaf: %v", err)
	}

	big, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	chain, err = b.LeafImport(t.Context(), spkiOf(t, &big.PublicKey))
	leaf, between = parsed(t, chain, err)
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != "kra://example/import/box1" || leaf.KeyUsage != x509.KeyUsageKeyEncipherment || leaf.NotAfter.Sub(leaf.NotBefore) > importLife {
		t.Errorf("import leaf: %v %v until %v", leaf.URIs, leaf.KeyUsage, leaf.NotAfter)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Errorf("verify import leaf: %v", err)
	}

	chain, err = b.LeafKeyRelease(t.Context(), spki, "legal-team", wire.Agreement)
	leaf, between = parsed(t, chain, err)
	if leaf.Subject.CommonName != "legal-team" || len(leaf.URIs) != 1 || leaf.URIs[0].String() != "kra://example/legal-team" || leaf.KeyUsage != x509.KeyUsageKeyAgreement {
		t.Errorf("key-release leaf: %v %v %v", leaf.Subject, leaf.URIs, leaf.KeyUsage)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Errorf("verify key-release leaf: %v", err)
	}
}

// TestReplicaLeaf: a statement is signed by a key that the label key certified, and believed by who has the domain's root.
func TestReplicaLeaf(t *testing.T) {
	b := enrolled(t)
	spki, key := tlsKey(t)
	statement := label.ReplicaRequest{Domain: b.of.domain.Hash(), Box: "box1", Transport: []byte("key"), Nonce: label.Digest{1}}
	chain, err := b.LeafReplica(t.Context(), spki, statement.Digest())
	leaf, _ := parsed(t, chain, err)
	if d := leaf.NotAfter.Sub(leaf.NotBefore); d > replicaLife {
		t.Errorf("replica leaf lives for %v; want at most %v", d, replicaLife)
	}
	request, err := statement.Sign(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	_, by, err := label.OpenReplicaRequest(request, b.of.domain, time.Now())
	if err != nil || by.Box != "box1" {
		t.Errorf("request of %+v, %v", by, err)
	}
	if _, _, err := label.OpenReplicaRequest(request, b.of.domain, leaf.NotAfter.Add(time.Second)); err == nil {
		t.Error("an old statement is believed")
	}
	for name, f := range map[string]func() ([][]byte, error){
		"TLS":         func() ([][]byte, error) { return b.LeafTLS(t.Context(), spki) },
		"key release": func() ([][]byte, error) { return b.LeafKeyRelease(t.Context(), spki, "box1", wire.Agreement) },
	} {
		other, err := f()
		if err != nil {
			t.Fatal(err)
		}
		request, err := statement.Sign(other, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := label.OpenReplicaRequest(request, b.of.domain, time.Now()); err == nil {
			t.Errorf("a %s leaf signs a statement", name)
		}
	}
}

// TestHybridLeaf: a key that crypto/x509 does not know is certified like any other.
func TestHybridLeaf(t *testing.T) {
	b := enrolled(t)
	roots := x509.NewCertPool()
	roots.AddCert(b.of.rootCertificate)
	pq, err := mlkem.GenerateKey768()
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := block.NewHybridKey(append(pq.EncapsulationKey().Bytes(), ec.PublicKey().Bytes()...))
	if err != nil {
		t.Fatal(err)
	}
	spki, err := block.MarshalPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := b.LeafKeyRelease(t.Context(), spki, "legal-team", wire.Encipherment)
	leaf, between := parsed(t, chain, err)
	if leaf.Subject.CommonName != "legal-team" || len(leaf.URIs) != 1 || leaf.URIs[0].String() != "kra://example/legal-team" ||
		leaf.KeyUsage != x509.KeyUsageKeyEncipherment || !bytes.Equal(leaf.RawSubjectPublicKeyInfo, spki) {
		t.Errorf("hybrid leaf: %v %v %v", leaf.Subject, leaf.URIs, leaf.KeyUsage)
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	if _, err := leaf.Verify(options); err != nil {
		t.Errorf("verify hybrid leaf: %v", err)
	}
	forged := bytes.Replace(chain[0], spki[100:140], spki[101:141], 1)
	if other, err := x509.ParseCertificate(forged); err == nil {
		if _, err := other.Verify(options); err == nil {
			t.Error("a hybrid leaf with another key verifies")
		}
	}
	for name, f := range map[string]func() ([][]byte, error){
		"TLS":       func() ([][]byte, error) { return b.LeafTLS(t.Context(), spki) },
		"receipt":   func() ([][]byte, error) { return b.LeafReceipt(t.Context(), spki) },
		"agreement": func() ([][]byte, error) { return b.LeafKeyRelease(t.Context(), spki, "legal-team", wire.Agreement) },
	} {
		_, err := f()
		if err == nil {
			t.Errorf("%s: a hybrid key is certified", name)
			continue
		}
		wantRefused(t, err)
	}
}

func TestLeavesRefused(t *testing.T) {
	b := enrolled(t)
	p256, _ := tlsKey(t)
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, otherCurve := spkiOf(t, &small.PublicKey), spkiOf(t, &p521.PublicKey)
	for name, f := range map[string]func() ([][]byte, error){
		"TLS, RSA":                    func() ([][]byte, error) { return b.LeafTLS(t.Context(), rsaKey) },
		"TLS, no key":                 func() ([][]byte, error) { return b.LeafTLS(t.Context(), []byte("digest of something else")) },
		"receipt, P-256":              func() ([][]byte, error) { return b.LeafReceipt(t.Context(), p256) },
		"replica, RSA":                func() ([][]byte, error) { return b.LeafReplica(t.Context(), rsaKey, label.Digest{1}) },
		"replica, P-521":              func() ([][]byte, error) { return b.LeafReplica(t.Context(), otherCurve, label.Digest{1}) },
		"replica, no statement":       func() ([][]byte, error) { return b.LeafReplica(t.Context(), p256, label.Digest{}) },
		"key release, replica's name": func() ([][]byte, error) { return b.LeafKeyRelease(t.Context(), p256, "replica/box1", wire.Agreement) },
		"import, P-256":               func() ([][]byte, error) { return b.LeafImport(t.Context(), p256) },
		"import, RSA-2048":            func() ([][]byte, error) { return b.LeafImport(t.Context(), rsaKey) },
		"key release, import's name":  func() ([][]byte, error) { return b.LeafKeyRelease(t.Context(), p256, "import/box1", wire.Agreement) },
		"key release, RSA agreement":  func() ([][]byte, error) { return b.LeafKeyRelease(t.Context(), rsaKey, "legal", wire.Agreement) },
		"key release, P-256 encipher": func() ([][]byte, error) { return b.LeafKeyRelease(t.Context(), p256, "legal", wire.Encipherment) },
		"key release, P-521":          func() ([][]byte, error) { return b.LeafKeyRelease(t.Context(), otherCurve, "legal", wire.Agreement) },
		"key release, no usage":       func() ([][]byte, error) { return b.LeafKeyRelease(t.Context(), p256, "legal", "") },
		"key release, receipt's name": func() ([][]byte, error) { return b.LeafKeyRelease(t.Context(), p256, "receipt/box1", wire.Agreement) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: certified", name)
		} else {
			wantRefused(t, err)
		}
	}
	b.now = b.now.AddDate(6, 0, 0)
	_, err = b.LeafTLS(t.Context(), p256)
	wantRefused(t, err, "the clock says")
}

// TestReceiptsByAnyClock: whatever the clock was when the box started, its receipts and its log verify when it has been set.
func TestReceiptsByAnyClock(t *testing.T) {
	b := enrolled(t)
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	today := b.now
	for _, at := range []time.Time{today, time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), today.AddDate(4, 0, 0)} {
		b.now = at
		chain, err := b.LeafReceipt(t.Context(), spkiOf(t, pub))
		leaf, _ := parsed(t, chain, err)
		by, err := x509.ParseCertificate(chain[1])
		if err != nil || !leaf.NotBefore.Equal(by.NotBefore) || !leaf.NotAfter.Equal(by.NotAfter) || today.Before(leaf.NotBefore) || today.After(leaf.NotAfter) {
			t.Errorf("at %s: valid from %s to %s, %v", at, leaf.NotBefore, leaf.NotAfter, err)
		}
	}
	b.now = today.AddDate(6, 0, 0)
	_, err = b.LeafReceipt(t.Context(), spkiOf(t, pub))
	wantRefused(t, err, "the clock says")
}

// TestLeafByADeadClock: a clock without a battery, years before the label certificate, counts as the beginning of that: the box opens.
func TestLeafByADeadClock(t *testing.T) {
	b := enrolled(t)
	spki, _ := tlsKey(t)
	today := b.now
	b.now = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	chain, err := b.LeafTLS(t.Context(), spki)
	leaf, _ := parsed(t, chain, err)
	by, err := x509.ParseCertificate(chain[1])
	if err != nil {
		t.Fatal(err)
	}
	if !leaf.NotBefore.Equal(by.NotBefore) || leaf.NotAfter.Sub(leaf.NotBefore) != tlsLife || by.NotBefore.After(today) {
		t.Errorf("valid from %s to %s, the label's from %s", leaf.NotBefore, leaf.NotAfter, by.NotBefore)
	}
}
