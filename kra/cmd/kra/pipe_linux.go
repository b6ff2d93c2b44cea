package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// pipeSize is what a pipe to or from us should hold. One of 64 KiB, as they are made,
// does not hold a sealed chunk: both ends then wait for each other at every chunk.
const pipeSize = 256 << 10

// widen makes a pipe hold at least pipeSize. What is no pipe, or may not grow, works as it is.
func widen(f *os.File) {
	if n, err := unix.FcntlInt(f.Fd(), unix.F_GETPIPE_SZ, 0); err == nil && n < pipeSize {
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, pipeSize)
	}
}
