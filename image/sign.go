package image

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"debug/pe"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A Signer is a key of db with its certificate. Firmware knows RSA with 2048 bits and SHA-256; the key may be in a token.
type Signer struct {
	Key         crypto.Signer
	Certificate *x509.Certificate
}

const signerBits = 2048

func (s Signer) check() error {
	pub, ok := s.Key.Public().(*rsa.PublicKey)
	switch {
	case !ok || pub.N.BitLen() != signerBits:
		return fmt.Errorf("firmware wants an RSA key of %d bits", signerBits)
	case !pub.Equal(s.Certificate.PublicKey):
		return errors.New("the certificate is for another key")
	}
	return nil
}

// SignUKI appends a signature for the firmware to a UKI. It is a function of both: PKCS #1 v1.5 draws nothing, and no time is signed. No Go
// library that writes them is to be had, and a tool that wants the key in a file would forbid tokens; two such tools verify the result in tests.
func SignUKI(uki []byte, by Signer) ([]byte, error) {
	if err := by.check(); err != nil {
		return nil, fmt.Errorf("sign UKI: %w", err)
	}
	if _, err := ReadUKI(uki); err != nil {
		return nil, fmt.Errorf("sign UKI: %w", err)
	}
	at, size, err := certificateTable(uki)
	if err != nil {
		return nil, fmt.Errorf("sign UKI: %w", err)
	}
	if size != 0 || len(uki)%certificateAlign != 0 {
		return nil, errors.New("sign UKI: it is signed already, or no UKI as built")
	}
	signature, err := by.authenticode(uki)
	if err != nil {
		return nil, fmt.Errorf("sign UKI: %w", err)
	}
	entry := certificateEntry(signature)
	out := append(bytes.Clone(uki), entry...)
	binary.LittleEndian.PutUint32(out[at:], uint32(len(uki)))
	binary.LittleEndian.PutUint32(out[at+4:], uint32(len(entry)))
	return out, nil
}

// certificateTable finds the directory entry of a PE image's signatures, and how many bytes of them there are.
func certificateTable(image []byte) (entry, size int, err error) {
	f, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, 0, err
	}
	header, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		return 0, 0, errors.New("not PE32+")
	}
	optional := int(binary.LittleEndian.Uint32(image[dosPEOffset:])) + len(peSignature) + coffSize
	return optional + optionalCertificate, int(header.DataDirectory[directoryCertificate].Size), nil
}

const (
	certificateAlign    = 8
	certificateHeader   = 8
	certificateRevision = 0x0200
	certificatePKCS7    = 2
)

// certificateEntry is a WIN_CERTIFICATE (Windows Authenticode PE Signature Format, "PE Certificate Table"):
//
//	uint32 size of all | uint16 revision | uint16 kind | PKCS #7 | pad to 8
func certificateEntry(pkcs7 []byte) []byte {
	n := (certificateHeader + len(pkcs7) + certificateAlign - 1) / certificateAlign * certificateAlign
	out := make([]byte, n)
	binary.LittleEndian.PutUint32(out, uint32(n))
	binary.LittleEndian.PutUint16(out[4:], certificateRevision)
	binary.LittleEndian.PutUint16(out[6:], certificatePKCS7)
	copy(out[certificateHeader:], pkcs7)
	return out
}

// Object identifiers: PKCS #7, PKCS #9, and Microsoft's of Authenticode.
var (
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidRSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidIndirect      = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	oidPEImage       = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}
)

// authenticode is the PKCS #7 SignedData (RFC 2315, 9.1) over the PE image hash.
func (s Signer) authenticode(uki []byte) ([]byte, error) {
	content, err := indirectData(uki)
	if err != nil {
		return nil, err
	}
	attributes := func(b *cryptobyte.Builder) { // in the order of DER: the shorter first
		attribute(b, oidContentType, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidIndirect) })
		digest := sha256.Sum256(inside(content))
		attribute(b, oidMessageDigest, func(b *cryptobyte.Builder) { b.AddASN1OctetString(digest[:]) })
	}
	var signed cryptobyte.Builder
	signed.AddASN1(casn1.SET, attributes) // signed as a SET, sent as [0]
	toSign, err := signed.Bytes()
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(toSign)
	signature, err := s.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	sequence(&b, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidSignedData)
		explicit(b, func(b *cryptobyte.Builder) {
			sequence(b, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1(casn1.SET, func(b *cryptobyte.Builder) { algorithm(b, oidSHA256) })
				sequence(b, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(oidIndirect)
					explicit(b, func(b *cryptobyte.Builder) { b.AddBytes(content) })
				})
				explicit(b, func(b *cryptobyte.Builder) { b.AddBytes(s.Certificate.Raw) })
				b.AddASN1(casn1.SET, func(b *cryptobyte.Builder) { s.signerInfo(b, attributes, signature) })
			})
		})
	})
	return b.Bytes()
}

func (s Signer) signerInfo(b *cryptobyte.Builder, attributes func(*cryptobyte.Builder), signature []byte) {
	sequence(b, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		sequence(b, func(b *cryptobyte.Builder) {
			b.AddBytes(s.Certificate.RawIssuer)
			b.AddASN1BigInt(s.Certificate.SerialNumber)
		})
		algorithm(b, oidSHA256)
		explicit(b, attributes)
		algorithm(b, oidRSA)
		b.AddASN1OctetString(signature)
	})
}

// indirectData is SpcIndirectDataContent: what kind of thing is signed, and its hash. The file name that it has room for is obsolete and
// says so, as everybody's does.
func indirectData(uki []byte) ([]byte, error) {
	digest, err := Authenticode(uki)
	if err != nil {
		return nil, err
	}
	var obsolete []byte
	for _, c := range utf16.Encode([]rune("<<<Obsolete>>>")) {
		obsolete = binary.BigEndian.AppendUint16(obsolete, c)
	}
	var b cryptobyte.Builder
	sequence(&b, func(b *cryptobyte.Builder) {
		sequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidPEImage)
			sequence(b, func(b *cryptobyte.Builder) {
				b.AddASN1BitString(nil)
				explicit(b, func(b *cryptobyte.Builder) {
					b.AddASN1(casn1.Tag(2).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
						b.AddASN1(casn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(obsolete) })
					})
				})
			})
		})
		sequence(b, func(b *cryptobyte.Builder) {
			algorithm(b, oidSHA256)
			b.AddASN1OctetString(digest[:])
		})
	})
	return b.Bytes()
}

// inside is the content of a DER value: Authenticode hashes it without its tag and length.
func inside(der []byte) []byte {
	s, in := cryptobyte.String(der), cryptobyte.String(nil)
	if !s.ReadASN1(&in, casn1.SEQUENCE) {
		panic("not what was just written")
	}
	return in
}

func sequence(b *cryptobyte.Builder, f func(*cryptobyte.Builder)) { b.AddASN1(casn1.SEQUENCE, f) }

func explicit(b *cryptobyte.Builder, f func(*cryptobyte.Builder)) {
	b.AddASN1(casn1.Tag(0).ContextSpecific().Constructed(), f)
}

func algorithm(b *cryptobyte.Builder, oid asn1.ObjectIdentifier) {
	sequence(b, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1NULL()
	})
}

func attribute(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, value func(*cryptobyte.Builder)) {
	sequence(b, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1(casn1.SET, value)
	})
}
