package boxtest_test

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
)

// text cuts the one PEM block out of what a console showed.
func text(t *testing.T, shown string) string {
	t.Helper()
	b, rest := pem.Decode([]byte(shown))
	if b == nil {
		t.Fatalf("no PEM block in %q", shown)
	}
	if more, _ := pem.Decode(rest); more != nil {
		t.Fatalf("more than one PEM block in %q", shown)
	}
	return string(pem.EncodeToMemory(b))
}

// words is text as it was before it was broken into lines, in small letters.
func words(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }

func vouched(b *boxtest.Box) { b.Do("time set "+time.Now().UTC().Format(time.RFC3339), "yes") }

func refuses(t *testing.T, b *boxtest.Box, why, line string, answers ...string) {
	t.Helper()
	if out, err := b.Try(line, answers...); !strings.Contains(words(err), why) {
		t.Errorf("%s: %q, want an error with %q\n%s", line, err, why, out)
	}
}

// opened decrypts a file with the key that a box releases.
func opened(t *testing.T, a *client.Agent, h block.Header, rest io.Reader) (string, error) {
	t.Helper()
	answers, err := a.Release(context.Background(), []block.Header{h})
	if err != nil {
		return "", err
	}
	if answers[0].Err != nil {
		return "", answers[0].Err
	}
	plain, err := client.Payload(h, rest, answers[0].Release.Key)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(plain)
	return string(b), err
}

// TestReplicatedBoxReleases: what was encrypted to one box's key is released by another box of the domain that has a copy,
// by its own rules, also after a restart; and no box of another domain gets one.
func TestReplicatedBoxReleases(t *testing.T) {
	one := boxtest.Start(t)
	legalTeam(one)
	one.Do("key generate mlkem768p256 for legal-team")
	one.Do("access add secrets")
	one.Do("key generate p256 bound for secrets")
	bob := one.Person("bob")
	h, rest := header(t, one.Agent(&bob), "privileged")

	two := one.Another("box2")
	stranger := boxtest.Start(t)
	request := text(t, two.Do("replica request"))
	refuses(t, one, "clock is not trusted", "replica admit box2", request)
	for _, b := range []*boxtest.Box{one, two, stranger} {
		vouched(b)
	}
	refuses(t, one, "refused, nothing was done", "replica admit box1", text(t, stranger.Do("replica request")))
	refuses(t, stranger, "unknown authority", "replica admit box2", request)
	refuses(t, one, "not of box3", "replica admit box3", request)
	refuses(t, one, "own request", "replica admit box1", text(t, one.Do("replica request")))
	refuses(t, one, "asks box box2", "replica admit box2", request)
	refuses(t, one, "not confirmed", "replica admit box2", request, "no")
	refuses(t, one, "was not admitted", "replica send to box2 legal-team", "yes")
	one.Do("replica admit box2", request, "yes")

	refuses(t, one, "never leaves", "replica send to box2 secrets", "yes")
	refuses(t, one, "no access identifier", "replica send to box2 nosuch", "yes")
	shown := one.Do("replica send all to box2", "yes")
	if !strings.Contains(shown, "is bound to this box") {
		t.Errorf("does not say what stays:\n%s", shown)
	}
	sent := text(t, shown)
	if log := one.Do("log show 20"); !strings.Contains(words(log), "2 keys, box box2") {
		t.Errorf("the log does not say what left:\n%s", log)
	}
	refuses(t, stranger, "unknown authority", "replica receive from box1", sent, "yes")
	refuses(t, two, "was sent by box box1", "replica receive from box2", sent, "yes")
	refuses(t, two, "refused, nothing was received", "replica receive from box1", flipped(t, sent), "yes")
	refuses(t, one, "is for box box2", "replica receive from box1", sent, "yes")
	refuses(t, two, "take them?", "replica receive from box1", sent)
	newest := text(t, two.Do("replica request"))
	refuses(t, two, "older request", "replica receive from box1", sent, "yes")
	refuses(t, one, "it is who it was when it was admitted", "replica admit box2", newest)
	one.Do("replica admit box2", newest, "yes")
	sent = text(t, one.Do("replica send all to box2", "yes"))
	two.Do("replica receive from box1", sent, "yes")
	refuses(t, two, "here already", "replica receive from box1", sent, "yes")

	two.Trust("corp")
	agent := two.Agent(&bob)
	if got, err := opened(t, agent, h, rest); err == nil {
		t.Errorf("released before there are rules: %q", got)
	}
	two.Do(`rule add counsel is id == "corp:CN=bob,O=Example"`)
	two.Do("access lists legal-team is counsel")
	if list := two.Do("key list"); strings.Count(list, "replica of box1") != 2 {
		t.Errorf("key list does not say where the keys came from:\n%s", list)
	}
	two.Reset()
	two.Login()
	vouched(two)
	if got, err := opened(t, two.Agent(&bob), h, rest); err != nil || got != "privileged" {
		t.Errorf("the copy opened %q, %v; want what was encrypted to box1's key", got, err)
	}
	if got, err := opened(t, stranger.Agent(&bob), h, rest); err == nil {
		t.Errorf("another domain's box released %q", got)
	}
	verifyLog(t, one)
	verifyLog(t, two)
	one.Do("replica dismiss box2", "yes")
	refuses(t, one, "was not admitted", "replica send to box2 legal-team", "yes")
}

// flipped is a PEM block with another byte in the middle of a wrapped key.
func flipped(t *testing.T, s string) string {
	t.Helper()
	b, _ := pem.Decode([]byte(s))
	_, after, ok := strings.Cut(string(b.Bytes), `"wrapped":"`)
	if !ok {
		t.Fatal("no wrapped key")
	}
	value, _, _ := strings.Cut(after, `"`)
	key, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		t.Fatal(err)
	}
	key[9] ^= 1
	b.Bytes = []byte(strings.Replace(string(b.Bytes), value, base64.StdEncoding.EncodeToString(key), 1))
	return string(pem.EncodeToMemory(b))
}
