package receipt

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Limits of a certificate path.
const (
	maxPath     = 8
	maxPathSize = 24 << 10
)

const (
	linkContext = "kra/receipt-key/v1"
	algEd25519  = 1 // signature type of C2SP signed notes
)

// A Name says whose receipt key it is, from the leaf's URI kra://DOMAIN/receipt/BOX.
type Name struct{ Domain, Box string }

// A Path is a certificate path: leaf first, the root may be left out. A Path is trusted only as far as Verify says.
type Path struct {
	certs []*x509.Certificate
	text  string // PEM, made once: it goes out with every answer
}

// NewPath parses certificates in DER, leaf first.
func NewPath(der [][]byte) (Path, error) {
	if len(der) == 0 || len(der) > maxPath {
		return Path{}, fmt.Errorf("parse certificate path: %d certificates, want 1 to %d", len(der), maxPath)
	}
	var p Path
	size := 0
	for _, d := range der {
		c, err := x509.ParseCertificate(d)
		if err != nil {
			return Path{}, fmt.Errorf("parse certificate path: %w", err)
		}
		p.certs, size = append(p.certs, c), size+len(d)
	}
	if size > maxPathSize {
		return Path{}, fmt.Errorf("parse certificate path: longer than %d bytes", maxPathSize)
	}
	var b strings.Builder
	for _, c := range p.certs {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a Builder does not fail
	}
	p.text = b.String()
	return p, nil
}

// ParsePath reads PEM as PEM writes it, and nothing else.
func ParsePath(text string) (Path, error) {
	var der [][]byte
	for rest := []byte(text); len(rest) > 0 && len(der) <= maxPath; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil || b.Type != "CERTIFICATE" || len(b.Headers) > 0 {
			return Path{}, errors.New("parse certificate path: not a sequence of certificates")
		}
		der = append(der, b.Bytes)
	}
	p, err := NewPath(der)
	if err == nil && p.PEM() != text {
		return Path{}, errors.New("parse certificate path: not in canonical form")
	}
	return p, err
}

// PEM returns the path as text.
func (p Path) PEM() string { return p.text }

// DER returns the certificates, leaf first.
func (p Path) DER() [][]byte {
	der := make([][]byte, len(p.certs))
	for i, c := range p.certs {
		der[i] = c.Raw
	}
	return der
}

// MarshalText returns the PEM form.
func (p Path) MarshalText() ([]byte, error) { return []byte(p.PEM()), nil }

// UnmarshalText reads the PEM form.
func (p *Path) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePath(string(text))
	return err
}

// Key returns the leaf's Ed25519 key.
func (p Path) Key() (ed25519.PublicKey, error) {
	if len(p.certs) == 0 {
		return nil, errors.New("certificate path is empty")
	}
	k, ok := p.certs[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("receipt key is not Ed25519")
	}
	return k, nil
}

// Verify checks the path up to one of the roots as of the time at, and returns whose key it certifies.
func (p Path) Verify(roots *x509.CertPool, at time.Time) (Name, error) {
	if _, err := p.Key(); err != nil {
		return Name{}, fmt.Errorf("verify receipt key: %w", err)
	}
	between := x509.NewCertPool()
	for _, c := range p.certs[1:] {
		between.AddCert(c)
	}
	paths, err := p.certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return Name{}, fmt.Errorf("verify receipt key: %w", err)
	}
	n, err := p.name()
	if err != nil {
		return Name{}, err
	}
	if !certifiedFor(paths[0][1:], n) {
		return Name{}, fmt.Errorf("verify receipt key: no label certificate of box %q certifies it", n.Box)
	}
	return n, nil
}

// receiptLabel is the label whose key certifies receipt keys.
const receiptLabel = "key-release"

// certifiedFor says whether the certificates above a leaf begin with the label certificate of the named box: a label key
// speaks for its own box only, whatever its leaves say. The label certificate's URI is kra://DOMAIN/label/LABEL/BOX.
func certifiedFor(above []*x509.Certificate, n Name) bool {
	if len(above) == 0 || len(above[0].URIs) != 1 {
		return false
	}
	f := strings.Split(strings.TrimPrefix(above[0].URIs[0].String(), "kra://"), "/")
	return len(f) == 4 && f[0] == n.Domain && f[1] == "label" && f[2] == receiptLabel && f[3] == n.Box
}

