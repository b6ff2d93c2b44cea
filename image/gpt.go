package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// The partitions of a box's disk.
const (
	PartitionESP   = "kra-esp"
	PartitionState = "kra-state"
)

const (
	sector         = 512
	mebibyte       = 1 << 20
	gptEntries     = 128
	gptEntrySize   = 128
	gptHeaderSize  = 92
	gptTableSize   = gptEntries * gptEntrySize // 32 sectors
	gptReserved    = 2*sector + gptTableSize   // protective MBR, header, table; the end holds a copy of the last two
	gptSignature   = "EFI PART"
	gptRevision    = 0x00010000
	gptNameOffset  = 56
	gptNameLetters = 36
)

// A guid is in the mixed byte order of UEFI.
type guid [16]byte

// The identities are constants: an image is a function of its inputs, and the box finds partitions by name.
var (
	typeESP    = guid{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}
	typeLinux  = guid{0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4}
	guidDisk   = guid{'k', 'r', 'a', '-', 'd', 'i', 's', 0x4b, 0x80, 0, 0, 0, 0, 0, 0, 1}
	guidESP    = guid{'k', 'r', 'a', '-', 'e', 's', 'p', 0x4b, 0x80, 0, 0, 0, 0, 0, 0, 2}
	guidState  = guid{'k', 'r', 'a', '-', 's', 't', 'a', 0x4b, 0x80, 0, 0, 0, 0, 0, 0, 3}
	errNoTable = errors.New("no partition table")
)

// A Partition is a named run of bytes of a disk.
type Partition struct {
	Name   string
	Offset int64
	Size   int64

	kind, id guid
}

// Partitions reads the GUID partition table of a disk.
func Partitions(disk io.ReaderAt) ([]Partition, error) {
	header := make([]byte, sector)
	if _, err := disk.ReadAt(header, sector); err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	le := binary.LittleEndian
	table := make([]byte, gptTableSize)
	if _, err := disk.ReadAt(table, 2*sector); err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	sum := le.Uint32(header[16:])
	le.PutUint32(header[16:], 0)
	if string(header[:8]) != gptSignature || crc32.ChecksumIEEE(header[:gptHeaderSize]) != sum ||
		le.Uint64(header[72:]) != 2 || crc32.ChecksumIEEE(table) != le.Uint32(header[88:]) {
		return nil, fmt.Errorf("read partition table: %w", errNoTable)
	}
	var found []Partition
	for ; len(table) > 0; table = table[gptEntrySize:] {
		if p, ok := parseEntry(table[:gptEntrySize]); ok {
			found = append(found, p)
		}
	}
	return found, nil
}

// FindPartition returns the partition of that name.
func FindPartition(disk io.ReaderAt, name string) (Partition, error) {
	all, err := Partitions(disk)
	if err != nil {
		return Partition{}, err
	}
	for _, p := range all {
		if p.Name == name {
			return p, nil
		}
	}
	return Partition{}, fmt.Errorf("find partition %s: not on this disk", name)
}

func parseEntry(e []byte) (Partition, bool) {
	le := binary.LittleEndian
	first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
	p := Partition{kind: guid(e[:16]), id: guid(e[16:32])}
	if p.kind == (guid{}) || first > last || last >= 1<<53 {
		return Partition{}, false
	}
	p.Offset, p.Size = int64(first)*sector, int64(last-first+1)*sector
	var wide []uint16
	for i := range gptNameLetters {
		c := le.Uint16(e[gptNameOffset+2*i:])
		if c == 0 {
			break
		}
		wide = append(wide, c)
	}
	p.Name = string(utf16.Decode(wide))
	return p, true
}

func (p Partition) entry() []byte {
	le := binary.LittleEndian
	e := make([]byte, gptEntrySize)
	copy(e, p.kind[:])
	copy(e[16:], p.id[:])
	le.PutUint64(e[32:], uint64(p.Offset/sector))
	le.PutUint64(e[40:], uint64((p.Offset+p.Size)/sector-1))
	for i, c := range utf16.Encode([]rune(p.Name)) {
		le.PutUint16(e[gptNameOffset+2*i:], c)
	}
	return e
}

// writeTable writes the protective MBR, the table and its copy at the end of a disk of size bytes.
func writeTable(disk io.WriterAt, size int64, partitions []Partition) error {
	var table []byte
	for _, p := range partitions {
		table = append(table, p.entry()...)
	}
	table = append(table, make([]byte, gptTableSize-len(table))...)
	last := uint64(size/sector) - 1
	tableCopy := last - gptTableSize/sector
	for _, part := range []struct {
		at   uint64
		data []byte
	}{
		{0, protectiveMBR(last)},
		{1, gptHeader(1, last, 2, last, table)},
		{2, table},
		{tableCopy, table},
		{last, gptHeader(last, 1, tableCopy, last, table)},
	} {
		if _, err := disk.WriteAt(part.data, int64(part.at)*sector); err != nil {
			return fmt.Errorf("write partition table: %w", err)
		}
	}
	return nil
}

// gptHeader is the GPT header of UEFI 2.10, table 5-5. Arguments are sector numbers.
func gptHeader(self, other, table, last uint64, entries []byte) []byte {
	var b bytes.Buffer
	b.WriteString(gptSignature)
	for _, v := range []any{
		uint32(gptRevision), uint32(gptHeaderSize), uint32(0), uint32(0),
		self, other, uint64(gptReserved / sector), last - gptTableSize/sector - 1, guidDisk,
		table, uint32(gptEntries), uint32(gptEntrySize), crc32.ChecksumIEEE(entries),
	} {
		_ = binary.Write(&b, binary.LittleEndian, v) // fixed-size values to memory: cannot fail
	}
	h := b.Bytes()
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	return append(h, make([]byte, sector-len(h))...)
}

// protectiveMBR claims the whole disk for tools that know no GPT.
func protectiveMBR(last uint64) []byte {
	b := make([]byte, sector)
	e := b[446:]
	e[2], e[4] = 0x02, 0xee
	e[5], e[6], e[7] = 0xff, 0xff, 0xff
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(last, 0xffffffff)))
	b[510], b[511] = 0x55, 0xaa
	return b
}
