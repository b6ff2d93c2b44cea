package qemu_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
)

// agent is the box across the network, as who sees it; nobody when nil.
func (g *guest) agent(who *tls.Certificate) (*client.Agent, error) {
	return client.NewAgent(client.Config{URL: "https://" + g.machine.Addr(releasePort), Trust: g.lab.trust, Certificate: who})
}

// serves says whether anybody on the port speaks TLS, whoever it claims to be.
// QEMU takes every connection, also for a guest that has no address.
func (g *guest) serves() bool {
	ctx, cancel := context.WithTimeout(context.Background(), g.lab.host.Scale(2*time.Second))
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := dialer.DialContext(ctx, "tcp", g.machine.Addr(releasePort))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// encrypt makes a message for legal-team with the key in the box's directory.
func (g *guest) encrypt(text string) ([]byte, error) {
	a, err := g.agent(nil)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	ctx, cancel := context.WithTimeout(context.Background(), g.lab.host.Scale(anyMoment))
	defer cancel()
	d, err := patiently(ctx, func() (client.Directory, error) { return a.Directory(ctx) })
	if err != nil {
		return nil, err
	}
	key, ok := d.Lookup("legal-team")
	if !ok {
		return nil, errors.New("the directory has no key for legal-team")
	}
	to, err := key.Recipient()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := client.Encrypt(&out, to)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// patiently repeats a question until the box can be reached: its port opens a moment after its console.
func patiently[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	for {
		answer, err := ask()
		var away *client.Unreachable
		if !errors.As(err, &away) || ctx.Err() != nil {
			return answer, err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// decrypt has the box release the key of the shared message to alice, and checks the receipt and the plain text.
func (g *guest) decrypt(s *inService) error {
	a, err := g.agent(s.alice)
	if err != nil {
		return err
	}
	defer a.Close()
	header, rest, err := client.ReadHeader(bytes.NewReader(s.message))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), g.lab.host.Scale(anyMoment))
	defer cancel()
	answers, err := patiently(ctx, func() ([]client.Answer, error) { return a.Release(ctx, []block.Header{header}) })
	if err != nil {
		return err
	}
	if answers[0].Err != nil {
		return answers[0].Err
	}
	if _, err := answers[0].Release.Evidence.Verify(g.lab.trust); err != nil {
		return err
	}
	plain, err := client.Payload(header, rest, answers[0].Release.Key)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(plain)
	if err == nil && string(text) != "the message" {
		err = fmt.Errorf("decrypted to %q", text)
	}
	return err
}
