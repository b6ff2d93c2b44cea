package client_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/client/clienttest"
)

func TestReceiptMustCoverTheRelease(t *testing.T) {
	var earlier clienttest.Lie // an honest release, to be replayed
	cases := []struct {
		name string
		lie  func(*clienttest.Lie)
		why  string
	}{
		{"honest", func(l *clienttest.Lie) { earlier = *l }, ""},
		{"another key", func(l *clienttest.Lie) { l.Key[3] ^= 1 }, "header MAC"},
		{"another access identifier", func(l *clienttest.Lie) { l.Access = "board" }, "not for the release to"},
		{"an edited record", func(l *clienttest.Lie) {
			l.Receipt = bytes.Replace(l.Receipt, []byte(`"book":1`), []byte(`"book":7`), 1)
		}, "inclusion of record"},
		{"a record of something else", func(l *clienttest.Lie) {
			l.Receipt = bytes.Replace(l.Receipt, []byte(`"kind":"release"`), []byte(`"kind":"refusal"`), 1)
		}, "inclusion of record"},
		{"an earlier receipt", func(l *clienttest.Lie) {
			l.Receipt, l.Checkpoint = earlier.Receipt, earlier.Checkpoint
		}, "another header"},
		{"an unsigned checkpoint", func(l *clienttest.Lie) { l.Checkpoint = strings.Replace(l.Checkpoint, "reset 0", "reset 1", 1) }, "verify checkpoint"},
		{"another domain's receipt key", func(l *clienttest.Lie) { l.Chain = otherChain(t) }, "verify checkpoint"},
	}
	a := newAgent(t)
	alice := as(t, a, "alice")
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			raw := encrypt(t, fmt.Sprint("secret ", i), to(t, alice, []kra.AccessID{"legal-team"})...)
			a.Lie(c.lie)
			text, _, err := decrypt(t.Context(), opener(t, client.AskAlways, alice), raw)
			if c.why == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var untrusted *client.Untrusted
			if !errors.As(err, &untrusted) || !strings.Contains(err.Error(), c.why) || text != "" {
				t.Errorf("%q, %v; want it not believed, with %q", text, err, c.why)
			}
		})
	}
}

// otherChain is the receipt chain of an agent of another domain.
func otherChain(t *testing.T) (chain string) {
	b := newAgent(t)
	b.Lie(func(l *clienttest.Lie) { chain = l.Chain })
	alice := as(t, b, "alice")
	raw := encrypt(t, "x", to(t, alice, []kra.AccessID{"legal-team"})...)
	if _, _, err := decrypt(t.Context(), opener(t, client.AskAlways, alice), raw); err != nil {
		t.Fatal(err)
	}
	return chain
}

func TestManyBlocksFewRequests(t *testing.T) {
	a := newAgent(t)
	alice := as(t, a, "alice")
	key := to(t, alice, []kra.AccessID{"legal-team"})
	var headers []block.Header
	for range 2*kra.MaxHeaders + 2 {
		h, _, err := client.ReadHeader(bytes.NewReader(encrypt(t, "x", key...)))
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, h)
	}
	answers, err := alice.Release(t.Context(), headers)
	if err != nil {
		t.Fatal(err)
	}
	for i, ans := range answers {
		if ans.Err != nil {
			t.Fatalf("block %d: %v", i, ans.Err)
		}
	}
	if len(answers) != len(headers) || a.Requests() != 3 || a.Connections() != 1 {
		t.Errorf("%d blocks took %d requests over %d connections; want 3 over 1", len(answers), a.Requests(), a.Connections())
	}
}

