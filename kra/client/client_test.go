package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/client/clienttest"
)

func trust(t testing.TB, a *clienttest.Agent) client.Trust {
	t.Helper()
	tr, err := client.ParseTrust(a.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// as returns a connection to the agent for the person of this name, for nobody where that is empty.
func as(t testing.TB, a *clienttest.Agent, name string) *client.Agent {
	t.Helper()
	conf := client.Config{URL: a.URL, Trust: trust(t, a)}
	if name != "" {
		cert, err := tls.X509KeyPair(a.Person(t, name))
		if err != nil {
			t.Fatal(err)
		}
		conf.Certificate = &cert
	}
	c, err := client.NewAgent(conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newAgent(t testing.TB) *clienttest.Agent {
	t.Helper()
	a := clienttest.New(t)
	a.AddKey(t, "legal-team", "Legal team", block.SuiteP256)
	a.AddKey(t, "board", "Board", block.SuiteRSAOAEP)
	a.Allow(func(_ kra.AccessID, name string) bool { return name == "alice" })
	return a
}

// to looks up access identifiers and adds ordinary recipients.
func to(t testing.TB, c *client.Agent, access []kra.AccessID, more ...age.Recipient) []age.Recipient {
	t.Helper()
	d, err := c.Directory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range access {
		k, ok := d.Lookup(id)
		if !ok {
			t.Fatalf("directory has no %s", id)
		}
		r, err := k.Recipient()
		if err != nil {
			t.Fatal(err)
		}
		more = append(more, r)
	}
	return more
}

func encrypt(t testing.TB, text string, to ...age.Recipient) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := client.Encrypt(&b, to...)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func opener(t testing.TB, ask client.Ask, a *client.Agent, own ...age.Identity) *client.Opener {
	t.Helper()
	o, err := client.NewOpener(ask, a, own...)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// decrypt opens one block and returns its plaintext.
func decrypt(ctx context.Context, o *client.Opener, raw []byte) (string, client.Answer, error) {
	h, rest, err := client.ReadHeader(bytes.NewReader(raw))
	if err != nil {
		return "", client.Answer{}, err
	}
	answers, err := o.Open(ctx, []block.Header{h})
	if err != nil {
		return "", client.Answer{}, err
	}
	if answers[0].Err != nil {
		return "", answers[0], answers[0].Err
	}
	r, err := client.Payload(h, rest, answers[0].Release.Key)
	if err != nil {
		return "", answers[0], err
	}
	text, err := io.ReadAll(r)
	return string(text), answers[0], err
}

func TestReleaseBothSuites(t *testing.T) {
	a := newAgent(t)
	alice := as(t, a, "alice")
	for _, access := range []kra.AccessID{"legal-team", "board"} {
		raw := encrypt(t, "to "+string(access), to(t, alice, []kra.AccessID{access})...)
		text, answer, err := decrypt(t.Context(), opener(t, client.AskIfNeeded, alice), raw)
		if err != nil || text != "to "+string(access) {
			t.Fatalf("%s: %q, %v", access, text, err)
		}
		v, err := answer.Release.Evidence.Verify(trust(t, a))
		if err != nil || v.Name().Box != clienttest.Box || answer.Release.Access != access {
			t.Errorf("%s: evidence of %v for %s: %v", access, v.Name(), answer.Release.Access, err)
		}
	}
}

func TestRefusedLearnsNothing(t *testing.T) {
	a := newAgent(t)
	raw := encrypt(t, "secret", to(t, as(t, a, ""), []kra.AccessID{"legal-team"})...)
	text, _, err := decrypt(t.Context(), opener(t, client.AskIfNeeded, as(t, a, "mallory")), raw)
	if !errors.Is(err, client.ErrRefused) || text != "" {
		t.Errorf("mallory got %q, %v; want ErrRefused", text, err)
	}
	_, _, err = decrypt(t.Context(), opener(t, client.AskIfNeeded, as(t, a, "")), raw)
	var rejected *client.Rejected
	if !errors.As(err, &rejected) || rejected.Code != kra.CodeCertificate {
		t.Errorf("nobody got %v; want a request for a certificate", err)
	}
	if !strings.Contains(err.Error(), "certificate") {
		t.Errorf("%v does not say what is missing", err)
	}
}
