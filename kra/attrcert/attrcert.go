// Package attrcert reads, verifies and issues attribute certificates (RFC 5755): what an authority says of the holder of a public-key certificate.
//
//	DER -> Parse -> Certificate -> Verify(issuer, holder, targets, revocation) -> Verified -> groups, roles, clearances
//
// A Certificate shows only what is needed to find its issuer and its holder. What it says of the holder, a Verified tells.
package attrcert

import (
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Limits of the parser.
const (
	MaxSize       = 16 << 10 // bytes of a certificate
	MaxValues     = 256      // values of all attributes
	MaxText       = 1024     // bytes of one value
	maxDepth      = 24       // elements within each other
	maxElements   = 4096     // DER elements
	maxAttributes = 64       // attribute types
	maxExtensions = 32
	maxSerial     = 20 // octets of a serial number, RFC 5755 section 4.2.5
	maxBit        = 63 // highest bit of a class list
)

// PEMType is the label of an attribute certificate as text (RFC 7468).
const PEMType = "ATTRIBUTE CERTIFICATE"

// A Certificate is a well-formed attribute certificate of which nothing is verified. The zero Certificate is nobody's.
type Certificate struct {
	raw       []byte
	tbs       []byte
	algorithm algorithm
	signature []byte

	holder     holder
	issuer     []byte // DER name
	serial     *big.Int
	from       time.Time
	until      time.Time
	content    content
	extensions extensions
}

// content is what the attributes say.
type content struct {
	groups     []string
	roles      []string
	clearances []Clearance
	others     []Attribute
	ignored    []string
}

// A Clearance is what its holder may see, in the words of a policy (RFC 5755, section 4.4.6).
type Clearance struct {
	Policy     asn1.ObjectIdentifier
	Bits       []int // of the class list, ascending; unmarked(0), unclassified(1), restricted(2), confidential(3), secret(4), topSecret(5)
	Categories []Category
}

// A Category is a security category.
type Category struct {
	Type  asn1.ObjectIdentifier
	Value []byte // one DER element
}

// An Attribute is one of a type that RFC 5755 does not define, with string values.
type Attribute struct {
	Type   asn1.ObjectIdentifier
	Values []string
}

// Raw returns the certificate's DER. The caller must not write to it.
func (c Certificate) Raw() []byte { return c.raw }

// Issuer returns the DER name of who issued the certificate. The caller must not write to it.
func (c Certificate) Issuer() []byte { return c.issuer }

// Serial returns the certificate's number under its issuer.
func (c Certificate) Serial() *big.Int {
	if c.serial == nil {
		return new(big.Int)
	}
	return new(big.Int).Set(c.serial)
}

// Decode reads one attribute certificate, DER or PEM.
func Decode(b []byte) (Certificate, error) {
	if len(b) > 2*MaxSize {
		return Certificate{}, fmt.Errorf("read attribute certificate: %d bytes, at most %d are accepted", len(b), MaxSize)
	}
	p, rest := pem.Decode(b)
	if p == nil {
		return Parse(b)
	}
	if p.Type != PEMType || len(p.Headers) != 0 || len(rest) != 0 {
		return Certificate{}, errors.New("read attribute certificate: want one PEM block " + PEMType)
	}
	return Parse(p.Bytes)
}
