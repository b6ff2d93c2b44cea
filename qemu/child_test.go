package qemu

import (
	"os"
	"testing"
)

// TestThreadsOutliveChildren: no thread ends with a child. What other tests start dies with the thread that started it.
func TestThreadsOutliveChildren(t *testing.T) {
	threads := func() map[string]bool {
		all, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]bool{}
		for _, thread := range all {
			have[thread.Name()] = true
		}
		return have
	}
	for range 50 {
		c, err := start("sleep", "600")
		if err != nil {
			t.Fatal(err)
		}
		before := threads()
		c.kill()
		after := threads()
		for thread := range before {
			if !after[thread] {
				t.Fatalf("thread %s ended with a child", thread)
			}
		}
	}
}
