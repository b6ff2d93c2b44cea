package label

import (
	"encoding/binary"
	"errors"
)

// RecordSize is the size of the NV record in bytes.
const RecordSize = 80

// A Record is what the TPM remembers of the state, against rollback:
//
//	generation 8 | state root 32 | log size 8 | log root 32        integers big-endian
type Record struct {
	Generation uint64
	Root       [32]byte
	LogSize    uint64
	LogRoot    [32]byte
}

// Bytes is the form in NV.
func (r Record) Bytes() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, RecordSize), r.Generation)
	b = append(b, r.Root[:]...)
	b = binary.BigEndian.AppendUint64(b, r.LogSize)
	return append(b, r.LogRoot[:]...)
}

// ParseRecord reads the form in NV.
func ParseRecord(b []byte) (Record, error) {
	if len(b) != RecordSize {
		return Record{}, errors.New("parse record: not of 80 bytes")
	}
	return Record{
		Generation: binary.BigEndian.Uint64(b),
		Root:       [32]byte(b[8:40]),
		LogSize:    binary.BigEndian.Uint64(b[40:]),
		LogRoot:    [32]byte(b[48:]),
	}, nil
}
