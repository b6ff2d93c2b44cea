package qemu_test

import "testing"

// TestBoxEnters takes a factory box into service: the registers are as predicted, a key is released, with a receipt.
func TestBoxEnters(t *testing.T) {
	g, s := copyOf(t)
	if err := g.up("enrolled"); err != nil {
		t.Fatal(err)
	}
	if err := g.decrypt(s); err != nil {
		t.Error(err)
	}
}
