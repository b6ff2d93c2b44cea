package hsm

import (
	"testing"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// TestVaultCacheKeepsWhatIsUsed: a key in use is not dropped, however little room there is; one that was taken out meanwhile is destroyed by
// its last user, once. Of what is not in use, the one used longest ago goes first.
func TestVaultCacheKeepsWhatIsUsed(t *testing.T) {
	key := func(n byte) *entry { return &entry{key: wire.Key{ID: block.KeyID{0, n}}} }
	c := newCache(2)
	c.shards = c.shards[:1]
	c.shards[0].room = 2
	var used []*loaded
	for n := range byte(4) {
		l, out := c.add(key(n))
		if len(out) != 0 {
			t.Fatalf("key %d is dropped while it is used", out[0].key.ID[1])
		}
		used = append(used, l)
	}
	if again, out := c.add(key(1)); again != used[1] || len(out) != 1 || out[0].entry == used[1].entry {
		t.Error("of two that load one key, the second does not use the first one's, or its own objects stay")
	}
	if out := c.letGo(used[1]); len(out) != 0 {
		t.Error("dropped while there is one more user")
	}
	if l := c.take(block.KeyID{0, 0}); l != used[0] { // latest used now, and held twice
		t.Error("a loaded key is not found")
	}
	if out := c.letGo(used[1]); len(out) != 1 || out[0] != used[1] || c.size() != 3 {
		t.Errorf("let go, with no room: %d dropped, %d loaded", len(out), c.size())
	}
	if out := c.remove(block.KeyID{0, 2}); len(out) != 0 || c.take(block.KeyID{0, 2}) != nil {
		t.Error("taken out while it is used: destroyed, or still found")
	}
	if out := c.letGo(used[2]); len(out) != 1 || out[0] != used[2] {
		t.Error("the last user does not destroy what was taken out")
	}
	c.letGo(used[0])
	c.letGo(used[0])
	if out := c.letGo(used[3]); len(out) != 0 {
		t.Error("dropped while there is room")
	}
	_, out := c.add(key(9))
	if len(out) != 1 || out[0] != used[3] {
		t.Errorf("%d dropped, want the one that was used longest ago", len(out))
	}
	if out := c.clear(); len(out) != 1 || c.size() != 0 {
		t.Errorf("cleared: %d to destroy, want the one that is not in use", len(out))
	}
}
