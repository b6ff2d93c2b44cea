package label

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// A Member is a box of the domain that ran approved software when it had a statement signed: its label key certified the
// statement's key, and a label key signs in no other state.
type Member struct {
	Box string
	Key Digest // SHA-256 of the SubjectPublicKeyInfo of its label key
}

const maxPath = 4 // certificates of a signatory

// ReplicaURI is the name in the certificate of a key that signs statements about copies of keys:
// kra://DOMAIN/replica/BOX/DIGEST. The key is for the one statement with this digest.
func (d Domain) ReplicaURI(box string, statement Digest) string {
	return d.replicas() + box + "/" + statement.String()
}

func (d Domain) replicas() string { return "kra://" + d.Name + "/replica/" }

// member verifies who a statement's key belongs to. Nothing that the leaf says counts but that its label key, which
// speaks for one box, certified it for this statement.
func (d Domain) member(chain [][]byte, statement Digest, at time.Time) (Member, *ecdsa.PublicKey, error) {
	fail := func(format string, a ...any) (Member, *ecdsa.PublicKey, error) {
		return Member{}, nil, fmt.Errorf("verify signatory: "+format, a...)
	}
	if len(chain) == 0 || len(chain) > maxPath {
		return fail("%d certificates, want 1 to %d", len(chain), maxPath)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return fail("parse certificate: %w", err)
	}
	box, pub, err := d.replicaLeaf(leaf, statement)
	if err != nil {
		return fail("%w", err)
	}
	above, err := d.path(leaf, chain[1:], at)
	if err != nil {
		return fail("%w", err)
	}
	if len(above) != 2 || len(above[0].URIs) != 1 || above[0].URIs[0].String() != d.LabelURI(KeyRelease, box) {
		return fail("no key of label %q of box %q certified it", KeyRelease, box)
	}
	return Member{Box: box, Key: sha256.Sum256(above[0].RawSubjectPublicKeyInfo)}, pub, nil
}

// replicaLeaf reads box and key of a leaf of this kind, for this statement, and of no other.
func (d Domain) replicaLeaf(leaf *x509.Certificate, statement Digest) (string, *ecdsa.PublicKey, error) {
	pub, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	switch {
	case leaf.IsCA || len(leaf.URIs) != 1 || len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) != 0:
		return "", nil, errors.New("the certificate is not that of a box's statements")
	case leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) != 0:
		return "", nil, errors.New("the certificate is not for signatures alone")
	case !ok || pub.Curve != elliptic.P256():
		return "", nil, errors.New("the certified key is not a P-256 key")
	}
	name, ours := strings.CutPrefix(leaf.URIs[0].String(), d.replicas())
	box, of, one := strings.Cut(name, "/")
	if !ours || !one || !namePattern.MatchString(box) {
		return "", nil, fmt.Errorf("%.120q does not name a box of domain %q", leaf.URIs[0], d.Name)
	}
	if of != statement.String() {
		return "", nil, errors.New("the certificate is for another statement")
	}
	return box, pub, nil
}

// path returns the certificates above a leaf, up to the domain's root.
func (d Domain) path(leaf *x509.Certificate, between [][]byte, at time.Time) ([]*x509.Certificate, error) {
	root, err := d.Certificate()
	if err != nil {
		return nil, err
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	o.Roots.AddCert(root)
	for _, der := range between {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("parse certificate: %w", err)
		}
		o.Intermediates.AddCert(c)
	}
	paths, err := leaf.Verify(o)
	if err != nil {
		return nil, err
	}
	return paths[0][1:], nil
}

// A signed is a statement with its signature and who made it: the certificate path of the key, leaf first, without the
// root, in DER.
type signed[S any] struct {
	Statement S        `json:"statement"`
	Chain     [][]byte `json:"chain"`
	Signature []byte   `json:"signature"` // r and s, 32 bytes each
}

// digestOf is what is signed.
func digestOf(context string, statement any) [32]byte {
	return sha256.Sum256(append([]byte(context+"\x00"), encode(statement)...))
}

// signedStatement signs, in so many bytes at most, with a key that the chain certifies.
func signedStatement[S any](most int, context string, statement S, chain [][]byte, by crypto.Signer) ([]byte, error) {
	sig, err := signDigest(by, digestOf(context, statement))
	if err != nil {
		return nil, err
	}
	doc := encode(signed[S]{statement, chain, sig})
	if len(doc) > most {
		return nil, fmt.Errorf("%d bytes, at most %d", len(doc), most)
	}
	return doc, nil
}

// signStatement does so, and armours.
func signStatement[S any](block, context string, statement S, chain [][]byte, by crypto.Signer) ([]byte, error) {
	doc, err := signedStatement(MaxDocument, context, statement, chain, by)
	if err != nil {
		return nil, err
	}
	return armor(block, doc), nil
}

// openStatement reads a statement out of a text and verifies who made it. check is asked before.
func openStatement[S any](block, context string, text []byte, d Domain, at time.Time, check func(S) error) (statement S, by Member, err error) {
	doc, err := unarmor(block, text)
	if err != nil {
		return statement, by, err
	}
	return verifyStatement(MaxDocument, context, doc, d, func(S) (time.Time, error) { return at, nil }, check)
}

// verifyStatement does so for a document of so many bytes at most. at is the time at which the certificates must be valid.
func verifyStatement[S any](most int, context string, doc []byte, d Domain, at func(S) (time.Time, error), check func(S) error) (statement S, by Member, err error) {
	var s signed[S]
	if err := decodeOf(most, doc, &s, func() error { return check(s.Statement) }); err != nil {
		return statement, by, err
	}
	when, err := at(s.Statement)
	if err != nil {
		return statement, by, err
	}
	digest := digestOf(context, s.Statement)
	by, pub, err := d.member(s.Chain, digest, when)
	if err != nil {
		return statement, Member{}, err
	}
	if len(s.Signature) != signatureSize || !ecdsa.Verify(pub, digest[:], new(big.Int).SetBytes(s.Signature[:32]), new(big.Int).SetBytes(s.Signature[32:])) {
		return statement, Member{}, fmt.Errorf("the signature is not box %q's", by.Box)
	}
	return s.Statement, by, nil
}
