package hsmtest_test

import (
	"context"
	"testing"

	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
)

func TestDaemonKeepsNothing(t *testing.T) {
	d := hsmtest.Start(t)
	c := d.Client()
	ctx := context.Background()
	token := hsmtest.Token()
	i, err := c.Open(ctx, hsmtest.Again(token, nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range i.Report.Checks {
		t.Logf("%s: %q", check.Name, check.Failure)
	}
	key, changed, err := c.Generate(ctx, wire.P256, wire.Replicable)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v %d files, %d changed", key, len(i.Files), len(changed))
	d.Restart()
	if _, err := c.List(ctx); err != wire.ErrClosed {
		t.Errorf("List after a restart = %v, want %v", err, wire.ErrClosed)
	}
	files := i.Files
	for n, b := range changed {
		files[n] = b
		if b == nil {
			delete(files, n)
		}
	}
	if _, err := c.Open(ctx, hsmtest.Again(token, files)); err != nil {
		t.Fatal(err)
	}
	keys, err := c.List(ctx)
	if err != nil || len(keys) != 1 || keys[0].ID != key.ID {
		t.Errorf("List after files were restored = %v, %v; want the key %v", keys, err, key.ID)
	}
}
