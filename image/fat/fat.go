// Package fat writes and reads the small FAT32 volumes that UEFI firmware boots from.
//
// A volume is written whole, as a function of its files, so that equal files
// give equal bytes; to change one file, read all, change the set and write anew.
// Names follow the Microsoft FAT32 File System Specification (1.03).
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

const (
	sectorSize        = 512
	sectorsPerCluster = 2
	clusterSize       = sectorSize * sectorsPerCluster
	reservedSectors   = 32
	fatCopies         = 2
	infoSector        = 1
	backupSector      = 6
	rootCluster       = 2
	minClusters       = 65525      // fewer would be FAT16 by definition
	maxClusters       = 0x0ffffff5 // the largest number of data clusters of FAT32
	endOfChain        = 0x0fffffff
	media             = 0xf8
	fatMask           = 0x0fffffff // the top four bits of an entry are reserved

	maxPathDepth = 8
)

// Files are the contents of a volume by slash-separated path, such as "EFI/BOOT/BOOTX64.EFI".
type Files map[string][]byte

// A geometry says where the parts of a volume lie:
//
//	reserved (boot sector, info, copies) | FAT | FAT copy | data clusters from number 2
type geometry struct {
	sectors    uint32 // of the whole volume
	fatSectors uint32 // of one FAT
	clusters   uint32
}

func newGeometry(size int64) (geometry, error) {
	if size%clusterSize != 0 || size/sectorSize > 1<<31 {
		return geometry{}, fmt.Errorf("volume of %d bytes", size)
	}
	g := geometry{sectors: uint32(size / sectorSize)}
	if g.sectors <= reservedSectors {
		return geometry{}, fmt.Errorf("volume of %d bytes is too small", size)
	}
	// The smallest FAT that has an entry for each cluster that remains beside it.
	perFATSector := uint32(sectorSize/4*sectorsPerCluster + fatCopies)
	g.fatSectors = (g.sectors - reservedSectors + perFATSector - 1) / perFATSector
	for g.fatSectors*sectorSize/4 < g.dataClusters()+rootCluster {
		g.fatSectors++
	}
	g.clusters = g.dataClusters()
	if g.clusters < minClusters || g.clusters > maxClusters {
		return geometry{}, fmt.Errorf("volume of %d bytes has %d clusters", size, g.clusters)
	}
	return g, nil
}

func (g geometry) dataClusters() uint32 {
	return (g.sectors - reservedSectors - fatCopies*g.fatSectors) / sectorsPerCluster
}

func (g geometry) fatOffset(copy uint32) int64 {
	return int64(reservedSectors+copy*g.fatSectors) * sectorSize
}

func (g geometry) clusterOffset(n uint32) int64 {
	return g.fatOffset(fatCopies) + int64(n-rootCluster)*clusterSize
}

// Write makes a volume of size bytes in w, which must read as zeroes, as a sparse new file does.
// The label is the volume's name; serial identifies it.
func Write(w io.WriterAt, size int64, label string, serial uint32, files Files) error {
	g, err := newGeometry(size)
	if err != nil {
		return fmt.Errorf("write FAT volume: %w", err)
	}
	v := &writer{out: w, geometry: g, table: []uint32{0x0fffff00 | media, endOfChain}}
	root, err := newTree(files)
	if err != nil {
		return fmt.Errorf("write FAT volume: %w", err)
	}
	if _, err := v.directory(root, 0, volumeLabel(label)); err != nil {
		return fmt.Errorf("write FAT volume: %w", err)
	}
	if err := v.finish(label, serial); err != nil {
		return fmt.Errorf("write FAT volume: %w", err)
	}
	return nil
}

// A node is a file or a folder on its way to the volume.
type node struct {
	name     string
	data     []byte
	children []*node // nil for a file
	folder   bool
}

var errBadPath = errors.New("bad path")

// newTree makes folders of the paths, in sorted order.
func newTree(files Files) (*node, error) {
	root := &node{folder: true}
	var paths []string
	for p := range files {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		if p == "" || path.Clean("/"+p) != "/"+p || strings.Count(p, "/") > maxPathDepth {
			return nil, fmt.Errorf("%w %q", errBadPath, p)
		}
		if err := root.add(strings.Split(p, "/"), files[p]); err != nil {
			return nil, fmt.Errorf("%w %q", err, p)
		}
	}
	return root, nil
}

