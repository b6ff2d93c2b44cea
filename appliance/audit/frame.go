package audit

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/keyrelease/krabox/kra/receipt"
)

// A segment is a header and frames, the rest is zero:
//
//	header  "kra/segment/v1" 0 0 | salt 32 | first record 8 | seal of nothing 28      84 bytes
//	frame   "kraf" | length of sealed 4 | first record 8 | sealed                     one batch
//	sealed  nonce 12 | ciphertext | tag 16
//
// The key of both seals is HKDF-SHA256(store key, salt, "kra/log-segment/v1" ‖ first record of the segment). The
// header's seal tells a wrong key from a torn batch. A frame's associated data are "kra/log-frame/v1" ‖ 0 ‖ offset of
// the frame ‖ the frame's 16 bytes. In the clear it is
//
//	count 4 | count × (public length 4, public, private length 4, private, salt 32) | checkpoint length 4, checkpoint
//
// All numbers are big endian. A frame is written only after the frame before it is durable, so at most the last
// frame of the last segment can be torn.
const (
	segmentMagic   = "kra/segment/v1\x00\x00"
	segmentStart   = 16 + 32 + 8
	segmentHeader  = segmentStart + sealOverhead
	frameMagic     = "kraf"
	frameHeader    = 16
	sealOverhead   = 12 + 16
	recordOverhead = 4 + 4 + 32
	frameOverhead  = frameHeader + sealOverhead + 4 + 4 + receipt.MaxCheckpoint
	maxFrame       = maxBatch + maxRequest + frameOverhead

	segmentContext = "kra/log-segment/v1"
	frameContext   = "kra/log-frame/v1"
)

var errTorn = errors.New("no valid frame")

// A sealer makes the cipher of a segment from the log's key, which it keeps in a closure.
type sealer struct {
	cipher func(salt []byte, first int64) (cipher.AEAD, error)
}

func newSealer(key [32]byte) sealer {
	return sealer{func(salt []byte, first int64) (cipher.AEAD, error) {
		return deriveAEAD(key[:], salt, string(binary.BigEndian.AppendUint64([]byte(segmentContext), uint64(first))))
	}}
}

// deriveAEAD returns AES-256-GCM with random nonces under a key of its own.
func deriveAEAD(key, salt []byte, info string) (cipher.AEAD, error) {
	k, err := hkdf.Key(sha256.New, key, salt, info, 32)
	if err != nil {
		return nil, fmt.Errorf("derive log key: %w", err)
	}
	defer clear(k)
	b, err := aes.NewCipher(k)
	if err != nil {
		return nil, fmt.Errorf("derive log key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(b)
}

// appendRecord adds a record in its frame form.
func appendRecord(b []byte, r *receipt.Record) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Public)))
	b = append(b, r.Public...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Private)))
	b = append(b, r.Private...)
	return append(b, r.Salt[:]...)
}

// appendFrame seals clear as the frame at offset whose first record is first, and adds it to b.
func appendFrame(b []byte, aead cipher.AEAD, offset, first int64, clear []byte) []byte {
	start := len(b)
	b = append(b, frameMagic...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(clear)+sealOverhead))
	b = binary.BigEndian.AppendUint64(b, uint64(first))
	return aead.Seal(b, nil, clear, frameAAD(offset, b[start:]))
}

func frameAAD(offset int64, header []byte) []byte {
	b := make([]byte, 0, len(frameContext)+1+8+frameHeader)
	b = append(b, frameContext...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(offset))
	return append(b, header...)
}

// A frame is one batch read back.
type frame struct {
	first      int64
	records    []receipt.Record
	checkpoint string
	end        int64 // offset behind the frame
}

// openFrame reads the frame at the start of data, which lies at offset of its segment. errTorn means that there is
// none, whatever the reason.
func openFrame(aead cipher.AEAD, data []byte, offset int64) (frame, error) {
	if len(data) < frameHeader || string(data[:4]) != frameMagic {
		return frame{}, errTorn
	}
	n := int64(binary.BigEndian.Uint32(data[4:]))
	if n > maxFrame || n > int64(len(data)-frameHeader) {
		return frame{}, errTorn
	}
	clear, err := aead.Open(nil, nil, data[frameHeader:frameHeader+n], frameAAD(offset, data[:frameHeader]))
	if err != nil {
		return frame{}, errTorn
	}
	f, err := parseFrame(clear)
	f.first, f.end = int64(binary.BigEndian.Uint64(data[8:])), offset+frameHeader+n
	return f, err
}

// parseFrame reads what only this program can have sealed; an error is a fault of the program, not of the disk.
func parseFrame(b []byte) (f frame, err error) {
	take := func(n int) (out []byte) {
		if n > len(b) {
			err, n = errors.New("parse log frame: too short"), len(b)
		}
		out, b = b[:n:n], b[n:]
		return out
	}
	number := func() int {
		if v := take(4); len(v) == 4 {
			return int(binary.BigEndian.Uint32(v))
		}
		return 0
	}
	count := number()
	for i := 0; i < count && err == nil; i++ {
		var r receipt.Record
		r.Public = take(number())
		r.Private = take(number())
		copy(r.Salt[:], take(len(r.Salt)))
		f.records = append(f.records, r)
	}
	f.checkpoint = string(bytes.Clone(take(number())))
	if err == nil && (len(b) != 0 || count == 0) {
		err = errors.New("parse log frame: wrong length")
	}
	return f, err
}
