package outbound

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Datagrams pass the unix socket as
//
//	length 2 bytes, big-endian | datagram
//
// A longer one ends the exchange; so does one too many.

// readDatagram reads one.
func readDatagram(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > maxDatagram {
		return nil, fmt.Errorf("datagram has %d bytes, limit %d", n, maxDatagram)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// writeDatagram writes one, as a whole.
func writeDatagram(w io.Writer, b []byte) error {
	if len(b) > maxDatagram {
		return fmt.Errorf("datagram has %d bytes, limit %d", len(b), maxDatagram)
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

// datagrams is the asker's end of an exchange.
type datagrams struct{ net.Conn }

// Read gives one datagram; what does not fit is lost.
func (d datagrams) Read(b []byte) (int, error) {
	m, err := readDatagram(d.Conn)
	if err != nil {
		return 0, err
	}
	return copy(b, m), nil
}

// Write sends one datagram.
func (d datagrams) Write(b []byte) (int, error) {
	if err := writeDatagram(d.Conn, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// exchange passes datagrams both ways, few and not for long. The kernel lets in only those of the peer: the socket is connected.
// Either side's end, or an error, ends both.
func exchange(near, far net.Conn, within time.Duration) {
	end := time.Now().Add(within)
	if near.SetDeadline(end) != nil || far.SetDeadline(end) != nil {
		return
	}
	var both sync.WaitGroup
	apart := func() { near.Close(); far.Close() }
	both.Go(func() {
		defer apart()
		for range maxDatagrams {
			b, err := readDatagram(near)
			if err != nil {
				return
			}
			if _, err := far.Write(b); err != nil {
				return
			}
		}
		_, _ = near.Read(make([]byte, 1)) // one more, or the end
	})
	both.Go(func() {
		defer apart()
		b := make([]byte, maxDatagram+1)
		for range maxDatagrams {
			n, err := far.Read(b)
			if err != nil || writeDatagram(near, b[:n]) != nil {
				return
			}
		}
	})
	both.Wait()
}
