package release

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// TestRevokedWhileTheBodyArrives keeps a request open while the rule changes: the answer is that of the rules when the
// request is complete.
func TestRevokedWhileTheBodyArrives(t *testing.T) {
	w := newWorld(t)
	h := w.hsm.header(t, "legal")
	if code, _ := w.ask(w.alice(), "", h); code != http.StatusOK {
		t.Fatalf("before the change: %d", code)
	}
	q, err := kra.NewRequest([][]byte{h.Bytes()}, "")
	if err != nil {
		t.Fatal(err)
	}
	body := q.Encode()
	in, out := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, "https://"+w.addr+kra.PathRelease, in)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = int64(len(body))
	req.Header.Set("Content-Type", kra.ContentType)
	code := make(chan int, 1)
	go func() {
		resp, err := w.alice().Do(req)
		if err != nil {
			t.Error(err)
			code <- 0
			return
		}
		resp.Body.Close()
		code <- resp.StatusCode
	}()
	if _, err := out.Write(body[:len(body)-1]); err != nil {
		t.Fatal(err)
	}
	for w.server.Counts().Requests < 2 { // it has been let in and waits for the last byte
		time.Sleep(time.Millisecond)
	}
	w.def.Access[0].Lists = []string{"nobody"}
	w.publish()
	if _, err := out.Write(body[len(body)-1:]); err != nil {
		t.Fatal(err)
	}
	out.Close()
	if got := <-code; got != http.StatusForbidden {
		t.Errorf("after the change: %d; want %d", got, http.StatusForbidden)
	}
}
