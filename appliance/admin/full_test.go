package admin

import (
	"context"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console/wire"
)

// A tight store is the real one on a disk without room.
type tight struct{ *store.Store }

func (tight) Room() error { return store.ErrFull }

func (tight) Commit(context.Context, ...store.Change) (*store.State, error) {
	return nil, store.ErrFull
}

// TestNothingIsPreparedOnAFullDisk: what a change would put into the log is not there before it is refused; and who is no officer is told the
// same as one who mistypes.
func TestNothingIsPreparedOnAFullDisk(t *testing.T) {
	w := enrolled(t)
	prepared := 0
	w.c.Prepare = func(next *store.State) (func(), error) { prepared++; return w.prepare(next) }
	w.do("rule add before is true")
	if prepared != 1 {
		t.Fatalf("a rule was prepared %d times", prepared)
	}
	w.c.Store = tight{w.store}
	w.fail("rule add later is true", nil, "othing was done", "the disk is full")
	if prepared != 1 {
		t.Error("a rule that is refused was prepared")
	}
	var said []string
	for _, name := range []string{officer, "nobody"} {
		_, err := w.Login(t.Context(), wire.Credentials{Officer: name, Passphrase: "not the passphrase"})
		if err == nil {
			t.Fatalf("%s is logged in", name)
		}
		said = append(said, err.Error())
	}
	if said[0] != said[1] || strings.Contains(said[0], "disk") {
		t.Errorf("an officer is told %q, another %q", said[0], said[1])
	}
}
