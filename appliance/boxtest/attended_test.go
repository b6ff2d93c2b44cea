package boxtest_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
)

// attended makes a box attended and returns its shares.
func attended(t *testing.T, b *boxtest.Box, line string, n int) (shares []string) {
	t.Helper()
	b.Do(line, "yes")
	for i := range n {
		s := strings.Join(shareLine.FindAllString(b.Do("boot next"), -1), "\n")
		shares = append(shares, s)
		if said, last := b.Do("boot share", s), i == n-1; strings.Contains(said, "This box is attended") != last {
			t.Errorf("share %d of %d: %s", i+1, n, said)
		}
	}
	return shares
}

// opens waits until an agent gets the key of a header: a box that was unlocked, or whose agent starts again, serves a moment later.
func opens(t *testing.T, agent *client.Agent, h block.Header) {
	t.Helper()
	var last error
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		answers, err := agent.Release(t.Context(), []block.Header{h})
		if err == nil {
			err = answers[0].Err
		}
		if last = err; err == nil {
			return
		}
	}
	t.Fatalf("the key is not released: %v", last)
}

// waiting checks that a box waits: it releases nothing and lets nobody in.
func waiting(t *testing.T, b *boxtest.Box, agent *client.Agent, h block.Header) {
	t.Helper()
	status := b.Do("status")
	for _, want := range []string{"attended", "waits for 2 of 3 unlock shares", "nothing is served"} {
		if !strings.Contains(words(status), want) {
			t.Errorf("a box that waits lacks %q:\n%s", want, status)
		}
	}
	if _, err := agent.Release(t.Context(), []block.Header{h}); err == nil {
		t.Error("a box that waits answers a release")
	}
	for _, line := range []string{"key list", "log show", "boot unattended", "boot renew", "zeroize", "backup make", "officer list", "enrol install", "network show"} {
		refuses(t, b, "this box waits", line, "yes")
	}
}

// TestAttended: an attended box that starts again releases nothing and lets nobody in until two of its three shares are typed, also when its disk is
// put back; an agent that starts again in the same boot does not ask again; made unattended, it opens by itself, and its shares open nothing.
func TestAttended(t *testing.T) {
	b := boxtest.Start(t)
	legalTeam(b)
	bob := b.Person("bob")
	h, _ := header(t, b.Agent(&bob), "attended")
	opens(t, b.Agent(&bob), h)
	if out := b.Do("boot show"); !strings.Contains(out, "unattended") {
		t.Errorf("boot show: %s", out)
	}
	refuses(t, b, "two at least", "boot attended 1 of 3", "yes")
	refuses(t, b, "opens by itself already", "boot unattended", "yes")
	b.Stop()
	before := filepath.Join(t.TempDir(), "before")
	copyState(t, before, b.State)
	b.TPM.Restart(t)
	b.Power()
	b.Login()

	b.Do("boot attended 2 of 2", "yes") // begun and not ended: nothing has changed
	b.Reset()
	b.Login()
	refuses(t, b, "no unlock secret is being made", "boot next")
	shares := attended(t, b, "boot attended 2 of 3", 3)
	opens(t, b.Agent(&bob), h)
	if out := b.Do("boot show"); !strings.Contains(words(out), "attended, with its tpm and 2 of 3 shares") {
		t.Errorf("boot show: %s", out)
	}
	if out := b.Do("boot share", shares[1]); !strings.Contains(out, "Right: share 2 of 3") {
		t.Errorf("a share alone: %s", out)
	}

	b.Reset()
	agent := b.Agent(&bob)
	waiting(t, b, agent, h)
	refuses(t, b, "line 2", "unlock", strings.Replace(shares[0], "\n2: ", "\n2: 7777 ", 1))
	stranger := boxtest.Start(t)
	others := attended(t, stranger, "boot attended 2 of 3", 3)
	stranger.Stop()
	refuses(t, b, "this box has unlock secret", "unlock", others[0])
	if out := b.Do("unlock", shares[0]); !strings.Contains(out, "1 more is needed") {
		t.Errorf("the first share: %s", out)
	}
	refuses(t, b, "typed before", "unlock", shares[0])
	waiting(t, b, agent, h)
	if out := b.Do("unlock", shares[2]); !strings.Contains(out, "Unlocked with shares 1, 3") {
		t.Errorf("the second share: %s", out)
	}
	opens(t, agent, h)
	b.Login()
	if out := b.Do("log show 20"); !strings.Contains(words(out), "unlocked with shares 1, 3, after 1 wrong one") {
		t.Errorf("the log does not say who opened the box:\n%s", out)
	}
	refuses(t, b, "this box is open", "unlock", shares[0])
	verifyLog(t, b)

	if err := syscall.Kill(b.Service("krad").PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	opens(t, agent, h)

	b.Stop()
	copyState(t, filepath.Join(t.TempDir(), "after"), b.State)
	putBack(t, b, before)
	if up := b.Up(); up.Mode == "enrolled" {
		b.Wait() // until krad has looked at its state
	}
	if up := b.Up(); up.Mode != "locked" {
		t.Errorf("over its disk of before: %s, %s", up.Mode, up.Reason)
	}
}

// TestUnattendedAgain: a box that is made unattended opens by itself, and so it does with its state's key renewed; a copy of the disk from between
// does not open.
func TestUnattendedAgain(t *testing.T) {
	b := boxtest.Start(t)
	legalTeam(b)
	bob := b.Person("bob")
	h, _ := header(t, b.Agent(&bob), "unattended")
	shares := attended(t, b, "boot attended 1 of 1", 1)
	b.Do("boot renew", "yes")
	b.Reset()
	if out := b.Do("unlock", shares[0]); !strings.Contains(out, "Unlocked") {
		t.Fatalf("renewed, its share does not open it: %s", out)
	}
	opens(t, b.Agent(&bob), h)
	b.Login()
	b.Do("boot unattended", "yes")
	refuses(t, b, "opens by itself", "boot share", shares[0])
	b.Reset()
	opens(t, b.Agent(&bob), h)
	b.Login()
	b.Stop()
	between := filepath.Join(t.TempDir(), "between")
	copyState(t, between, b.State)
	b.TPM.Restart(t)
	b.Power()
	b.Login()
	b.Do("boot renew", "yes")
	b.Reset()
	opens(t, b.Agent(&bob), h)
	b.Stop()
	putBack(t, b, between)
	if up := b.Up(); up.Mode == "enrolled" {
		b.Wait()
	}
	if up := b.Up(); up.Mode != "locked" || !strings.Contains(up.Reason, "does not open") {
		t.Errorf("over its disk of before the renewal: %s, %s", up.Mode, up.Reason)
	}
}
