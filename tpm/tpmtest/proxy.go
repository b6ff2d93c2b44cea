package tpmtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// proxy lets many connections use one swtpm, command by command, as a TPM's bus does; it records and cuts.
type proxy struct {
	front net.Listener

	mu     sync.Mutex // guards what follows; held for a whole command
	back   net.Conn   // nil: no power
	conns  map[net.Conn]bool
	bus    []byte
	tap    bool // whether bus is kept
	n      int
	cutIn  int // commands to go, of those in cutOf; 0: no cut
	cutOn  Where
	cutOf  []tpm2.TPMCC
	mangle func(command, answer []byte) []byte // what an interposer makes of an answer; nil: nothing
	busy   int                                 // every so many commands are answered "ask again" once; 0: none
}

func listen(path string) (*proxy, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	p := &proxy{front: l, conns: map[net.Conn]bool{}}
	go p.accept()
	return p, nil
}

func (p *proxy) accept() {
	for {
		c, err := p.front.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns[c] = true
		p.mu.Unlock()
		go p.serve(c)
	}
}

func (p *proxy) serve(c net.Conn) {
	defer p.drop(c)
	for {
		command, err := readMessage(c)
		if err != nil {
			return
		}
		answer, err := p.exchange(command)
		if err != nil {
			return
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}

var errNoPower = errors.New("no power")

func (p *proxy) exchange(command []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.back == nil {
		return nil, errNoPower
	}
	p.n++
	cut := p.cutNow(tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])))
	if cut && p.cutOn == Before {
		p.unplugLocked()
		return nil, errNoPower
	}
	if p.busy > 0 && p.n%p.busy == 0 {
		return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, uint32(tpm2.TPMRCRetry)), nil
	}
	if _, err := p.back.Write(command); err != nil {
		return nil, err
	}
	answer, err := readMessage(p.back)
	if err != nil {
		return nil, err
	}
	if p.mangle != nil {
		answer = p.mangle(command, answer)
	}
	if p.tap {
		p.bus = append(append(p.bus, command...), answer...)
	}
	if cut {
		p.unplugLocked()
		return nil, errNoPower
	}
	return answer, nil
}

func (p *proxy) plug(path string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n, p.cutIn = 0, 0
	var err error
	for range 15_000 { // 30 s: a machine may be busy
		if p.back, err = net.Dial("unix", path); err == nil {
			return nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return fmt.Errorf("connect swtpm: %w", err)
}

func (p *proxy) unplug() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unplugLocked()
}

// unplugLocked also ends the connections: who had the TPM lost the power with it.
func (p *proxy) unplugLocked() {
	if p.back != nil {
		_ = p.back.Close()
		p.back = nil
	}
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) close() {
	_ = p.front.Close()
	p.unplug()
}

func (p *proxy) recorded() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.bus
	p.bus, p.tap = nil, true
	return b
}

func (p *proxy) cutAfter(n int, on Where, of []tpm2.TPMCC) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutIn, p.cutOn, p.cutOf = n, on, of
}

// cutNow counts down.
func (p *proxy) cutNow(code tpm2.TPMCC) bool {
	if p.cutIn == 0 || len(p.cutOf) > 0 && !slices.Contains(p.cutOf, code) {
		return false
	}
	p.cutIn--
	return p.cutIn == 0
}

func (p *proxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

// readMessage reads one command or answer: both begin with a tag of 2 bytes and a size of 4.
func readMessage(r io.Reader) ([]byte, error) {
	head := make([]byte, 10)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[2:])
	if n < 10 || n > 1<<16 {
		return nil, fmt.Errorf("message of %d bytes", n)
	}
	out := append(head, make([]byte, n-10)...)
	_, err := io.ReadFull(r, out[10:])
	return out, err
}
