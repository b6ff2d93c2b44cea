package audit

import (
	"bytes"
	"encoding/binary"
	"io"
)

// A frameReader walks through the frames of a segment from its header on.
type frameReader struct {
	s   *segment
	at  int64 // offset of the next frame
	end int64 // offset behind what may be read
	buf []byte
}

func newFrameReader(s *segment) *frameReader {
	return &frameReader{s: s, at: segmentHeader, end: s.size}
}

// next returns the next frame, or errTorn where there is none. The frame is valid until the following call.
func (r *frameReader) next() (frame, error) {
	head, err := r.read(frameHeader)
	if err != nil {
		return frame{}, err
	}
	if len(head) < frameHeader || string(head[:4]) != frameMagic {
		return frame{}, errTorn
	}
	n := int64(binary.BigEndian.Uint32(head[4:]))
	if n > maxFrame {
		return frame{}, errTorn
	}
	data, err := r.read(frameHeader + n)
	if err != nil {
		return frame{}, err
	}
	f, err := openFrame(r.s.aead, data, r.at)
	if err == nil {
		r.at = f.end
	}
	return f, err
}

// rest returns how many bytes from the next frame's place on are not all zero.
func (r *frameReader) rest() (used int64, err error) {
	const chunk = 1 << 20
	b := make([]byte, chunk)
	for at := r.at; at < r.end; at += chunk {
		n, err := r.s.file.ReadAt(b[:min(chunk, r.end-at)], at)
		if err != nil && err != io.EOF {
			return 0, err
		}
		if last := len(bytes.TrimRight(b[:n], "\x00")); last > 0 {
			used = at + int64(last) - r.at
		}
	}
	return used, nil
}

// read returns up to n bytes from the next frame's place, fewer only at the end.
func (r *frameReader) read(n int64) ([]byte, error) {
	n = min(n, r.end-r.at)
	if int64(cap(r.buf)) < n {
		r.buf = make([]byte, max(n, 64<<10))
	}
	b := r.buf[:n]
	got, err := r.s.file.ReadAt(b, r.at)
	if err == io.EOF {
		err = nil
	}
	return b[:got], err
}
