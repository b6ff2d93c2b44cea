package release

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/policy"
)

// BenchmarkRelease measures whole requests over keep-alive connections, P-256 in SoftHSM and a real log.
func BenchmarkRelease(b *testing.B) {
	for _, keys := range []int{1, 64} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			w := newWorld(b)
			var headers [][]byte
			for range keys {
				headers = append(headers, w.hsm.header(b, "legal").Bytes())
			}
			body, c := request(b, headers...), w.alice()
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					resp, err := c.Post("https://"+w.addr+kra.PathRelease, kra.ContentType, bytes.NewReader(body))
					if err != nil {
						b.Error(err)
						return
					}
					if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
						b.Error(resp.Status, err)
					}
					resp.Body.Close()
				}
			})
		})
	}
}

// BenchmarkPipeline measures decode to answer without network and log client.
func BenchmarkPipeline(b *testing.B) {
	w := newWorld(b)
	h := w.hsm.header(b, "legal")
	body := request(b, h.Bytes())
	snap := w.snap.Load()
	alice, err := kra.ParseDecryptor("corp:CN=alice,O=Example")
	if err != nil {
		b.Fatal(err)
	}
	c := &claimant{facts: policy.Facts{Decryptor: alice, Channel: policy.Authenticated, ClockTrusted: true}, to: kra.ToChannel, now: time.Now()}
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, err := kra.ParseRequest(body)
			if err != nil {
				b.Fatal(err)
			}
			jobs, err := parse(req)
			if err != nil {
				b.Fatal(err)
			}
			resp, err := w.server.run(b.Context(), snap.Book, c, jobs)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := resp.Append(nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
