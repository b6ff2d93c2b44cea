package hsm

import (
	"container/list"
	"sync"

	"github.com/keyrelease/krabox/kra/block"
)

const (
	usualLoaded = 4096    // keys in vault mode that are session objects at a time; SoftHSM takes 10 KiB for each
	mostLoaded  = 1 << 16 // that may be asked for
	mostShards  = 16
)

// A loaded is a key in vault mode, as session objects.
type loaded struct {
	*entry
	users int  // guarded by its shard's mu
	out   bool // guarded by its shard's mu: no longer in the cache; the last user destroys it
}

// A cache is the keys in vault mode that are loaded. Each shard drops the one that was used longest ago, but none that is in use: while
// more are in use than there is room for, it is larger by as many, which is at most one for each session.
//
// It calls no module: what a method returns is the caller's to destroy.
type cache struct{ shards []shard }

// A shard is locked for the time of a look-up.
type shard struct {
	mu   sync.Mutex
	room int                           // at least 1
	keys map[block.KeyID]*list.Element // of order
	line list.List                     // of *loaded, the latest used first
}

// newCache returns a cache for so many keys.
func newCache(room int) *cache {
	if room <= 0 {
		room = usualLoaded
	}
	c := &cache{shards: make([]shard, min(mostShards, room))}
	for i := range c.shards {
		c.shards[i].room = (room + i) / len(c.shards)
		c.shards[i].keys = map[block.KeyID]*list.Element{}
	}
	return c
}

func (c *cache) shard(id block.KeyID) *shard { return &c.shards[int(id[0])%len(c.shards)] }

// take returns a loaded key for use, or nil. The user lets it go.
func (c *cache) take(id block.KeyID) *loaded {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.take(id)
}

func (s *shard) take(id block.KeyID) *loaded {
	at := s.keys[id]
	if at == nil {
		return nil
	}
	s.line.MoveToFront(at)
	l := at.Value.(*loaded)
	l.users++
	return l
}

// add takes in a key that was just loaded, for use. If somebody else was faster, that one is used.
func (c *cache) add(e *entry) (use *loaded, destroy []*loaded) {
	s := c.shard(e.key.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if use = s.take(e.key.ID); use != nil {
		return use, []*loaded{{entry: e}}
	}
	use = &loaded{entry: e, users: 1}
	s.keys[e.key.ID] = s.line.PushFront(use)
	return use, s.shrink()
}

// letGo ends a use.
func (c *cache) letGo(l *loaded) (destroy []*loaded) {
	s := c.shard(l.key.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.users--; l.out && l.users == 0 {
		return []*loaded{l}
	}
	return s.shrink()
}

// shrink takes out what is too much and not in use.
func (s *shard) shrink() (destroy []*loaded) {
	for at := s.line.Back(); at != nil && s.line.Len() > s.room; {
		before := at.Prev()
		if l := at.Value.(*loaded); l.users == 0 {
			s.drop(at)
			destroy = append(destroy, l)
		}
		at = before
	}
	return destroy
}

func (s *shard) drop(at *list.Element) {
	l := s.line.Remove(at).(*loaded)
	delete(s.keys, l.key.ID)
	l.out = true
}

// remove takes out a key. One that is in use is destroyed by its last user.
func (c *cache) remove(id block.KeyID) (destroy []*loaded) {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.keys[id]
	if at == nil {
		return nil
	}
	s.drop(at)
	if l := at.Value.(*loaded); l.users == 0 {
		destroy = append(destroy, l)
	}
	return destroy
}

// clear takes out all.
func (c *cache) clear() (destroy []*loaded) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for at := s.line.Front(); at != nil; at = s.line.Front() {
			l := at.Value.(*loaded)
			s.drop(at)
			if l.users == 0 {
				destroy = append(destroy, l)
			}
		}
		s.mu.Unlock()
	}
	return destroy
}

// size is how many are loaded.
func (c *cache) size() (n int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += s.line.Len()
		s.mu.Unlock()
	}
	return n
}