func (n *node) add(names []string, data []byte) error {
	if !n.folder {
		return errBadPath
	}
	if err := checkName(names[0]); err != nil {
		return err
	}
	i := slices.IndexFunc(n.children, func(c *node) bool { return strings.EqualFold(c.name, names[0]) })
	if len(names) == 1 {
		if i >= 0 {
			return errBadPath
		}
		n.children = append(n.children, &node{name: names[0], data: data})
		return nil
	}
	if i < 0 {
		i = len(n.children)
		n.children = append(n.children, &node{name: names[0], folder: true})
	}
	return n.children[i].add(names[1:], data)
}

// A writer fills clusters in order, so that every file is one run.
type writer struct {
	geometry
	out   io.WriterAt
	table []uint32
}

// store writes data to new clusters and returns the first; empty data has none.
func (v *writer) store(data []byte) (uint32, error) {
	if len(data) == 0 {
		return 0, nil
	}
	first := uint32(len(v.table))
	count := uint32((len(data) + clusterSize - 1) / clusterSize)
	if uint64(first)+uint64(count) > uint64(v.clusters)+rootCluster {
		return 0, errors.New("volume full")
	}
	for i := uint32(1); i < count; i++ {
		v.table = append(v.table, first+i)
	}
	v.table = append(v.table, endOfChain)
	_, err := v.out.WriteAt(data, v.clusterOffset(first))
	return first, err
}

// directory writes a folder and all below it. Its own clusters come first: the
// children must know where it lies, so it is laid out before they are stored.
func (v *writer) directory(n *node, parent uint32, label []byte) (uint32, error) {
	size := len(label) + dotEntries(parent)*entrySize
	for _, c := range n.children {
		size += entriesFor(c.name) * entrySize
	}
	self, err := v.store(make([]byte, max(size, 1)))
	if err != nil {
		return 0, err
	}
	out := append([]byte(nil), label...)
	if parent != 0 {
		above := parent
		if above == rootCluster {
			above = 0 // the specification's name for the root
		}
		out = append(out, dotEntry(".", self)...)
		out = append(out, dotEntry("..", above)...)
	}
	for i, c := range n.children {
		var first uint32
		if c.folder {
			first, err = v.directory(c, self, nil)
		} else {
			first, err = v.store(c.data)
		}
		if err != nil {
			return 0, err
		}
		out = append(out, entries(c, i, first)...)
	}
	_, err = v.out.WriteAt(out, v.clusterOffset(self))
	return self, err
}

func dotEntries(parent uint32) int {
	if parent == 0 {
		return 0
	}
	return 2
}

func (v *writer) finish(label string, serial uint32) error {
	table := make([]byte, 0, 4*len(v.table))
	for _, e := range v.table {
		table = binary.LittleEndian.AppendUint32(table, e)
	}
	boot, info := v.bootSector(label, serial), v.infoSector()
	for _, part := range []struct {
		at   int64
		data []byte
	}{
		{v.fatOffset(0), table}, {v.fatOffset(1), table},
		{0, boot}, {infoSector * sectorSize, info},
		{backupSector * sectorSize, boot}, {(backupSector + infoSector) * sectorSize, info},
	} {
		if _, err := v.out.WriteAt(part.data, part.at); err != nil {
			return err
		}
	}
	return nil
}

func (v *writer) bootSector(label string, serial uint32) []byte {
	b := make([]byte, sectorSize)
	le := binary.LittleEndian
	copy(b, "\xeb\x58\x90KRABOX  ")
	le.PutUint16(b[11:], sectorSize)
	b[13] = sectorsPerCluster
	le.PutUint16(b[14:], reservedSectors)
	b[16] = fatCopies
	b[21] = media
	le.PutUint16(b[24:], 63) // sectors per track and heads: unused, but must not be zero
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[32:], v.sectors)
	le.PutUint32(b[36:], v.fatSectors)
	le.PutUint32(b[44:], rootCluster)
	le.PutUint16(b[48:], infoSector)
	le.PutUint16(b[50:], backupSector)
	b[64] = 0x80 // drive number
	b[66] = 0x29 // the next three fields are present
	le.PutUint32(b[67:], serial)
	copy(b[71:82], padded(label, 11))
	copy(b[82:], "FAT32   ")
	b[510], b[511] = 0x55, 0xaa
	return b
}

func (v *writer) infoSector() []byte {
	b := make([]byte, sectorSize)
	le := binary.LittleEndian
	le.PutUint32(b, 0x41615252)
	le.PutUint32(b[484:], 0x61417272)
	le.PutUint32(b[488:], v.clusters+rootCluster-uint32(len(v.table))) // free
	le.PutUint32(b[492:], uint32(len(v.table)))                        // where to look first
	le.PutUint32(b[508:], 0xaa550000)
	return b
}

func padded(s string, n int) string {
	return (strings.ToUpper(s) + strings.Repeat(" ", n))[:n]
}
