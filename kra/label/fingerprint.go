package label

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// NameOf is the Name of an object, from its TPMT_PUBLIC under SHA-256 (TPM 2.0 part 1, section 16).
func NameOf(public []byte) Name {
	d := sha256.Sum256(public)
	return Name(append([]byte{0, 0x0b}, d[:]...))
}

const fingerprintSize = 16 // bytes: nobody makes a second key with the same

// Fingerprint is the start of the Name, in groups that a person can read from a console and type.
func (n Name) Fingerprint() string { return grouped(n[2 : 2+fingerprintSize]) }

// Fingerprint is the start of the digest, in the same form.
func (d Digest) Fingerprint() string { return grouped(d[:fingerprintSize]) }

func grouped(b []byte) string {
	text := hex.EncodeToString(b)
	var groups []string
	for i := 0; i < len(text); i += 4 {
		groups = append(groups, text[i:i+4])
	}
	return strings.Join(groups, "-")
}

// Fingerprint names the attestation key of a request: whoever reads the same at the box's console knows that the request
// came from there as it is.
func (r EnrolRequest) Fingerprint() string { return NameOf(r.AK).Fingerprint() }
