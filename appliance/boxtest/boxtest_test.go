package boxtest_test

import (
	"context"
	"io"
	"testing"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
)

func TestBoxReleases(t *testing.T) {
	b := boxtest.Start(t)
	legalTeam(b)
	t.Log(b.Do("access show legal-team"))
	bob := b.Person("bob")
	agent := b.Agent(&bob)
	ctx := context.Background()
	h, rest := header(t, agent, "privileged")
	answers, err := agent.Release(ctx, []block.Header{h})
	if err != nil || answers[0].Err != nil {
		t.Fatal(err, answers)
	}
	plain, err := client.Payload(h, rest, answers[0].Release.Key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(plain)
	if err != nil || string(got) != "privileged" {
		t.Fatalf("decrypted %q, %v; want %q", got, err, "privileged")
	}
}

// Each checkpoint says which state and which boot it belongs to.
func TestCheckpointsTellTheBoot(t *testing.T) {
	b := boxtest.Start(t)
	first := verifyLog(t, b).Head
	b.Do("access add legal-team")
	b.Reset()
	b.Login()
	second := verifyLog(t, b).Head
	if second.Reset <= first.Reset {
		t.Errorf("reset %d after a restart, %d before", second.Reset, first.Reset)
	}
	if second.Generation <= first.Generation {
		t.Errorf("generation %d after a change, %d before", second.Generation, first.Generation)
	}
}
