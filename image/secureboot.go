package image

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

	"github.com/keyrelease/krabox/image/manifest"
)

// A SecureBoot is whose software a machine's firmware starts: the certificates of a domain's Secure Boot keys, DER. The platform key
// (PK) may change the others, the key exchange key (KEK) may change db, and db is under what the UKI must be signed. The zero value
// is firmware without keys: Secure Boot is off.
type SecureBoot struct {
	PK, KEK, DB []byte
}

// Files of the certificates in a domain's folder, DER: what a machine's set-up program takes.
const (
	FilePK  = "secureboot/PK.cer"
	FileKEK = "secureboot/KEK.cer"
	FileDB  = "secureboot/db.cer"
)

// ReadSecureBoot reads the certificates in a domain's folder.
func ReadSecureBoot(folder string) (SecureBoot, error) {
	var s SecureBoot
	for name, to := range map[string]*[]byte{FilePK: &s.PK, FileKEK: &s.KEK, FileDB: &s.DB} {
		der, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return SecureBoot{}, fmt.Errorf("read Secure Boot keys: %w; 'domain init' makes them", err)
		}
		if _, err := x509.ParseCertificate(der); err != nil {
			return SecureBoot{}, fmt.Errorf("read Secure Boot keys: %s: %w", name, err)
		}
		*to = der
	}
	return s, nil
}

// On says whether there are keys.
func (s SecureBoot) On() bool { return s.DB != nil }

// Names gives the certificates by their hashes, for a manifest.
func (s SecureBoot) Names() manifest.SecureBoot {
	if !s.On() {
		return manifest.SecureBoot{}
	}
	return manifest.SecureBoot{PK: sum256(s.PK), KEK: sum256(s.KEK), DB: sum256(s.DB)}
}

// A Variable is a UEFI variable of the firmware's key stores.
type Variable struct {
	Name   string
	Vendor [16]byte // GUID in its little-endian form
	Data   []byte   // signature lists
}

// Variables are the key stores, in the order in which firmware measures them. dbx is empty: an image that must no longer run is kept
// out by the epoch, on which the firmware has no say.
func (s SecureBoot) Variables() []Variable {
	return []Variable{
		{"PK", globalVariable, signatureList(s.PK)}, {"KEK", globalVariable, signatureList(s.KEK)},
		{"db", imageSecurity, signatureList(s.DB)}, {"dbx", imageSecurity, nil},
	}
}

// PCR4 is what firmware measures when a boot option starts the UKI. It is the same for the signed and the unsigned one. Without Secure
// Boot the stub has the firmware load the kernel inside, which is measured as well; with it, the stub vouches for what it carries.
func (s SecureBoot) PCR4(uki []byte) (manifest.Digest, error) {
	sections, err := ReadUKI(uki)
	if err != nil {
		return manifest.Digest{}, fmt.Errorf("predict PCR 4: %w", err)
	}
	started := [][]byte{uki}
	if !s.On() {
		started = append(started, sectionNamed(sections, sectionLinux))
	}
	var r register
	r.event([]byte("Calling EFI Application from Boot Option"))
	r.event(separator)
	for _, program := range started {
		digest, err := Authenticode(program)
		if err != nil {
			return manifest.Digest{}, fmt.Errorf("predict PCR 4: %w", err)
		}
		r.extend(digest)
	}
	return manifest.Digest(r), nil
}

// PCR7 is the Secure Boot policy: whether it is on, the key stores, and the certificate of db by which the UKI was believed (TCG PC
// Client Platform Firmware Profile 1.06, section 3.3.4.8).
func (s SecureBoot) PCR7() manifest.Digest {
	on := []byte{0}
	if s.On() {
		on[0] = 1
	}
	var r register
	r.event(variableData(globalVariable, "SecureBoot", on))
	for _, v := range s.Variables() {
		r.event(variableData(v.Vendor, v.Name, v.Data))
	}
	r.event(separator)
	if s.On() {
		r.event(variableData(imageSecurity, "db", append(signatureOwner[:], s.DB...)))
	}
	return manifest.Digest(r)
}

var (
	// certX509 is EFI_CERT_X509_GUID (UEFI 2.10, 32.4.1).
	certX509 = [16]byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	// signatureOwner says whose entry it is. It is measured with the certificate.
	signatureOwner = [16]byte{'k', 'r', 'a', '-', 'd', 'o', 'm', 0x4b, 0x80, 0, 0, 0, 0, 0, 0, 1}
)

const signatureListHeader = 28

// signatureList is an EFI_SIGNATURE_LIST with one certificate (UEFI 2.10, 32.4.1):
//
//	GUID of the kind | uint32 size of all | uint32 0 | uint32 size of an entry | { GUID of the owner | certificate }
func signatureList(certificate []byte) []byte {
	if certificate == nil {
		return nil
	}
	entry := len(signatureOwner) + len(certificate)
	out := append([]byte(nil), certX509[:]...)
	for _, n := range []int{signatureListHeader + entry, 0, entry} {
		out = binary.LittleEndian.AppendUint32(out, uint32(n))
	}
	out = append(out, signatureOwner[:]...)
	return append(out, certificate...)
}

func sum256(data []byte) manifest.Digest { return sha256.Sum256(data) }
