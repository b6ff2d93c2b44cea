package boxtest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/appliance/peertest"
	"github.com/keyrelease/krabox/appliance/syslog/syslogtest"
	"github.com/keyrelease/krabox/kra/block"
)

// A whole box forwards its log to a real syslog server, from the console on: who had what, by which rule. A server that is frozen, away, or
// another than was named keeps no key back, and has the whole log in the end, restarts of the box or not.
func TestSyslogOfABox(t *testing.T) {
	server := syslogtest.New(t, "gtls")
	b := boxtest.Start(t)
	legalTeam(b)
	bob := b.Person("bob")
	agent := b.Agent(&bob)
	h, _ := header(t, agent, "x")
	releases := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		if keys, err := agent.Release(ctx, []block.Header{h, h}); err != nil || len(keys) != 2 {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
	}
	at := fmt.Sprint("127.0.0.1:", server.Port)
	other := pemText("CERTIFICATE", peertest.NewAuthority(t).Root.Raw)
	b.Do("syslog add "+at, other)
	releases()
	within(t, "a server of another authority is refused", func() bool {
		return strings.Contains(b.Do("syslog show"), "certificate signed by unknown authority")
	})
	if _, failure := b.Try("syslog add "+at, server.CA()); !strings.Contains(failure, "first: syslog remove") {
		t.Errorf("a second server: %q", failure)
	}
	b.Do("syslog remove", "yes")
	if got := server.Received(); len(got) > 0 {
		t.Fatalf("it got %+v", got)
	}
	b.Do("syslog add "+at, server.CA())
	releases()
	within(t, "it is forwarded", func() bool { return behind(t, b) == 0 })
	if shown := b.Do("syslog show"); !strings.Contains(shown, "has the whole log") && !strings.Contains(shown, "the last 1 records") { // the look is a record
		t.Errorf("syslog show says %s", shown)
	}
	server.Signal(syscall.SIGSTOP)
	began := time.Now()
	for range 10 {
		releases()
	}
	if d := time.Since(began); d > soon/2 {
		t.Errorf("10 releases took %s beside a frozen server", d)
	}
	server.Stop()
	releases()
	b.Reset()
	b.Login()
	agent = b.Agent(&bob)
	releases()
	if shown := b.Do("status"); !strings.Contains(shown, "is not known to have the last") {
		t.Errorf("status lacks that it is behind:\n%s", shown)
	}
	server.Start()
	size := records(t, b)
	within(t, "the server has it all", func() bool { return reached(t, server) >= size })
	released := 0
	seen := map[string]bool{}
	for _, m := range server.Received() {
		if seen[m.Of("kra@32473", "index")] {
			continue
		}
		seen[m.Of("kra@32473", "index")] = true
		if m.ID != "release" {
			continue
		}
		released++
		if m.Host != "box1" || m.Of("kra@32473", "decryptor") != "corp:CN=bob,O=Example" || m.Of("kra@32473", "access") != "legal-team" ||
			!strings.Contains(m.Of("kra@32473", "lists"), "legal-team/1=pass") || m.Of("kra@32473", "rules") == "" {
			t.Errorf("a release came as %s", m.Raw)
		}
	}
	if want := 2 * (1 + 1 + 10 + 1 + 1); released != want {
		t.Errorf("%d releases came, want %d", released, want)
	}
}

// behind is how many records monitoring is told that the server lacks.
func behind(t *testing.T, b *boxtest.Box) int { return gauge(t, b, "kra_syslog_behind_records") }

func records(t *testing.T, b *boxtest.Box) int { return gauge(t, b, "kra_log_records") }

func gauge(t *testing.T, b *boxtest.Box, name string) (n int) {
	t.Helper()
	a, err := http.Get("http://" + b.Up().Health.String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(text), "\n"+name+" ")
	if _, err := fmt.Sscan(after, &n); !ok || err != nil {
		t.Fatalf("no %s: %v\n%s", name, err, text)
	}
	return n
}

// reached is how many records, from the first on, a server has without a gap.
func reached(t *testing.T, s *syslogtest.Server) (next int) {
	t.Helper()
	for _, m := range s.Received() {
		var n int
		if _, err := fmt.Sscan(m.Of("kra@32473", "index"), &n); err != nil {
			t.Fatalf("%v in %s", err, m.Raw)
		}
		if n > next {
			t.Fatalf("record %d comes after %d", n, next-1)
		}
		next = max(next, n+1)
	}
	return next
}
