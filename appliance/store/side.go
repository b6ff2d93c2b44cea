package store

import "github.com/keyrelease/krabox/kra/side"

// beside is side.Run, in which what bbolt does on a damaged file is an error too.
func beside(n int, f func(int) error) error {
	return side.Run(n, func(i int) error { return guarded(func() error { return f(i) }) })
}
