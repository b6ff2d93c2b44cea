package boxtest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
)

// Of five access identifiers, each with a key of its own, a rule counts for the two that were chosen for it: it opens those and no
// other, its change is a change for those, and one that is added or taken away is the only one that changes.
func TestRuleForChosenKeys(t *testing.T) {
	b := boxtest.Start(t)
	b.Trust("corp")
	bob := b.Person("bob")
	agent := b.Agent(&bob)
	names := []string{"alpha", "bravo", "charlie", "delta", "echo"}
	var headers []block.Header
	b.Do(`rule add counsel id "corp:CN=bob,O=Example"`)
	b.Do(`rule add others id "corp:CN=carol,O=Example"`)
	for _, n := range names {
		b.Do("access add " + n)
		b.Do("key generate p256 for " + n)
		b.Do("access lists " + n + " is others")
		headers = append(headers, headerOf(t, agent, n))
	}
	released := func(when string, want ...string) {
		t.Helper()
		var got []string
		for i, h := range headers {
			answers, err := agent.Release(t.Context(), []block.Header{h})
			if err == nil {
				err = answers[0].Err
			}
			switch {
			case err == nil:
				got = append(got, names[i])
			case !errors.Is(err, client.ErrRefused):
				t.Fatal(err)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: released for %v; want %v", when, got, want)
		}
	}
	chosen := func(want string) {
		t.Helper()
		if users := lineOf(b.Do("rule show counsel"), "used by"); strings.TrimSpace(strings.TrimPrefix(users, "used by")) != want {
			t.Errorf("rule show says %q; want %q", users, want)
		}
	}
	released("chosen for none")
	b.Do("access lists bravo is counsel")
	b.Do("access lists echo is others ; counsel")
	released("chosen for two", "bravo", "echo")
	chosen("bravo, echo")
	b.Do(`rule set counsel id "corp:CN=dora,O=Example"`, "yes")
	released("the rule is another")
	b.Do(`rule set counsel id "corp:CN=bob,O=Example"`, "yes")
	b.Do("access lists charlie is counsel")
	b.Do("access lists bravo is others")
	released("chosen for two others", "charlie", "echo")
	chosen("charlie, echo")
}
