package audit

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyrelease/krabox/kra/receipt"
)

// The file base-<size, 20 digits> stands for the records from where the base before it ends up to, but without, record size. Their
// segments were removed (prune.go); what the tree needs of them stays, so that every root and every proof is what it was:
//
//	salt 32 | nonce 12 | ciphertext of (length 4, a past as JSON, leaf hashes of 32 bytes) | tag 16
//
// under HKDF-SHA256(store key, salt, "kra/log-base/v1" ‖ size 8). It is durable before the first segment goes.
//
//	base-400         base-900         seg-900  seg-1300  …
//	records 0–399    records 400–899  records from 900 on, whole
const (
	basePrefix  = "base-"
	baseContext = "kra/log-base/v1"
	maxBase     = 64 << 20 // bytes of such a file
)

func baseName(size int64) string { return numbered(basePrefix, size) }

// A past is what the records before one have left behind: all that a start, or an export from there, needs of them beside their hashes.
type past struct {
	From       int64               `json:"from"`    // where the base before ends
	Size       int64               `json:"size"`    // records in all
	Removed    time.Time           `json:"removed"` // when
	Checkpoint string              `json:"checkpoint"`
	Path       receipt.Path        `json:"path"` // of the receipt key in use
	Lives      []receipt.LifeState `json:"lives,omitempty"`
	Current    receipt.Instance    `json:"current"`
	Proven     receipt.ChainHead   `json:"proven"`
}

// ErrRemoved is wrapped by the errors of readers that ask for records which are not there any more.
var ErrRemoved = errors.New("exported and removed")

// Removed returns the first record that is there, and when those before it were removed; 0 if none were.
func (l *Log) Removed() (below int64, at time.Time) {
	p := l.past.Load()
	return p.Size, p.Removed
}

// there refuses a record that was removed.
func (l *Log) there(record int64) error {
	if p := l.past.Load(); record < p.Size {
		return fmt.Errorf("records below %d were %w on %s", p.Size, ErrRemoved, p.Removed.Format(time.DateTime+" UTC"))
	}
	return nil
}

// writeBase makes p and the leaves since p.From durable, and reads them back: their segments are about to go.
func (l *Log) writeBase(p past, leaves []tlog.Hash) error {
	plain, err := encodeBase(p, leaves)
	if err != nil {
		return err
	}
	f := l.bases(p.Size)
	sealed, err := f.seal(plain)
	if err != nil {
		return err
	}
	if len(sealed) > maxBase {
		return fmt.Errorf("%s has %d bytes, more than %d", baseName(p.Size), len(sealed), maxBase)
	}
	if err := l.disk.keep(f.path, sealed); err != nil {
		return err
	}
	again, err := f.read()
	if err == nil {
		again, err = f.open(again)
	}
	if err == nil && !bytes.Equal(again, plain) {
		err = errors.New("the disk has something else")
	}
	if err != nil {
		return fmt.Errorf("read %s again: %w", baseName(p.Size), err)
	}
	return nil
}

func encodeBase(p past, leaves []tlog.Hash) ([]byte, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode log base: %w", err)
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(text)+len(leaves)*tlog.HashSize), uint32(len(text)))
	b = append(b, text...)
	for i := range leaves {
		b = append(b, leaves[i][:]...)
	}
	return b, nil
}

// readBase opens the base of that size.
func (l *Log) readBase(size int64) (p past, leaves []record, err error) {
	f := l.bases(size)
	sealed, err := f.read()
	if err != nil {
		return p, nil, err
	}
	plain, err := f.open(sealed)
	if err != nil {
		return p, nil, fmt.Errorf("%w: it is of another box or another place, or was edited", ErrEdited)
	}
	if len(plain) < 4 || uint64(binary.BigEndian.Uint32(plain)) > uint64(len(plain)-4) {
		return p, nil, fmt.Errorf("%w: too short", ErrEdited)
	}
	text := plain[4 : 4+binary.BigEndian.Uint32(plain)]
	hashes := plain[4+len(text):]
	if err := json.Unmarshal(text, &p); err != nil {
		return p, nil, fmt.Errorf("%w: %w", ErrEdited, err)
	}
	if p.Size != size || p.From < 0 || p.From >= size || int64(len(hashes)) != (size-p.From)*tlog.HashSize {
		return p, nil, fmt.Errorf("%w: it has %d bytes of hashes for records %d to %d", ErrEdited, len(hashes), p.From, p.Size)
	}
	leaves = make([]record, size-p.From)
	for i := range leaves {
		copy(leaves[i].leaf[:], hashes[i*tlog.HashSize:])
	}
	return p, leaves, nil
}

// recoverBase takes over the base of that size, which goes on where the tree ends.
func (l *Log) recoverBase(size int64) error {
	p, leaves, err := l.readBase(size)
	if err != nil {
		return err
	}
	if p.From != l.tree.size() {
		return fmt.Errorf("%w: it goes on from record %d, want %d", ErrEdited, p.From, l.tree.size())
	}
	l.tree.add(leaves)
	if l.hsm, err = p.tracker(); err != nil {
		return fmt.Errorf("%w: %w", ErrEdited, err)
	}
	if err := l.setReceiptKey(p.Path); err != nil {
		return fmt.Errorf("%w: %w", ErrEdited, err)
	}
	if err := l.replayCheckpoint(p.Checkpoint); err != nil {
		return err
	}
	l.past.Store(&p)
	return nil
}

// tracker returns a new tracker that stands where the past ends.
func (p *past) tracker() (*tracker, error) {
	t := newTracker()
	for _, s := range p.Lives {
		l, err := s.Life()
		if err != nil || t.lives[s.Instance] != nil {
			return nil, fmt.Errorf("instance %s: malformed", s.Instance)
		}
		t.add(&life{l, map[uint64]receipt.ChainHead{}})
	}
	t.current, t.proven = p.Current, p.Proven
	return t, nil
}

// A follower follows batches for what they leave behind.
type follower struct {
	hsm        *tracker
	path       receipt.Path
	checkpoint string
}

// after begins where a past ends.
func (p *past) after() (follower, error) {
	t, err := p.tracker()
	return follower{t, p.Path, p.Checkpoint}, err
}

// pass takes what a batch changes.
func (f *follower) pass(b frame) error {
	for _, r := range b.records {
		g, err := receipt.GlanceAt(r.Public)
		if err != nil {
			return err
		}
		if g.Key {
			p, err := receipt.ParsePublic(r.Public)
			if err != nil {
				return err
			}
			f.path = p.Key.Path
		}
		if err := f.hsm.admit([]record{{item: g.Item}}); err != nil {
			return err
		}
	}
	c, err := checkpointOf(b.checkpoint)
	if err != nil {
		return err
	}
	f.checkpoint = b.checkpoint
	f.hsm.hear(c.HSM)
	return f.hsm.prove()
}

// states are the lives as an export or a base carries them.
func (t *tracker) states() (all []receipt.LifeState) {
	for _, i := range t.order {
		all = append(all, t.lives[i].State())
	}
	return all
}
