package hsm_test

import (
	"sync"
	"testing"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// TestSpentHsmdStartsAnew: an hsmd that has destroyed enough objects ends, between what it has read and what it has not: with its supervisor
// no operation of many at once fails, of resident keys and of keys in vault mode.
func TestSpentHsmdStartsAnew(t *testing.T) {
	d := hsmtest.Start(t, "-destroyed", "300", "-life", "0s", "-loaded", "1")
	client := d.Client()
	token := hsmtest.Token()
	i, err := client.Open(t.Context(), hsmtest.Again(token, nil))
	if err != nil {
		t.Fatal(err)
	}
	token.Files = i.Files
	client.Recover(committed{token})
	var keys []wire.Key
	for _, m := range []wire.Mode{wire.Resident, wire.Vault, wire.Vault} {
		k, changed, err := client.Generate(t.Context(), wire.P256, wire.Bound, m)
		if err != nil {
			t.Fatal(err)
		}
		apply(token.Files, changed)
		keys = append(keys, k)
	}
	stop := make(chan struct{})
	var supervisor, askers sync.WaitGroup
	lives := 1
	supervisor.Go(func() {
		for d.Await(stop) {
			d.Restart()
			lives++
		}
	})
	for g := range 6 {
		askers.Go(func() {
			for n := range 120 {
				wraps := []block.Wrap{wrapTo(t, keys[(g+n)%3], 7), wrapTo(t, keys[n%3], 7)}
				if err := unwrapOver(client, wraps); err != nil {
					t.Errorf("asker %d, time %d: %v", g, n, err)
				}
			}
		})
	}
	askers.Wait()
	close(stop)
	supervisor.Wait()
	if lives < 3 {
		t.Errorf("%d lives of hsmd: it does not end when it is spent", lives)
	}
}

// TestSpentWithLabelledKeys: while a key bound to a label is loaded, which perhaps nobody can load again, an hsmd that is spent goes on for as
// long as it was to last three times more.
func TestSpentWithLabelledKeys(t *testing.T) {
	config := hsmtest.Config(t)
	config.Destroyed = 200
	c := must(hsm.New(config, [32]byte{1}))
	if _, err := c.Open(hsmtest.Token()); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k, enclosed, secret := newLabelled(t, c, wire.P256)
	load := func() {
		t.Helper()
		if _, err := c.Load(enclosed, secret); err != nil {
			t.Fatal(err)
		}
	}
	load()
	for spent := false; !spent; {
		if err := opens(t, c, k); err != nil {
			t.Fatal(err)
		}
		select {
		case <-c.Spent():
			spent = true
		default:
		}
	}
	if c.MayEnd() {
		t.Error("it ends under a key that is bound to a label")
	}
	if err := c.Unload(k.ID); err != nil || !c.MayEnd() {
		t.Errorf("%v; without such a key it goes on: %v", err, !c.MayEnd())
	}
	load()
	for n := 0; !c.MayEnd(); n++ {
		if err := opens(t, c, k); err != nil || n > 700 {
			t.Fatalf("after %d more releases it goes on: %v", n, err)
		}
	}
}
