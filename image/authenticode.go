package image

import (
	"bytes"
	"crypto/sha256"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/keyrelease/krabox/image/manifest"
)

// Offsets within the PE optional header (PE32+): the checksum, and the certificate table's directory entry.
const (
	optionalChecksum    = 64
	optionalCertificate = 112 + directoryCertificate*8
	checksumSize        = 4
	directoryEntrySize  = 8
)

// Authenticode returns the PE image hash that UEFI firmware measures into PCR 4
// (Windows Authenticode Portable Executable Signature Format, "Calculating the PE Image Hash").
func Authenticode(image []byte) (manifest.Digest, error) {
	f, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		return manifest.Digest{}, fmt.Errorf("hash PE image: %w", err)
	}
	header, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		return manifest.Digest{}, errors.New("hash PE image: not PE32+")
	}
	optional := int(binary.LittleEndian.Uint32(image[dosPEOffset:])) + len(peSignature) + coffSize
	headers, certificates := int(header.SizeOfHeaders), int(header.DataDirectory[directoryCertificate].Size)
	if headers < optional+optionalCertificate+directoryEntrySize || headers > len(image) || certificates > len(image) {
		return manifest.Digest{}, errors.New("hash PE image: headers out of range")
	}
	h := sha256.New()
	h.Write(image[:optional+optionalChecksum])
	h.Write(image[optional+optionalChecksum+checksumSize : optional+optionalCertificate])
	h.Write(image[optional+optionalCertificate+directoryEntrySize : headers])
	end := headers
	for _, s := range byFileOffset(f.Sections) {
		if int64(s.Offset)+int64(s.Size) > int64(len(image)) {
			return manifest.Digest{}, fmt.Errorf("hash PE image: section %s is cut short", s.Name)
		}
		h.Write(image[s.Offset : s.Offset+s.Size])
		end += int(s.Size)
	}
	if end < len(image)-certificates {
		h.Write(image[end : len(image)-certificates])
	}
	return manifest.Digest(h.Sum(nil)), nil
}

func byFileOffset(sections []*pe.Section) []*pe.Section {
	sorted := slices.Clone(sections)
	slices.SortFunc(sorted, func(a, b *pe.Section) int { return int(a.Offset) - int(b.Offset) })
	return slices.DeleteFunc(sorted, func(s *pe.Section) bool { return s.Size == 0 })
}
