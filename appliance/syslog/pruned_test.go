package syslog

import (
	"fmt"
	"strings"
	"testing"
)

// TestForwardedFromWhatIsThere: a server that is named when old records were removed gets those that are there, and by their numbers sees
// where they begin.
func TestForwardedFromWhatIsThere(t *testing.T) {
	w := newWorld(t, "gtls")
	for range 40 {
		w.write(strings.Repeat("x", 4000))
	}
	h := w.log.Head()
	e, err := w.log.Exported(h.Size, h.Root)
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.log.Prune(e, h.Size)
	if err != nil {
		t.Fatal(err)
	}
	w.write("new")
	w.Configure(w.target(w.server.Roots()))
	w.wait("it is forwarded", w.even)
	got := w.server.Received()
	if len(got) == 0 {
		t.Fatal("nothing came")
	}
	if first := got[0].Of(element, "index"); first != fmt.Sprint(r.To) {
		t.Errorf("the first record has number %s; want %d", first, r.To)
	}
	if st := w.Status(); st.Err != nil || st.Next != w.log.Head().Size {
		t.Errorf("Status() = %+v", st)
	}
}
