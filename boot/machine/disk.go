package machine

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Limits of what is put on disks and read from them.
const (
	MaxBackup = 64 << 20 // bytes of a backup's text
	MaxDisks  = 32       // in a list
	maxPart   = 24 << 10 // bytes of a text in one message, where a line's end takes two
)

// errandTime is how long krad waits for what process 1 does with a disk, and listTime for the list. A disk that does not answer stays busy,
// and holds up nothing else in process 1.
const (
	errandTime = 5 * time.Minute
	listTime   = 15 * time.Second
)

// A Mark stands for a disk and what was on it when it was looked at: 64 digits, hexadecimal. Another disk in its place, or other contents,
// have another one.
type Mark string

// A Disk is one on which a backup may be kept: never one of the box's own. All words are printable ASCII.
type Disk struct {
	Name   string `json:"name"` // such as sdb
	Model  string `json:"model"`
	Serial string `json:"serial"`
	Bus    string `json:"bus"`   // usb, nvme, virtio, sata, scsi
	Size   int64  `json:"size"`  // bytes
	Holds  string `json:"holds"` // in words; a backup by what its name says
	Mark   Mark   `json:"mark"`  // empty: it cannot be read, and is good for nothing
}

// A Title is what the file of a backup is named after.
type Title struct {
	Box  string
	Made time.Time
}

// A DiskVerb is a request about disks. List, Write and Read begin what Result tells the end of; one is done at a time.
type DiskVerb string

// The verbs.
const (
	DiskList   DiskVerb = "list"
	DiskPart   DiskVerb = "part"   // a part of the text that Write is to write; the first one forgets what was there
	DiskWrite  DiskVerb = "write"  // all parts to a disk, as one backup
	DiskRead   DiskVerb = "read"   // the backup of a disk
	DiskResult DiskVerb = "result" // of the last of the three, once
	DiskFetch  DiskVerb = "fetch"  // a part of what Read has read
)

// A DiskRequest is one of them. Only the fields of its verb are set.
type DiskRequest struct {
	Do   DiskVerb `json:"do"`
	Disk string   `json:"disk,omitempty"`
	Mark Mark     `json:"mark,omitempty"`
	Box  string   `json:"box,omitempty"`
	Made int64    `json:"made,omitempty"` // Unix time
	At   int      `json:"at,omitempty"`   // place in the text
	Text string   `json:"text,omitempty"`
}

// A DiskReply answers one.
type DiskReply struct {
	Waits bool   `json:"waits,omitempty"` // it is not done yet
	Disks []Disk `json:"disks,omitempty"`
	Size  int    `json:"size,omitempty"` // bytes that were read
	Text  string `json:"text,omitempty"`
}

var (
	diskName = regexp.MustCompile(`^(sd[a-z]{1,3}|vd[a-z]{1,3}|nvme[0-9]{1,3}n[0-9]{1,3})$`)
	diskMark = regexp.MustCompile(`^[0-9a-f]{64}$`)
	boxName  = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
)

// IsDisk says whether a name is that of a whole disk, as the kernel calls those that there are drivers for.
func IsDisk(name string) bool { return diskName.MatchString(name) }

// IsBackupText says whether a text has no other letters than a backup's. A disk that is made of them starts no computer, and is no file
// system: their marks are not among them.
func IsBackupText(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("+/=-: \n", r))
	}) < 0
}

