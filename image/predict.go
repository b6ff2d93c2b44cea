package image

import (
	"bytes"
	"crypto/sha256"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"unicode/utf16"

	"github.com/keyrelease/krabox/image/manifest"
)

// stubOrder is the order in which systemd-stub 252 measures the sections that
// are present (src/fundamental/tpm-pcr.c). Later versions measure more.
var stubOrder = [...]string{sectionLinux, sectionRelease, sectionCmdline, sectionInitrd, ".splash", ".dtb", ".pcrpkey"}

var separator = []byte{0, 0, 0, 0}

// A register is the running value of one PCR in the SHA-256 bank.
type register manifest.Digest

func (r *register) extend(digest manifest.Digest) {
	*r = sha256.Sum256(append(r[:len(r):len(r)], digest[:]...))
}

func (r *register) event(data []byte) { r.extend(sha256.Sum256(data)) }

// PredictPCR11 is what systemd-stub measures of itself: for each section its name with the NUL, then its content.
func PredictPCR11(uki []byte) (manifest.Digest, error) {
	f, err := pe.NewFile(bytes.NewReader(uki))
	if err != nil {
		return manifest.Digest{}, fmt.Errorf("predict PCR 11: %w", err)
	}
	var r register
	for _, name := range stubOrder {
		if f.Section(name) == nil {
			continue
		}
		data, err := sectionData(f, name)
		if err != nil {
			return manifest.Digest{}, fmt.Errorf("predict PCR 11: %w", err)
		}
		r.event(append([]byte(name), 0))
		r.event(data)
	}
	return manifest.Digest(r), nil
}

func sectionNamed(sections []Section, name string) []byte {
	for _, s := range sections {
		if s.Name == name {
			return s.Data
		}
	}
	return nil
}

// The vendor GUIDs of UEFI variables, in their little-endian form.
var (
	globalVariable = [16]byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	imageSecurity  = [16]byte{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}
)

// variableData is UEFI_VARIABLE_DATA of the TCG PC Client Platform Firmware Profile:
//
//	GUID | uint64 characters | uint64 bytes | name in UTF-16 without NUL | data
func variableData(vendor [16]byte, name string, data []byte) []byte {
	wide := utf16.Encode([]rune(name))
	out := append([]byte(nil), vendor[:]...)
	out = binary.LittleEndian.AppendUint64(out, uint64(len(wide)))
	out = binary.LittleEndian.AppendUint64(out, uint64(len(data)))
	for _, c := range wide {
		out = binary.LittleEndian.AppendUint16(out, c)
	}
	return append(out, data...)
}
