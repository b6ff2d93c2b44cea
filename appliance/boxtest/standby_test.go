package boxtest_test

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/label"
)

// TestServiceOnChallenge: a box whose key release is only potentially there releases nothing, and says so to its log alone; a challenge
// starts it, for whoever asks then; after a restart it is to be started again.
func TestServiceOnChallenge(t *testing.T) {
	b := boxtest.Start(t)
	legalTeam(b)
	bob := b.Person("bob")
	agent := b.Agent(&bob)
	h, _ := header(t, agent, "x")
	if !asks(t, agent, h) {
		t.Fatal("refused while the service is always there")
	}
	refuses(t, b, "not confirmed", "service on-challenge", "no")
	refuses(t, b, "never be there", "service on-challenge idle 0", "yes")
	b.Do("service on-challenge idle 30", "yes")
	b.Reset()
	b.Login()
	agent = b.Agent(&bob)

	standby := func(when string) {
		t.Helper()
		if asks(t, agent, h) {
			t.Errorf("%s: released", when)
		}
		var no *client.Rejected
		if _, err := agent.Verify(t.Context()); !errors.As(err, &no) || no.Code != kra.CodeLabel {
			t.Errorf("%s: it shows the label of a service that is not there: %v", when, err)
		}
		if shown := b.Do("service show"); !strings.Contains(words(shown), "not instantiated") {
			t.Errorf("%s: %s", when, shown)
		}
	}
	standby("on standby")
	c := newChallenger(t, b)
	status, answer, _ := c.ask(newNonce(), "")
	if all, err := label.ParseConfirmations(answer); status != http.StatusOK || err != nil || bytes.Contains(answer, []byte(`"label":"key-release"`)) {
		t.Errorf("all that it is: %d, %d confirmations, %v", status, len(all.Confirmations), err)
	}
	standby("after challenges that start nothing")
	if log := b.Do("log show 20"); !strings.Contains(words(log), "not instantiated") {
		t.Errorf("the log does not say why:\n%s", log)
	}

	id, err := b.Agent(nil).Instantiate(t.Context())
	if err != nil || id.Label != string(label.KeyRelease) {
		t.Fatalf("Instantiate() = %+v, %v", id, err)
	}
	if !asks(t, agent, h) {
		t.Error("refused although a challenge has started the service")
	}
	if _, err := agent.Verify(t.Context()); err != nil {
		t.Errorf("started: %v", err)
	}
	if shown := b.Do("status"); !strings.Contains(words(shown), "instantiated; it ends after 30 minutes") {
		t.Errorf("status does not say that it is there:\n%s", shown)
	}
	b.Reset()
	b.Login()
	agent = b.Agent(&bob)
	standby("after a restart")
	b.Do("service always")
	if !asks(t, agent, h) {
		t.Error("refused although the service is always there again")
	}
	verifyLog(t, b)
}