func (q DiskRequest) check() error {
	want := DiskRequest{Do: q.Do}
	switch q.Do {
	case DiskList, DiskResult:
	case DiskPart:
		want.At, want.Text = q.At, q.Text
		if q.At < 0 || q.Text == "" || len(q.Text) > maxPart || q.At > MaxBackup-len(q.Text) || !IsBackupText(q.Text) {
			return errors.New("a part that is of no backup")
		}
	case DiskFetch:
		want.At = q.At
		if q.At < 0 || q.At >= MaxBackup {
			return errors.New("a part that is of no backup")
		}
	case DiskWrite:
		want.Box, want.Made = q.Box, q.Made
		if !boxName.MatchString(q.Box) || q.Made <= 0 || q.Made >= 1<<34 {
			return errors.New("a backup of no box, or made at no time")
		}
		fallthrough
	case DiskRead:
		want.Disk, want.Mark = q.Disk, q.Mark
		if !IsDisk(q.Disk) || !diskMark.MatchString(string(q.Mark)) {
			return errors.New("no disk is named, or no mark")
		}
	default:
		return fmt.Errorf("unknown request %q about disks", string(q.Do))
	}
	if want != q {
		return fmt.Errorf("request %q about disks carries fields of another", string(q.Do))
	}
	return nil
}

// Disks lists the disks that may hold a backup, by name.
func (c *Client) Disks(ctx context.Context) ([]Disk, error) {
	c.errand.Lock()
	defer c.errand.Unlock()
	r, err := c.run(ctx, DiskRequest{Do: DiskList})
	return r.Disks, err
}

// WriteDisk puts a backup's text on a disk, in place of all that is there. When it returns nil, the text was read back from the disk.
func (c *Client) WriteDisk(ctx context.Context, d Disk, t Title, text []byte) error {
	c.errand.Lock()
	defer c.errand.Unlock()
	if len(text) > MaxBackup {
		return fmt.Errorf("the backup has %d bytes, and a disk takes %d", len(text), MaxBackup)
	}
	for at := 0; at < len(text); at += maxPart {
		if _, err := c.disk(ctx, DiskRequest{Do: DiskPart, At: at, Text: string(text[at:min(len(text), at+maxPart)])}); err != nil {
			return err
		}
	}
	_, err := c.run(ctx, DiskRequest{Do: DiskWrite, Disk: d.Name, Mark: d.Mark, Box: t.Box, Made: t.Made.Unix()})
	return err
}

// ReadDisk returns the text of the backup on a disk.
func (c *Client) ReadDisk(ctx context.Context, d Disk) (string, error) {
	c.errand.Lock()
	defer c.errand.Unlock()
	r, err := c.run(ctx, DiskRequest{Do: DiskRead, Disk: d.Name, Mark: d.Mark})
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for text.Len() < r.Size {
		part, err := c.disk(ctx, DiskRequest{Do: DiskFetch, At: text.Len()})
		switch {
		case err != nil:
			return "", err
		case part.Text == "" || text.Len()+len(part.Text) > MaxBackup:
			return "", errors.New("machine disk: a part is missing")
		}
		text.WriteString(part.Text)
	}
	return text.String(), nil
}

// run begins something, and waits for its end in many short requests: meanwhile others get through.
func (c *Client) run(ctx context.Context, q DiskRequest) (DiskReply, error) {
	if _, err := c.disk(ctx, q); err != nil {
		return DiskReply{}, err
	}
	most := errandTime
	if q.Do == DiskList {
		most = listTime
	}
	limit := time.NewTimer(most)
	defer limit.Stop()
	for {
		r, err := c.disk(ctx, DiskRequest{Do: DiskResult})
		if err != nil || !r.Waits {
			return r, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-limit.C:
			return DiskReply{}, fmt.Errorf("the disk has not answered for %s, and what came of this nobody knows: unplug it", most)
		case <-ctx.Done():
			return DiskReply{}, ctx.Err()
		}
	}
}

func (c *Client) disk(ctx context.Context, q DiskRequest) (DiskReply, error) {
	if err := q.check(); err != nil {
		return DiskReply{}, fmt.Errorf("machine disk: %w", err)
	}
	r, err := c.ask(ctx, request{Do: verbDisk, Disk: &q})
	if err != nil {
		return DiskReply{}, err
	}
	if r.Disk == nil {
		return DiskReply{}, errors.New("machine disk: answer without one")
	}
	return *r.Disk, nil
}
