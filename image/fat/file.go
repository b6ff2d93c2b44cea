package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// Limits of ReadFile: the volume may have been written by anybody.
const (
	maxFolder = 1 << 20 // bytes of one folder
	maxVolume = 1 << 30 // bytes of clusters that are looked at
)

// ReadFile returns one file of a FAT32 volume, whoever wrote it, or fs.ErrNotExist. It reads nothing but the folders on the way, and of
// them and of the file no more than a limit.
func ReadFile(r io.ReaderAt, path string, limit int64) ([]byte, error) {
	data, err := readFile(r, path, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

func readFile(r io.ReaderAt, path string, limit int64) ([]byte, error) {
	w, err := newWalker(r)
	if err != nil {
		return nil, err
	}
	names := strings.Split(path, "/")
	at := w.root
	for i, name := range names {
		folder, err := w.chain(at, maxFolder)
		if err != nil {
			return nil, err
		}
		e, err := lookup(folder, name)
		if err != nil {
			return nil, err
		}
		last := i == len(names)-1
		if (e[11]&attrFolder == 0) != last {
			return nil, fs.ErrNotExist
		}
		at = uint32(binary.LittleEndian.Uint16(e[20:]))<<16 | uint32(binary.LittleEndian.Uint16(e[26:]))
		if !last {
			continue
		}
		size := int64(binary.LittleEndian.Uint32(e[28:]))
		if size > limit {
			return nil, fmt.Errorf("%d bytes, at most %d", size, limit)
		}
		if size == 0 {
			return []byte{}, nil
		}
		data, err := w.chain(at, size)
		if err == nil && int64(len(data)) < size {
			err = errors.New("file is longer than its clusters")
		}
		return data[:min(size, int64(len(data)))], err
	}
	return nil, fs.ErrNotExist
}

// lookup finds a name in a folder; FAT knows no case.
func lookup(folder []byte, name string) ([]byte, error) {
	var long longName
	for ; len(folder) >= entrySize && folder[0] != 0; folder = folder[entrySize:] {
		e := folder[:entrySize]
		switch {
		case e[0] == deleted:
			long = longName{}
		case e[11] == attrLongName:
			if err := long.take(e); err != nil {
				return nil, err
			}
		default:
			found := long.name(e)
			long = longName{}
			if e[11]&attrLabel == 0 && strings.EqualFold(found, name) {
				return e, nil
			}
		}
	}
	return nil, fs.ErrNotExist
}

// A walker follows chains of clusters, looking up each link where it lies.
type walker struct {
	in          io.ReaderAt
	table, data int64 // offsets of the first FAT, and of cluster 2
	clusterSize int64
	clusters    uint32
	root        uint32
}

func newWalker(r io.ReaderAt) (*walker, error) {
	b := make([]byte, sectorSize)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	reserved, copies, fatSectors, sectors := int64(le.Uint16(b[14:])), int64(b[16]), int64(le.Uint32(b[36:])), int64(le.Uint32(b[32:]))
	if b[510] != 0x55 || b[511] != 0xaa || le.Uint16(b[11:]) != sectorSize || b[13] == 0 || copies == 0 || fatSectors == 0 || reserved == 0 {
		return nil, errors.New("no FAT32 boot sector")
	}
	w := &walker{in: r, table: reserved * sectorSize, clusterSize: int64(b[13]) * sectorSize, root: le.Uint32(b[44:])}
	w.data = (reserved + copies*fatSectors) * sectorSize
	clusters := (sectors*sectorSize - w.data) / w.clusterSize
	if clusters < minClusters || clusters > fatSectors*sectorSize/4 || clusters*w.clusterSize > maxVolume {
		return nil, fmt.Errorf("%d clusters of %d bytes", clusters, w.clusterSize)
	}
	w.clusters = uint32(clusters)
	return w, nil
}

// chain reads clusters from the first on until the chain ends or limit is reached: a loop ends there too.
func (w *walker) chain(n uint32, limit int64) ([]byte, error) {
	var out []byte
	for link := make([]byte, 4); n < 0x0ffffff8 && int64(len(out)) < limit; n = binary.LittleEndian.Uint32(link) & fatMask {
		if n < rootCluster || n >= w.clusters+rootCluster {
			return nil, errors.New("broken cluster chain")
		}
		part := make([]byte, w.clusterSize)
		if _, err := w.in.ReadAt(part, w.data+int64(n-rootCluster)*w.clusterSize); err != nil {
			return nil, err
		}
		out = append(out, part...)
		if _, err := w.in.ReadAt(link, w.table+4*int64(n)); err != nil {
			return nil, err
		}
	}
	return out, nil
}
