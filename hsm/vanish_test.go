package hsm_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/wire"
)

func hasFailed(c *hsm.Custodian) bool {
	select {
	case <-c.Failed():
		return true
	default:
		return false
	}
}

// TestVaultDestroyedWithSessionsLost: a key whose objects went with their sessions is destroyed, and nothing is beyond help.
func TestVaultDestroyedWithSessionsLost(t *testing.T) {
	c, token := newVault(t, 0)
	sessions := c.SessionObjects()
	for _, s := range []wire.Suite{wire.P256, wire.Hybrid} {
		k := vaultKey(t, c, token, s, wire.Bound)
		if err := opens(t, c, k); err != nil {
			t.Fatal(err)
		}
		c.LoseSessions()
		if _, err := c.Destroy(k.ID); err != nil {
			t.Errorf("%v: %v", s, err)
		}
		if hasFailed(c) {
			t.Fatalf("%v: a lost session is taken for an object that cannot be destroyed", s)
		}
	}
	if n := c.SessionObjects(); n != sessions {
		t.Errorf("%d objects stay in sessions", n-sessions)
	}
}

// TestVaultLeavesNothing: hsmd is beyond help when the module does not destroy what can be wrapped, or half of a key that was destroyed,
// though the other half is gone by itself.
func TestVaultLeavesNothing(t *testing.T) {
	c, _ := newVault(t, 0)
	if err := c.KeepLasting(); err == nil || !hasFailed(c) {
		t.Errorf("a key stays that can be wrapped: %v, beyond help: %v", err, hasFailed(c))
	}
	if n := len(must(c.List())); n != 0 {
		t.Errorf("%d keys were kept", n)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c, token := newVault(t, 0)
	k := vaultKey(t, c, token, wire.Hybrid, wire.Bound)
	if err := opens(t, c, k); err != nil {
		t.Fatal(err)
	}
	if err := c.LastingHalf(k.ID); err != nil || hasFailed(c) {
		t.Fatalf("%v, beyond help: %v", err, hasFailed(c))
	}
	if _, err := c.Destroy(k.ID); err != nil || !hasFailed(c) {
		t.Errorf("half of a destroyed key stays: %v, beyond help: %v", err, hasFailed(c))
	}
}

// TestExtractableObjectsVanish: whatever makes an object that can be wrapped destroys it by vanish, which does not go on when it cannot.
func TestExtractableObjectsVanish(t *testing.T) {
	makers := []string{"wrapNew", "wrapNewSeed", "keepObject", "receiveKept", "receiveSeedKey", "rewrap", "unload"}
	seen := map[string]bool{}
	for _, name := range []string{"vault.go", "labelled.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !slices.Contains(makers, fn.Name.Name) {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					seen[fn.Name.Name] = seen[fn.Name.Name] || s.Sel.Name == "vanish"
					if s.Sel.Name == "discard" {
						t.Errorf("%s goes on when an object cannot be destroyed", fn.Name.Name)
					}
				}
				return true
			})
		}
	}
	for _, name := range makers {
		if !seen[name] {
			t.Errorf("%s destroys nothing", name)
		}
	}
}
