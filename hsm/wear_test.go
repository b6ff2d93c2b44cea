package hsm_test

import (
	"sync"
	"testing"

	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// TestSpentHsmdStartsAnew: an hsmd that has destroyed enough objects ends, between what it has read and what it has not: with its supervisor
// no operation of many at once fails, of resident keys and of keys in vault mode.
func TestSpentHsmdStartsAnew(t *testing.T) {
	d := hsmtest.Start(t, "-destroyed", "150", "-life", "0s", "-loaded", "1")
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
			for n := range 60 {
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
