// Package side does a loop's turns side by side.
package side

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

// shares is how many shares of the turns each processor takes, so that none is left with the costly ones.
const shares = 16

// Run calls f for 0 to n-1, on all processors, in no order. Who met an error takes no more turns: the first of each processor is returned.
func Run(n int, f func(int) error) error {
	parts := min(runtime.GOMAXPROCS(0), n)
	if parts == 0 {
		return nil
	}
	size := n/(parts*shares) + 1
	errs := make([]error, parts)
	var next atomic.Int64
	var all sync.WaitGroup
	for p := range parts {
		all.Go(func() {
			for errs[p] == nil {
				from := int(next.Add(1)-1) * size
				if from >= n {
					return
				}
				for i := from; i < min(from+size, n) && errs[p] == nil; i++ {
					errs[p] = f(i)
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
