package audit

import (
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

// rest returns everything from the next frame's place to the end.
func (r *frameReader) rest() ([]byte, error) { return r.read(r.end - r.at) }

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
