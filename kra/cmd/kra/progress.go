package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Progress is shown only to somebody who waits, and not too often.
const (
	progressAfter = 300 * time.Millisecond
	progressEvery = 100 * time.Millisecond
	barWidth      = 24
)

// A progress counts what is read through it and draws a line on a terminal. One that
// has no terminal only counts.
type progress struct {
	r     io.Reader
	name  string
	total int64 // 0 where the length is not known
	start time.Time

	mu    sync.Mutex // guards the rest: whoever reads draws, whoever waits ends it
	out   io.Writer  // nil: draw nothing
	done  int64
	next  time.Time
	drawn bool
}

// progress watches the reading of f. It draws where standard error is a terminal and
// the data itself does not go to one; to may be nil while that is not known.
func (t *tool) progress(f *os.File, name string, to *os.File) *progress {
	p := &progress{r: f, name: plain(name), start: time.Now()}
	p.next = p.start.Add(progressAfter)
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		p.total = info.Size()
	}
	if isTerminal(t.stderr) && (to == nil || !isTerminal(to)) {
		p.out = t.stderr
	}
	return p
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += int64(n)
	if p.out != nil {
		if now := time.Now(); !now.Before(p.next) {
			p.draw(now)
		}
	}
	return n, err
}

func (p *progress) draw(now time.Time) {
	p.next, p.drawn = now.Add(progressEvery), true
	fmt.Fprintf(p.out, "\r\x1b[K%s", p.line(now))
}

// line is what is drawn: NAME [#####     ]  42%  1.2 GiB  830 MiB/s  0:03.
func (p *progress) line(now time.Time) string {
	seconds := max(now.Sub(p.start).Seconds(), 0.001)
	rate := float64(p.done) / seconds
	if p.total == 0 {
		return fmt.Sprintf("%s  %s  %s/s", p.name, size(p.done), size(int64(rate)))
	}
	part := min(float64(p.done)/float64(p.total), 1)
	full := int(part * barWidth)
	left := time.Duration(float64(max(p.total-p.done, 0)) / max(rate, 1) * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("%s [%s%s] %3d%%  %s  %s/s  %d:%02d", p.name, strings.Repeat("#", full), strings.Repeat(" ", barWidth-full),
		int(part*100), size(p.done), size(int64(rate)), int(left.Minutes()), int(left.Seconds())%60)
}

// end takes the line away; nothing is drawn from then on.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
	p.out, p.drawn = nil, false
}

// size writes a number of bytes for people.
func size(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1024, 0
	units := [...]string{"KiB", "MiB", "GiB", "TiB", "PiB"}
	for v >= 1000 && unit < len(units)-1 {
		v, unit = v/1024, unit+1
	}
	if v < 10 {
		return fmt.Sprintf("%.1f %s", v, units[unit])
	}
	return fmt.Sprintf("%.0f %s", v, units[unit])
}
