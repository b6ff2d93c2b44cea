package admin

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/console"
)

// TestTeamRequests: a team sees what its officers asked for as its officers, and nothing else that any of them ever asked for; what was
// asked for as somebody else is not done.
func TestTeamRequests(t *testing.T) {
	w := teams(t)
	w.do("officer add paul", paulPass, paulPass)
	w.as("paul", paulPass, func() { w.do("officer passphrase", paulPass, paulPass+"2", paulPass+"2") })
	w.do("officer add tom team sales", dutyPass, dutyPass, "yes")
	w.as("paul", paulPass+"2", func() {
		w.do("approve 1", "yes")
		w.do("trust remove corp", "yes") // 2, as an officer of the box
	})
	w.as("rita", dutyPass, func() {
		w.do("key generate p256 for qlab")
		w.do("key mark "+short(w.keysOf("qlab")[1])+" compromised", "yes") // 3, as an officer of the team qresearch
	})
	w.do("officer duty rita team sales", "yes") // 4
	w.do("officer add petra", paulPass, paulPass, "yes")
	w.as("paul", paulPass+"2", func() {
		w.do("approve 4", "yes")
		w.do("approve 5", "yes")
	})
	w.do("officer duty paul team sales", "yes") // 6
	w.as("petra", paulPass, func() {
		w.do("officer passphrase", paulPass, paulPass+"2", paulPass+"2")
		w.do("approve 6", "yes")
	})
	for _, who := range []string{"tess", "rita"} {
		w.as(who, dutyPass, func() {
			w.has("pending", "Nothing waits")
			w.fail("pending show 2", nil, "There is no request 2")
			w.fail("pending show 3", nil, "There is no request 3")
			w.fail("approve 2", []string{"yes"}, "There is no request 2")
			w.fail("reject 3", nil, "There is no request 3")
			if n := w.Names(t.Context(), w.session, console.NamesRequest); len(n) != 0 {
				t.Errorf("%s completes requests %q", who, n)
			}
		})
	}
	w.fail("approve 3", []string{"yes"}, "rita is not who asked for it any more")
	if n := w.Names(t.Context(), w.session, console.NamesRequest); !slices.Contains(n, "2") || !slices.Contains(n, "3") {
		t.Errorf("an officer of the box completes requests %q", n)
	}
	w.as("tess", dutyPass, func() {
		w.do("access add sales")
		w.do("key generate p256 for sales")
		w.do("key generate p256 for sales")
		w.do("key mark "+short(w.keysOf("sales")[1])+" compromised", "yes") // 7
	})
	w.as("tom", dutyPass, func() {
		w.do("officer passphrase", dutyPass, paulPass, paulPass)
		w.has("pending", "7  ", "tess")
		shown := w.do("approve 7 | json", "yes")
		var object map[string]any
		if err := json.Unmarshal([]byte(shown), &object); err != nil || !strings.Contains(shown, "is compromised.") {
			t.Errorf("approve | json: %v:\n%s", err, shown)
		}
	})
}

// TestTeamOfDestroyedKeys: what a key that is no more was of is told to who has that, and to no other team.
func TestTeamOfDestroyedKeys(t *testing.T) {
	w := teams(t)
	now := time.Now()
	trusted := true
	w.at(&now, &trusted)
	w.do("key generate p256 for qlab")
	old := short(w.keysOf("qlab")[1])
	w.do("key delete "+old+" after 1d", "yes")
	now = now.Add(25 * time.Hour)
	w.tend()
	w.has("key show "+old, "destroyed", "was a key of qlab")
	w.as("rita", dutyPass, func() { w.has("key show "+old, "destroyed", "was a key of qlab") })
	w.as("tess", dutyPass, func() { w.fail("key show "+old, nil, "There is no key "+old) })
}

// TestTeamIsToldWhatItLacks: a team that was given something without what that names is told so, and who gave it too.
func TestTeamIsToldWhatItLacks(t *testing.T) {
	w := teams(t)
	shown := w.do("team give qresearch access qboard")
	if text := strings.Join(strings.Fields(shown), " "); !strings.Contains(text, `Team qresearch can change nothing until it has all that it names`) || !strings.Contains(text, `unknown rule "qrule"`) {
		t.Errorf("team give says:\n%s", shown)
	}
	w.as("rita", dutyPass, func() { w.fail("access title qlab x", nil, `unknown rule "qrule"`, "names what it has not") })
	w.do("team give qresearch rule qrule")
	w.do("team give qresearch group qboard")
	w.as("rita", dutyPass, func() { w.do("access title qlab x") })
}
