package image

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
)

// A Section is one piece of a unified kernel image, such as ".linux".
type Section struct {
	Name string
	Data []byte
}

// The sections this product adds to systemd-stub, in file order.
const (
	sectionRelease = ".osrel"
	sectionCmdline = ".cmdline"
	sectionLinux   = ".linux"
	sectionInitrd  = ".initrd"
)

const (
	peOffset      = 0x80 // of the PE signature: DOS header and an empty DOS program before it
	dosHeaderSize = 0x40
	dosPEOffset   = 0x3c // field of the DOS header that holds peOffset
	peSignature   = "PE\x00\x00"
	coffSize      = 20
	sectionSize   = 40
	pageSize      = 4096
	maxPESections = 96 // what the PE/COFF specification and firmware accept

	directoryCertificate = 4
	directoryDebug       = 6
)

// BuildUKI appends sections to a systemd-stub image. The result is a pure
// function of the arguments: no time stamp, no checksum, zero padding.
func BuildUKI(stub []byte, add []Section) ([]byte, error) {
	w, err := newPEWriter(stub, add)
	if err != nil {
		return nil, fmt.Errorf("build unified kernel image: %w", err)
	}
	return w.bytes(), nil
}

// ReadUKI returns the sections that BuildUKI added, in file order.
func ReadUKI(uki []byte) ([]Section, error) {
	f, err := pe.NewFile(bytes.NewReader(uki))
	if err != nil {
		return nil, fmt.Errorf("read unified kernel image: %w", err)
	}
	var found []Section
	for _, name := range []string{sectionRelease, sectionCmdline, sectionLinux, sectionInitrd} {
		data, err := sectionData(f, name)
		if err != nil {
			return nil, fmt.Errorf("read unified kernel image: %w", err)
		}
		found = append(found, Section{name, data})
	}
	return found, nil
}

// sectionData returns what the firmware maps: VirtualSize bytes, without the file's padding.
func sectionData(f *pe.File, name string) ([]byte, error) {
	s := f.Section(name)
	if s == nil {
		return nil, fmt.Errorf("no section %s", name)
	}
	data, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("section %s: %w", name, err)
	}
	if int64(s.VirtualSize) > int64(len(data)) {
		return nil, fmt.Errorf("section %s is shorter in the file than in memory", name)
	}
	return data[:s.VirtualSize], nil
}

// A peWriter lays out
//
//	DOS header | PE signature | COFF header | optional header | section table | pad | section data, each padded
type peWriter struct {
	dos      []byte
	coff     pe.FileHeader
	optional pe.OptionalHeader64
	sections []pe.SectionHeader32
	data     [][]byte
	nextAddr uint32 // next free virtual address
	nextFile uint32 // next free file offset
}

func newPEWriter(stub []byte, add []Section) (*peWriter, error) {
	f, err := pe.NewFile(bytes.NewReader(stub))
	if err != nil {
		return nil, err
	}
	optional, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || int(f.SizeOfOptionalHeader) != binary.Size(optional) {
		return nil, errors.New("stub is not a plain PE32+ image")
	}
	if optional.DataDirectory[directoryCertificate].Size != 0 || optional.DataDirectory[directoryDebug].Size != 0 {
		return nil, errors.New("stub is signed or carries debug entries")
	}
	count := len(f.Sections) + len(add)
	if len(f.Sections) == 0 || count > maxPESections {
		return nil, fmt.Errorf("%d sections", count)
	}
	w := &peWriter{dos: make([]byte, peOffset), coff: f.FileHeader, optional: *optional}
	copy(w.dos, stub[:dosHeaderSize])
	binary.LittleEndian.PutUint32(w.dos[dosPEOffset:], peOffset)
	if err := w.layoutHeaders(count, f.Sections[0].VirtualAddress); err != nil {
		return nil, err
	}
	if err := w.copyStub(f); err != nil {
		return nil, err
	}
	if err := w.append(add); err != nil {
		return nil, err
	}
	w.optional.SizeOfImage = w.nextAddr
	return w, nil
}

func (w *peWriter) layoutHeaders(sections int, first uint32) error {
	end := uint32(peOffset + len(peSignature) + coffSize + int(w.coff.SizeOfOptionalHeader) + sectionSize*sections)
	w.optional.SizeOfHeaders = alignUp(end, w.optional.FileAlignment)
	if w.optional.SizeOfHeaders > first {
		return errors.New("no room for the section table")
	}
	w.nextFile = w.optional.SizeOfHeaders
	w.coff.NumberOfSections = uint16(sections)
	w.coff.TimeDateStamp, w.coff.PointerToSymbolTable, w.coff.NumberOfSymbols = 0, 0, 0
	w.optional.CheckSum = 0
	w.optional.SizeOfCode, w.optional.SizeOfInitializedData, w.optional.SizeOfUninitializedData = 0, 0, 0
	return nil
}

func (w *peWriter) copyStub(f *pe.File) error {
	for _, s := range f.Sections {
		data, err := s.Data()
		if err != nil {
			return fmt.Errorf("stub section %s: %w", s.Name, err)
		}
		if err := w.put(s.Name, s.VirtualSize, s.VirtualAddress, s.Characteristics, data); err != nil {
			return err
		}
	}
	return nil
}

func (w *peWriter) append(add []Section) error {
	const readOnlyData = pe.IMAGE_SCN_CNT_INITIALIZED_DATA | pe.IMAGE_SCN_MEM_READ
	for _, s := range add {
		addr := alignUp(w.nextAddr, max(w.optional.SectionAlignment, pageSize))
		if err := w.put(s.Name, uint32(len(s.Data)), addr, readOnlyData, s.Data); err != nil {
			return err
		}
	}
	return nil
}

func (w *peWriter) put(name string, size, addr, characteristics uint32, data []byte) error {
	var field [8]byte
	if len(name) > len(field) || copy(field[:], name) == 0 {
		return fmt.Errorf("bad section name %q", name)
	}
	for _, s := range w.sections {
		if s.Name == field {
			return fmt.Errorf("section %s twice", name)
		}
	}
	raw := alignUp(uint32(len(data)), w.optional.FileAlignment)
	w.sections = append(w.sections, pe.SectionHeader32{
		Name: field, VirtualSize: size, VirtualAddress: addr,
		SizeOfRawData: raw, PointerToRawData: w.nextFile, Characteristics: characteristics,
	})
	w.data = append(w.data, data)
	w.nextFile += raw
	w.nextAddr = alignUp(addr+max(size, raw), w.optional.SectionAlignment)
	if characteristics&pe.IMAGE_SCN_CNT_CODE != 0 {
		w.optional.SizeOfCode += raw
	} else {
		w.optional.SizeOfInitializedData += raw
	}
	return nil
}

func (w *peWriter) bytes() []byte {
	out := make([]byte, w.nextFile)
	var head bytes.Buffer
	head.Write(w.dos)
	head.WriteString(peSignature)
	// binary.Write to a bytes.Buffer of fixed-size values cannot fail.
	for _, v := range []any{w.coff, w.optional, w.sections} {
		_ = binary.Write(&head, binary.LittleEndian, v)
	}
	copy(out, head.Bytes())
	for i, s := range w.sections {
		copy(out[s.PointerToRawData:], w.data[i])
	}
	return out
}

func alignUp(v, to uint32) uint32 { return (v + to - 1) / to * to }
