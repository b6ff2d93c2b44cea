package boxtest_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
)

// TestKeysOfALabel: a key that is bound to the label attended opens while an operator is present, and only then; another key of the
// same box always. That stays so when hsmd, the agent or the whole box starts again.
func TestKeysOfALabel(t *testing.T) {
	b := boxtest.Start(t)
	legalTeam(b)
	suites := map[string]string{"vault": "p256", "vault-rsa": "rsa3072", "vault-pq": "mlkem768p256"}
	for access, suite := range suites {
		b.Do("access add " + access)
		b.Do("access lists " + access + " is counsel")
		if made := b.Do("key generate " + suite + " for " + access + " label attended"); !strings.Contains(words(made), "label attended is not present") {
			t.Errorf("does not say that the key cannot be used:\n%s", made)
		}
	}
	bob := b.Person("bob")
	agent := b.Agent(&bob)
	free, _ := header(t, agent, "x")
	var bound []block.Header
	for access := range suites {
		bound = append(bound, headerOf(t, agent, access))
	}
	want := func(when string, present bool) {
		t.Helper()
		agent := b.Agent(&bob)
		for i, h := range bound {
			if got := asks(t, agent, h); got != present {
				t.Errorf("%s: bound key %d is released: %v, want %v", when, i, got, present)
			}
		}
		if !asks(t, agent, free) {
			t.Errorf("%s: the other key is refused", when)
		}
	}
	soon := func(when string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
			if asks(t, b.Agent(&bob), bound[0]) {
				return
			}
		}
		t.Fatalf("%s: the bound key is not released again", when)
	}
	want("nobody is present", false)
	if log := b.Do("log show 20"); !strings.Contains(words(log), "label attended is not present") {
		t.Errorf("the log does not say why:\n%s", log)
	}
	refuses(t, b, "not the box's presence passphrase", "operator present attended", "not the passphrase")
	want("somebody else is present", false)

	b.Do("operator present attended", b.Presence())
	want("an operator is present", true)
	if list := b.Do("key list"); !strings.Contains(list, "label attended") {
		t.Errorf("key list does not say what keys are bound to:\n%s", list)
	}
	vouched(b)
	two := b.Another("box2")
	vouched(two)
	b.Do("replica admit box2", text(t, two.Do("replica request")), "yes")
	want("after another box was admitted", true)
	refuses(t, b, "bound to label attended of this box", "replica send to box2 vault", "yes")
	two.Stop()

	restarted(t, b, "hsmd")
	soon("hsmd started again")
	want("hsmd started again", true)
	restarted(t, b, "krad")
	b.Login()
	want("the agent started again", true)

	b.Do("operator leave attended")
	want("the operator has left", false)
	restarted(t, b, "hsmd")
	becomes(t, "hsmd started again", b.Agent(&bob), free, true)
	want("hsmd started again and nobody is present", false)
	b.Do("operator present attended", b.Presence())
	want("the operator is back", true)

	b.Reset()
	b.Login()
	want("after a restart of the box", false)
	b.Do("operator present attended", b.Presence())
	want("an operator is present after a restart", true)
	verifyLog(t, b)
}

// restarted kills a daemon and waits for the next.
func restarted(t *testing.T, b *boxtest.Box, name string) {
	t.Helper()
	old := b.Service(name).PID
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s := b.Service(name); s.PID != old && s.State == "ready" {
			return
		}
	}
	t.Fatalf("%s does not come back", name)
}

// headerOf is the header of a file for an access identifier.
func headerOf(t testing.TB, a *client.Agent, access string) block.Header {
	t.Helper()
	d, err := a.Directory(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	k, ok := d.Lookup(kra.AccessID(access))
	if !ok {
		t.Fatalf("no key for %s", access)
	}
	to, err := k.Recipient()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w, err := client.Encrypt(&file, to)
	if err == nil {
		_, err = io.WriteString(w, "x")
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := client.ReadHeader(&file)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
