package label

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// A sealed bundle opens under its credential only, and its key is derived as STATEMENTS.md says.
func TestSealedBundle(t *testing.T) {
	credential := bytes.Repeat([]byte{7}, CredentialSize)
	data, err := SealBundle([]byte("the bundle"), credential)
	if err != nil {
		t.Fatal(err)
	}
	const want = "0f6176abeb720b239eaa432d415ad266a93866e2730da32685fb" // by another implementation
	if got := hex.EncodeToString(data); got != want {
		t.Errorf("SealBundle() = %s; want %s", got, want)
	}
	s := SealedBundle{Credential: []byte{1}, Secret: []byte{2}, Data: data}
	text := s.PEM()
	if !IsSealed(text) || IsSealed([]byte("-----BEGIN KRA BUNDLE-----")) {
		t.Error("IsSealed() does not tell a sealed bundle from another")
	}
	p, err := ParseSealed([]byte("enrol install\r\n" + strings.ReplaceAll(string(text), "\n", "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Open(credential); err != nil || string(got) != "the bundle" {
		t.Errorf("Open() = %q, %v", got, err)
	}
	credential[0] ^= 1
	if _, err := p.Open(credential); err == nil {
		t.Error("opened under another credential")
	}
	for _, bad := range [][]byte{nil, credential[1:]} {
		if _, err := p.Open(bad); err == nil {
			t.Errorf("opened under a credential of %d bytes", len(bad))
		}
		if _, err := SealBundle(nil, bad); err == nil {
			t.Errorf("sealed under a credential of %d bytes", len(bad))
		}
	}
}

// A fingerprint is of the Name, which is of the public area.
func TestFingerprint(t *testing.T) {
	r := newRequest(t)
	n := NameOf(r.AK)
	if n[0] != 0 || n[1] != 0x0b || r.Fingerprint() != n.Fingerprint() || strings.ReplaceAll(n.Fingerprint(), "-", "") != n.String()[4:36] {
		t.Errorf("Fingerprint() = %s of %s", r.Fingerprint(), n)
	}
	r.AK = []byte{9}
	if r.Fingerprint() == n.Fingerprint() {
		t.Error("two keys have one fingerprint")
	}
}
