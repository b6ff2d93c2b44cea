package label

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// A label certificate refers to a description of its service and fixes it: its certificate policies (RFC 5280, 4.2.1.4) have one
// CPS pointer, which is a named-information URI (RFC 6920, 3): the domain as authority, and the SHA-256 of the document.
var (
	policiesID  = asn1.ObjectIdentifier{2, 5, 29, 32}
	anyPolicy   = asn1.ObjectIdentifier{2, 5, 29, 32, 0}
	cpsPointer  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 2, 1}
	niAlgorithm = "/sha-256;"
)

type policyInformation struct {
	Policy     asn1.ObjectIdentifier
	Qualifiers []policyQualifier `asn1:"optional"`
}

type policyQualifier struct {
	ID  asn1.ObjectIdentifier
	URI string `asn1:"ia5"`
}

// DescriptionURI names a document of the domain by its hash: ni://DOMAIN/sha-256;HASH.
func (d Domain) DescriptionURI(document []byte) string {
	h := sha256.Sum256(document)
	return "ni://" + d.Name + niAlgorithm + base64.RawURLEncoding.EncodeToString(h[:])
}

// DescriptionPath is where an HTTP server of the domain has the document (RFC 6920, 4).
func DescriptionPath(h Digest) string {
	return "/.well-known/ni/sha-256/" + base64.RawURLEncoding.EncodeToString(h[:])
}

// DescriptionExtension refers a certificate to a description.
func DescriptionExtension(uri string) (pkix.Extension, error) {
	if _, err := parseDescription(uri); err != nil {
		return pkix.Extension{}, err
	}
	value, err := asn1.Marshal([]policyInformation{{anyPolicy, []policyQualifier{{cpsPointer, uri}}}})
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("refer to description: %w", err)
	}
	return pkix.Extension{Id: policiesID, Value: value}, nil
}

// Description reads the reference out of a label certificate: the URI, and the SHA-256 of the document.
func Description(c *x509.Certificate) (string, Digest, error) {
	for _, e := range c.Extensions {
		if !e.Id.Equal(policiesID) {
			continue
		}
		var all []policyInformation
		rest, err := asn1.Unmarshal(e.Value, &all)
		if err != nil || len(rest) > 0 || len(all) != 1 || len(all[0].Qualifiers) != 1 || !all[0].Qualifiers[0].ID.Equal(cpsPointer) {
			return "", Digest{}, errors.New("read description: want one policy with one CPS pointer")
		}
		uri := all[0].Qualifiers[0].URI
		h, err := parseDescription(uri)
		return uri, h, err
	}
	return "", Digest{}, errors.New("read description: the certificate refers to none")
}

func parseDescription(uri string) (Digest, error) {
	rest, ni := strings.CutPrefix(uri, "ni://")
	name, hash, cut := strings.Cut(rest, niAlgorithm)
	h, err := base64.RawURLEncoding.Strict().DecodeString(hash)
	if !ni || !cut || !hostName(name) || err != nil || len(h) != len(Digest{}) {
		return Digest{}, errors.New("read description: not ni://DOMAIN/sha-256;HASH")
	}
	return Digest(h), nil
}