// name reads the one URI of the leaf: kra://DOMAIN/receipt/BOX.
func (p Path) name() (Name, error) {
	leaf := p.certs[0]
	if leaf.IsCA || len(leaf.URIs) != 1 {
		return Name{}, errors.New("verify receipt key: the leaf must be no CA and have one URI")
	}
	rest, ok := strings.CutPrefix(leaf.URIs[0].String(), "kra://")
	f := strings.Split(rest, "/")
	if !ok || len(f) != 3 || f[0] == "" || f[1] != "receipt" || CheckBox(f[2]) != nil {
		return Name{}, fmt.Errorf("verify receipt key: %q does not name a receipt key", leaf.URIs[0])
	}
	return Name{Domain: f[0], Box: f[2]}, nil
}

func (p Path) verifier(origin string) (note.Verifier, error) {
	k, err := p.Key()
	if err != nil {
		return nil, err
	}
	text, err := note.NewEd25519VerifierKey(origin, k)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(text)
}

// A Signer signs the checkpoints of one box with its receipt key. Only NewSigner makes one.
type Signer struct {
	box  string
	hash uint32
	path Path
	sign func(msg []byte) []byte
}

// NewSigner ties a private key to the certificate path that ends in its public key and to the box's name.
func NewSigner(box string, key ed25519.PrivateKey, path Path) (*Signer, error) {
	if err := CheckBox(box); err != nil {
		return nil, fmt.Errorf("make receipt signer: %w", err)
	}
	pub, err := path.Key()
	if err != nil {
		return nil, fmt.Errorf("make receipt signer: %w", err)
	}
	if len(key) != ed25519.PrivateKeySize || !pub.Equal(key.Public()) {
		return nil, errors.New("make receipt signer: certificate and key do not belong together")
	}
	h := sha256.Sum256(append([]byte(originPrefix+box+"\n"), append([]byte{algEd25519}, pub...)...))
	return &Signer{box: box, hash: binary.BigEndian.Uint32(h[:]), path: path,
		sign: func(msg []byte) []byte { return ed25519.Sign(key, msg) }}, nil
}

// Path returns the certificates of the key.
func (s *Signer) Path() Path { return s.path }

// Name, KeyHash and Sign make a Signer a note.Signer.
func (s *Signer) Name() string                    { return originPrefix + s.box }
func (s *Signer) KeyHash() uint32                 { return s.hash }
func (s *Signer) Sign(msg []byte) ([]byte, error) { return s.sign(msg), nil }

// Checkpoint signs c for the signer's own box.
func (s *Signer) Checkpoint(c Checkpoint) (string, error) {
	c.Box, c.Time = s.box, c.Time.UTC().Truncate(time.Second)
	signed, err := note.Sign(&note.Note{Text: c.Text()}, s)
	if err != nil {
		return "", fmt.Errorf("sign checkpoint: %w", err)
	}
	return string(signed), nil
}

// A Link introduces a receipt key into the log. The key before it vouches for it; the first has none before it.
type Link struct {
	Path Path   `json:"path"`
	Old  []byte `json:"old,omitempty"` // Ed25519 signature by the key before, over linkMessage
}

// NewLink makes the link to s at position index of the log, signed by the key before it unless that is nil.
func (s *Signer) NewLink(old ed25519.PrivateKey, index int64) Link {
	l := Link{Path: s.path}
	if old != nil {
		l.Old = ed25519.Sign(old, s.linkMessage(index))
	}
	return l
}

func (s *Signer) linkMessage(index int64) []byte { return linkMessage(s.box, index, s.path) }

// linkMessage is "kra/receipt-key/v1" ‖ 0 ‖ box ‖ 0 ‖ index (8 bytes, big endian) ‖ SHA-256 of the new key's leaf.
func linkMessage(box string, index int64, path Path) []byte {
	b := append([]byte(linkContext), 0)
	b = append(b, box...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(index))
	h := sha256.Sum256(path.certs[0].Raw)
	return append(b, h[:]...)
}

// Verify checks that the old key introduced this one at position index of the box's log.
func (l Link) Verify(old ed25519.PublicKey, box string, index int64) error {
	if len(l.Path.certs) == 0 || len(old) != ed25519.PublicKeySize || !ed25519.Verify(old, linkMessage(box, index, l.Path), l.Old) {
		return fmt.Errorf("verify receipt key: record %d is not signed by the key before it", index)
	}
	return nil
}
