package external

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Limits of kept answers.
const (
	maxKept    = 4096
	maxKeptFor = time.Hour
)

// A cache keeps answers to verifications as long as the service said. Reservations are never kept: each is its own.
type cache struct {
	mu  sync.Mutex
	all map[[32]byte]kept
}

type kept struct {
	answer
	until time.Time
}

func newCache() *cache { return &cache{all: map[[32]byte]kept{}} }

func (c *cache) get(key [32]byte, now time.Time) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.all[key]
	if ok && !now.Before(k.until) {
		delete(c.all, key)
		ok = false
	}
	return k.answer, ok
}

func (c *cache) put(key [32]byte, a answer, long time.Duration, now time.Time) {
	if long <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= maxKept {
		clear(c.all) // asking again is all that it costs
	}
	c.all[key] = kept{a, now.Add(min(long, maxKeptFor))}
}

// maxAge is how long the service says that its answer may be kept (RFC 9111, section 5.2.2). Anything else than one plain
// max-age of one field is not at all.
func maxAge(h http.Header) time.Duration {
	var long time.Duration
	fields := h.Values("Cache-Control")
	if len(fields) != 1 || len(h.Values("Age")) > 0 {
		return 0
	}
	for directive := range strings.SplitSeq(fields[0], ",") {
		switch name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "="); name {
		case "max-age":
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil || long != 0 {
				return 0
			}
			long = time.Duration(n) * time.Second
		case "private":
		default: // no-store, no-cache, must-revalidate and what we do not know
			return 0
		}
	}
	return long
}
