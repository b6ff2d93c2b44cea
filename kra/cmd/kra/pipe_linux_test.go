package main

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPipesHoldSeveralChunks(t *testing.T) {
	for name, c := range map[string]struct{ before, want int }{
		"as made":        {64 << 10, pipeSize},
		"larger already": {1 << 20, 1 << 20},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, c.before); err != nil {
			t.Fatal(err)
		}
		widen(r)
		if n, err := unix.FcntlInt(w.Fd(), unix.F_GETPIPE_SZ, 0); err != nil || n != c.want {
			t.Errorf("%s: pipe of %d bytes, %v; want %d", name, n, err, c.want)
		}
	}
}
