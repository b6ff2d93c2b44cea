package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxVolumeFiles stops a volume whose folders form a loop.
const maxVolumeFiles = 4096

// Read returns all files of a FAT32 volume, whoever wrote it.
func Read(r io.ReaderAt) (Files, error) {
	v, err := newReader(r)
	if err != nil {
		return nil, fmt.Errorf("read FAT volume: %w", err)
	}
	if err := v.directory("", v.root, 0); err != nil {
		return nil, fmt.Errorf("read FAT volume: %w", err)
	}
	return v.files, nil
}

type reader struct {
	in          io.ReaderAt
	table       []uint32
	data        int64 // offset of cluster 2
	clusterSize int64
	root        uint32
	files       Files
	entries     int
}

func newReader(r io.ReaderAt) (*reader, error) {
	b := make([]byte, sectorSize)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	sector, reserved := int64(le.Uint16(b[11:])), int64(le.Uint16(b[14:]))
	copies, fatSectors, sectors := int64(b[16]), int64(le.Uint32(b[36:])), int64(le.Uint32(b[32:]))
	if b[510] != 0x55 || b[511] != 0xaa || sector != sectorSize || b[13] == 0 || copies == 0 || fatSectors == 0 || reserved == 0 {
		return nil, errors.New("no FAT32 boot sector")
	}
	v := &reader{in: r, clusterSize: int64(b[13]) * sector, root: le.Uint32(b[44:]), files: Files{}}
	v.data = (reserved + copies*fatSectors) * sector
	clusters := (sectors*sector - v.data) / v.clusterSize
	if clusters < minClusters || clusters > fatSectors*sector/4 {
		return nil, fmt.Errorf("%d clusters", clusters)
	}
	raw := make([]byte, (clusters+rootCluster)*4)
	if _, err := r.ReadAt(raw, reserved*sector); err != nil {
		return nil, err
	}
	for ; len(raw) > 0; raw = raw[4:] {
		v.table = append(v.table, le.Uint32(raw)&fatMask)
	}
	return v, nil
}

// chain reads the clusters from first on; a loop is longer than the table and refused.
func (v *reader) chain(first uint32, limit int64) ([]byte, error) {
	var out []byte
	for n := first; n < 0x0ffffff8; n = v.table[n] {
		if n < rootCluster || int(n) >= len(v.table) || int64(len(out)) >= int64(len(v.table))*v.clusterSize {
			return nil, errors.New("broken cluster chain")
		}
		part := make([]byte, v.clusterSize)
		if _, err := v.in.ReadAt(part, v.data+int64(n-rootCluster)*v.clusterSize); err != nil {
			return nil, err
		}
		if out = append(out, part...); limit >= 0 && int64(len(out)) >= limit {
			return out[:limit], nil
		}
	}
	if limit >= 0 {
		return nil, errors.New("file is longer than its clusters")
	}
	return out, nil
}

func (v *reader) directory(prefix string, first uint32, depth int) error {
	raw, err := v.chain(first, -1)
	if err != nil {
		return err
	}
	if depth > maxPathDepth {
		return errors.New("folders too deep")
	}
	var long longName
	for ; len(raw) >= entrySize && raw[0] != 0; raw = raw[entrySize:] {
		e := raw[:entrySize]
		switch {
		case e[0] == deleted:
			long = longName{}
		case e[11] == attrLongName:
			if err := long.take(e); err != nil {
				return err
			}
		default:
			name := long.name(e)
			long = longName{}
			if err := v.entry(prefix, name, e, depth); err != nil {
				return fmt.Errorf("%s%s: %w", prefix, name, err)
			}
		}
	}
	return nil
}

func (v *reader) entry(prefix, name string, e []byte, depth int) error {
	if v.entries++; v.entries > maxVolumeFiles {
		return errors.New("too many files")
	}
	if e[11]&attrLabel != 0 || name == "." || name == ".." {
		return nil
	}
	first := uint32(binary.LittleEndian.Uint16(e[20:]))<<16 | uint32(binary.LittleEndian.Uint16(e[26:]))
	if e[11]&attrFolder != 0 {
		return v.directory(prefix+name+"/", first, depth+1)
	}
	size := int64(binary.LittleEndian.Uint32(e[28:]))
	if size == 0 {
		v.files[prefix+name] = []byte{}
		return nil
	}
	data, err := v.chain(first, size)
	if err != nil {
		return err
	}
	v.files[prefix+name] = data
	return nil
}
