package boxtest_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/receipt"
)

const (
	kills  = 20
	asking = 8 // clients at once
)

// header is the header of a small file for legal-team.
func header(t testing.TB, a *client.Agent, content string) (block.Header, io.Reader) {
	t.Helper()
	h, rest, err := client.ReadHeader(encrypted(t, a, content))
	if err != nil {
		t.Fatal(err)
	}
	return h, rest
}

// encrypted is a file for legal-team.
func encrypted(t testing.TB, a *client.Agent, content string) *bytes.Buffer {
	t.Helper()
	d, err := a.Directory(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	k, ok := d.Lookup("legal-team")
	if !ok {
		t.Fatal("no key for legal-team")
	}
	to, err := k.Recipient()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w, err := client.Encrypt(&file, to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &file
}

// legalTeam makes the access identifier that bob belongs to.
func legalTeam(b *boxtest.Box) {
	b.Do(`access add legal-team "Legal team"`)
	b.Do("key generate p256 for legal-team")
	b.Trust("corp")
	b.Do(`rule add counsel is id == "corp:CN=bob,O=Example"`)
	b.Do("access lists legal-team is counsel")
}

// TestHSMDKilledUnderLoad kills hsmd again and again while keys are released: every key that a client got is in the log,
// every unwrap has its one record, and releases go on by themselves.
func TestHSMDKilledUnderLoad(t *testing.T) {
	b := boxtest.Start(t)
	legalTeam(b)
	bob := b.Person("bob")
	agent := b.Agent(&bob)
	h, _ := header(t, agent, "x")
	var got, failed atomic.Int64
	var mu sync.Mutex
	indexes := map[int64]bool{}
	stop := make(chan struct{})
	var all sync.WaitGroup
	quit := sync.OnceFunc(func() { close(stop); all.Wait() })
	defer quit()
	for range asking {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				answers, err := agent.Release(context.Background(), []block.Header{h})
				if err != nil || answers[0].Err != nil {
					failed.Add(1)
					time.Sleep(10 * time.Millisecond)
					continue
				}
				got.Add(1)
				v, err := answers[0].Release.Evidence.Verify(trust(t, b))
				if err != nil {
					t.Errorf("receipt: %v", err)
					continue
				}
				mu.Lock()
				indexes[v.Index()] = true
				mu.Unlock()
			}
		})
	}
	for n := range kills {
		before := got.Load()
		kill(t, b)
		deadline := time.Now().Add(time.Minute)
		for got.Load() < before+asking*2 {
			if time.Now().After(deadline) {
				t.Fatalf("after kill %d releases do not resume: %d so far\n%s", n+1, got.Load(), b.Output())
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	quit()
	t.Logf("%d kills, %d keys released, %d requests failed", kills, got.Load(), failed.Load())
	report := verifyLog(t, b)
	if len(report.Lives) < kills {
		t.Errorf("the log tells of %d lives of hsmd, want at least %d", len(report.Lives), kills)
	}
	if int64(len(indexes)) != got.Load() {
		t.Errorf("%d keys with %d different records", got.Load(), len(indexes))
	}
	for i := range indexes {
		if i >= report.Head.Size {
			t.Errorf("record %d of a released key is not in the log of %d", i, report.Head.Size)
		}
	}
}

func kill(t *testing.T, b *boxtest.Box) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		if s := b.Service("hsmd"); s.PID != 0 && s.State == "ready" {
			if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("hsmd does not come back")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func trust(t testing.TB, b *boxtest.Box) client.Trust {
	t.Helper()
	root, err := os.ReadFile(filepath.Join(b.Domain, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	tr, err := client.ParseTrust(root)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// verifyLog verifies the whole log as an auditor does.
func verifyLog(t testing.TB, b *boxtest.Box) receipt.Report {
	t.Helper()
	export := b.Do("log export")
	r, err := receipt.VerifyExport(bytes.NewReader([]byte(export)), trust(t, b).Roots())
	if err != nil {
		t.Fatalf("verify exported log: %v", err)
	}
	return r
}
