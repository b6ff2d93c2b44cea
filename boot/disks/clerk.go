package disks

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keyrelease/krabox/boot/machine"
)

// A Clerk does what krad asks about disks, one thing at a time, beside everything else: a disk that keeps it waiting keeps nobody else.
//
//	idle --list, write, read--> busy --> done --result--> idle
type Clerk struct {
	Drawer Drawer

	mu    sync.Mutex // guards all below
	busy  string     // with what, or empty
	stage []byte     // the text that is to be written, part by part
	text  string     // that was read
	done  *outcome
}

type outcome struct {
	reply machine.DiskReply
	text  string
	err   error
}

// partBytes is how much of a text goes into one answer: a line's end takes two bytes there.
const partBytes = 24 << 10

// Do answers a request whose form was checked.
func (c *Clerk) Do(q machine.DiskRequest) (machine.DiskReply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch q.Do {
	case machine.DiskPart:
		return machine.DiskReply{}, c.part(q)
	case machine.DiskResult:
		return c.result()
	case machine.DiskFetch:
		if q.At >= len(c.text) {
			return machine.DiskReply{}, errors.New("nothing was read there")
		}
		part := c.text[q.At:min(len(c.text), q.At+partBytes)]
		if q.At+len(part) == len(c.text) {
			c.text = ""
		}
		return machine.DiskReply{Text: part}, nil
	case machine.DiskList:
		return machine.DiskReply{}, c.begin("the list of disks", func() (o outcome) {
			o.reply.Disks, o.err = c.Drawer.List()
			return o
		})
	case machine.DiskRead:
		return machine.DiskReply{}, c.begin("disk "+q.Disk, func() (o outcome) {
			o.text, o.err = c.Drawer.Read(q.Disk, q.Mark)
			o.reply.Size = len(o.text)
			return o
		})
	case machine.DiskWrite:
		text := c.stage
		return machine.DiskReply{}, c.begin("disk "+q.Disk, func() outcome {
			return outcome{err: c.Drawer.Write(q.Disk, q.Mark, machine.Title{Box: q.Box, Made: time.Unix(q.Made, 0)}, text)}
		})
	}
	return machine.DiskReply{}, fmt.Errorf("unknown request %q about disks", string(q.Do))
}

// part takes a part of a text, in order, and no more than a backup has. It needs mu.
func (c *Clerk) part(q machine.DiskRequest) error {
	if q.At == 0 {
		c.stage, c.text = nil, ""
	}
	if c.busy != "" || q.At != len(c.stage) || len(c.stage)+len(q.Text) > machine.MaxBackup {
		return errors.New("a part that does not follow the one before")
	}
	c.stage = append(c.stage, q.Text...)
	return nil
}

// begin forgets what was before, and does something beside. It needs mu.
func (c *Clerk) begin(what string, do func() outcome) error {
	if c.busy != "" {
		return fmt.Errorf("busy with %s, which has not answered yet", c.busy)
	}
	c.busy, c.done, c.stage, c.text = what, nil, nil, ""
	go func() {
		o := do()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.busy, c.done = "", &o
	}()
	return nil
}

// result tells what came of what was begun, once. It needs mu.
func (c *Clerk) result() (machine.DiskReply, error) {
	if c.busy != "" {
		return machine.DiskReply{Waits: true}, nil
	}
	o := c.done
	if o == nil {
		return machine.DiskReply{}, errors.New("nothing was begun")
	}
	c.done, c.text = nil, o.text
	return o.reply, o.err
}
