package store

import (
	"errors"
	"runtime"
	"sync"
)

// side runs f for 0 to n-1, a part of them on each processor, and returns the first error of each part. What bbolt does on a damaged file is
// an error too.
func side(n int, f func(int) error) error {
	parts := min(runtime.GOMAXPROCS(0), n)
	errs := make([]error, parts)
	var all sync.WaitGroup
	for p := range parts {
		all.Go(func() {
			errs[p] = guarded(func() error {
				for i := p * n / parts; i < (p+1)*n/parts; i++ {
					if err := f(i); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
