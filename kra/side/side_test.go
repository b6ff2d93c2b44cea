package side_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/keyrelease/krabox/kra/side"
)

func TestRun(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 31, 32, 33, 1000} {
		turns := make([]atomic.Int32, n)
		if err := side.Run(n, func(i int) error { turns[i].Add(1); return nil }); err != nil {
			t.Fatal(err)
		}
		for i := range turns {
			if got := turns[i].Load(); got != 1 {
				t.Errorf("of %d: turn %d was taken %d times", n, i, got)
			}
		}
	}
}

func TestRunMeetsAnError(t *testing.T) {
	bad := errors.New("bad")
	for _, at := range []int{0, 17, 999} {
		err := side.Run(1000, func(i int) error {
			if i == at {
				return fmt.Errorf("turn %d: %w", i, bad)
			}
			return nil
		})
		if !errors.Is(err, bad) {
			t.Errorf("turn %d: %v", at, err)
		}
	}
}