func TestOwnIdentitiesComeFirst(t *testing.T) {
	a := newAgent(t)
	alice := as(t, a, "alice")
	mine, other := identity(t), identity(t)
	raw := encrypt(t, "both", to(t, alice, []kra.AccessID{"legal-team"}, mine.Recipient())...)

	// Mode A: nobody is asked, even where the agent is gone; of several identities the right one is used.
	for _, o := range []*client.Opener{opener(t, client.AskIfNeeded, alice, other, mine), opener(t, client.AskNever, alice, mine)} {
		if text, ans, err := decrypt(t.Context(), o, raw); err != nil || text != "both" || !ans.Release.Evidence.Empty() {
			t.Errorf("own identity: %q, %v", text, err)
		}
	}
	if a.Requests() != 0 {
		t.Errorf("%d requests with an own identity that fits; want 0", a.Requests())
	}
	// Mode A with nothing that fits, and mode B.
	for i, o := range []*client.Opener{opener(t, client.AskIfNeeded, alice, other), opener(t, client.AskAlways, alice, mine)} {
		if text, ans, err := decrypt(t.Context(), o, raw); err != nil || text != "both" || ans.Release.Evidence.Empty() {
			t.Errorf("agent: %q, %v", text, err)
		}
		if a.Requests() != i+1 {
			t.Errorf("%d requests; want %d", a.Requests(), i+1)
		}
	}
	a.Stop()
	if text, _, err := decrypt(t.Context(), opener(t, client.AskIfNeeded, alice, mine), raw); err != nil || text != "both" {
		t.Errorf("own identity with the agent stopped: %q, %v", text, err)
	}
	var away *client.Unreachable
	if _, _, err := decrypt(t.Context(), opener(t, client.AskAlways, alice), raw); !errors.As(err, &away) {
		t.Errorf("agent stopped: %v; want it unreachable", err)
	}
}

func identity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestNothingToAsk(t *testing.T) {
	a := newAgent(t)
	alice := as(t, a, "alice")
	raw := encrypt(t, "x", identity(t).Recipient())
	if _, _, err := decrypt(t.Context(), opener(t, client.AskIfNeeded, alice), raw); !errors.Is(err, client.ErrNoKey) {
		t.Errorf("a block without key-release keys: %v; want ErrNoKey", err)
	}
	raw = encrypt(t, "x", to(t, alice, []kra.AccessID{"board"})...)
	if _, _, err := decrypt(t.Context(), opener(t, client.AskNever, alice), raw); !errors.Is(err, client.ErrNotAsked) {
		t.Errorf("nobody may be asked: %v; want ErrNotAsked", err)
	}
	if a.Requests() != 0 {
		t.Errorf("%d requests; want 0", a.Requests())
	}
	for _, ask := range []client.Ask{0, 9} {
		if _, err := client.NewOpener(ask, alice); err == nil {
			t.Errorf("NewOpener(%d) is taken", ask)
		}
	}
	if _, err := client.NewOpener(client.AskAlways, nil); err == nil {
		t.Error("an opener that always asks nobody")
	}
}

func TestBusyAgentIsAskedAgain(t *testing.T) {
	a := newAgent(t)
	alice := as(t, a, "alice")
	raw := encrypt(t, "x", to(t, alice, []kra.AccessID{"legal-team"})...)
	a.Busy(3)
	if _, _, err := decrypt(t.Context(), opener(t, client.AskAlways, alice), raw); err != nil || a.Requests() != 4 {
		t.Errorf("after %d requests: %v; want a key after 4", a.Requests(), err)
	}
	a.Busy(99)
	var away *client.Unreachable
	if _, _, err := decrypt(t.Context(), opener(t, client.AskAlways, alice), raw); !errors.As(err, &away) || a.Requests() != 8 {
		t.Errorf("always busy: %v after %d requests; want to give up after 4 more", err, a.Requests())
	}
}

func TestHeaderTooLongForAgents(t *testing.T) {
	a := newAgent(t)
	alice := as(t, a, "alice")
	mine := identity(t)
	keys := to(t, alice, []kra.AccessID{"legal-team"}, mine.Recipient())
	for range 700 {
		keys = append(keys, identity(t).Recipient())
	}
	raw := encrypt(t, "crowd", keys...)
	if text, _, err := decrypt(t.Context(), opener(t, client.AskIfNeeded, alice, mine), raw); err != nil || text != "crowd" {
		t.Errorf("own identity: %q, %v", text, err)
	}
	if _, _, err := decrypt(t.Context(), opener(t, client.AskAlways, alice), raw); err == nil || !strings.Contains(err.Error(), "an agent takes 65536") {
		t.Errorf("agent: %v; want a word about the limit", err)
	}
}
