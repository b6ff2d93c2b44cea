//go:build !linux

package hidden

func quiet(int) (restore func(), err error) { return func() {}, nil }
