package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/tarm/serial"
)

// A Line is the serial line of a box, seen from the terminal at its other end.
type Line struct {
	port  *serial.Port
	log   *os.File
	scale func(time.Duration) time.Duration

	mu      sync.Mutex
	unread  []byte        // output that no Expect has consumed
	more    chan struct{} // closed and replaced when output arrives or the line ends
	ended   bool
	stopped bool // the guest sent XOFF
}

const (
	baud = 115200
	xon  = 0x11
	xoff = 0x13
)

func openLine(tty, log string, scale func(time.Duration) time.Duration) (*Line, error) {
	port, err := serial.OpenPort(&serial.Config{Name: tty, Baud: baud})
	if err != nil {
		return nil, fmt.Errorf("open serial line: %w", err)
	}
	file, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open serial log: %w", err), port.Close())
	}
	l := &Line{port: port, log: file, scale: scale, more: make(chan struct{})}
	go l.listen()
	return l, nil
}

// listen takes in what the box says until the line ends. It alone writes the log.
func (l *Line) listen() {
	defer l.log.Close()
	buffer := make([]byte, 4096)
	for {
		n, err := l.port.Read(buffer)
		_, logErr := l.log.Write(buffer[:n])
		l.take(buffer[:n], errors.Join(err, logErr))
		if err != nil || logErr != nil {
			return
		}
	}
}

func (l *Line) take(data []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range data {
		switch c {
		case xoff:
			l.stopped = true
		case xon:
			l.stopped = false
		default:
			l.unread = append(l.unread, c)
		}
	}
	l.ended = err != nil
	close(l.more)
	l.more = make(chan struct{})
}

// Expect waits for output that matches and returns the match and its groups.
// Output up to the end of the match is consumed. Lines end with \r\n.
func (l *Line) Expect(pattern string, limit time.Duration) ([]string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("expect: %w", err)
	}
	timeout := time.After(l.scale(limit))
	for {
		found, more, err := l.match(re)
		if found != nil || err != nil {
			return found, err
		}
		select {
		case <-more:
		case <-timeout:
			return nil, fmt.Errorf("expect %q: nothing in %v; last words: %q", pattern, l.scale(limit), l.lastWords())
		}
	}
}

// ErrEnded is returned by Expect when the box has lost its power.
var ErrEnded = errors.New("the serial line ended")

func (l *Line) match(re *regexp.Regexp) ([]string, <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := re.FindSubmatchIndex(l.unread)
	if at == nil {
		if l.ended {
			return nil, nil, fmt.Errorf("expect %q: %w; last words: %q", re, ErrEnded, l.tail())
		}
		return nil, l.more, nil
	}
	var groups []string
	for i := 0; i < len(at); i += 2 {
		group := ""
		if at[i] >= 0 {
			group = string(l.unread[at[i]:at[i+1]])
		}
		groups = append(groups, group)
	}
	l.unread = l.unread[at[1]:]
	return groups, nil, nil
}

const lastWords = 600

func (l *Line) lastWords() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tail()
}

func (l *Line) tail() string { return string(l.unread[max(0, len(l.unread)-lastWords):]) }

// Discard forgets output that arrived so far.
func (l *Line) Discard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unread = nil
}

// Read returns output as it comes, for a person at a terminal. Not to be mixed with Expect.
func (l *Line) Read(p []byte) (int, error) {
	for {
		l.mu.Lock()
		if len(l.unread) > 0 {
			n := copy(p, l.unread)
			l.unread = l.unread[n:]
			l.mu.Unlock()
			return n, nil
		}
		ended, more := l.ended, l.more
		l.mu.Unlock()
		if ended {
			return 0, io.EOF
		}
		<-more
	}
}

// Write types. A pseudo-terminal holds the writer back while the guest's UART is full.
func (l *Line) Write(p []byte) (int, error) { return l.port.Write(p) }

// Send types a line and presses return.
func (l *Line) Send(line string) error {
	if _, err := l.Write([]byte(line + "\r")); err != nil {
		return fmt.Errorf("send line: %w", err)
	}
	return nil
}

const (
	pasteChunk = 1024                  // well below the 4,096 bytes that Linux buffers for a reader
	pastePause = 40 * time.Millisecond // for a chunk that the guest does not echo
)

// Paste types a long text, a chunk at a time: the next one only when the guest
// has echoed something and does not hold us off with XOFF. Newlines become returns.
func (l *Line) Paste(text string) error {
	text = strings.ReplaceAll(text, "\n", "\r")
	for len(text) > 0 {
		n := min(pasteChunk, len(text))
		if i := strings.LastIndexByte(text[:n], '\r'); i >= 0 {
			n = i + 1
		}
		echoed := l.arrival()
		if _, err := l.Write([]byte(text[:n])); err != nil {
			return fmt.Errorf("paste: %w", err)
		}
		select {
		case <-echoed:
		case <-time.After(l.scale(pastePause)):
		}
		if err := l.ready(); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

func (l *Line) arrival() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.more
}

const holdTime = 30 * time.Second

// ready waits while the guest holds us off.
func (l *Line) ready() error {
	timeout := time.After(l.scale(holdTime))
	for {
		l.mu.Lock()
		stopped, ended, more := l.stopped, l.ended, l.more
		l.mu.Unlock()
		if ended {
			return fmt.Errorf("paste: %w", ErrEnded)
		}
		if !stopped {
			return nil
		}
		select {
		case <-more:
		case <-timeout:
			return errors.New("paste: the guest holds the line for too long")
		}
	}
}

func (l *Line) close() { _ = l.port.Close() }
