package client_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
)

// An encryptor needs the domain root, the agent's address, and nothing of its own.
func ExampleEncrypt() {
	encrypt := func(ctx context.Context, root []byte, dst io.Writer, src io.Reader) error {
		trust, err := client.ParseTrust(root)
		if err != nil {
			return err
		}
		agent, err := client.NewAgent(client.Config{URL: "https://kra.example:8443", Trust: trust})
		if err != nil {
			return err
		}
		defer agent.Close()
		directory, err := agent.Directory(ctx)
		if err != nil {
			return err
		}
		key, ok := directory.Lookup("legal-team")
		if !ok {
			return fmt.Errorf("%s has no legal-team", directory.Domain())
		}
		to, err := key.Recipient()
		if err != nil {
			return err
		}
		w, err := client.Encrypt(dst, to)
		if err != nil {
			return err
		}
		if _, err := io.Copy(w, src); err != nil {
			return err
		}
		return w.Close()
	}
	_ = encrypt
}

// A decryptor says who it is by its certificate. The key comes with a receipt that was
// verified before; the plaintext is authenticated part by part.
func ExampleOpener() {
	decrypt := func(ctx context.Context, trust client.Trust, me tls.Certificate, src io.Reader) error {
		agent, err := client.NewAgent(client.Config{URL: "https://kra.example:8443", Trust: trust, Certificate: &me})
		if err != nil {
			return err
		}
		defer agent.Close()
		opener, err := client.NewOpener(client.AskIfNeeded, agent) // and age identities of its own
		if err != nil {
			return err
		}
		header, ciphertext, err := client.ReadHeader(src)
		if err != nil {
			return err
		}
		answers, err := opener.Open(ctx, []block.Header{header})
		if err != nil {
			return err
		}
		if err := answers[0].Err; err != nil {
			return err // client.ErrRefused, for one
		}
		plain, err := client.Payload(header, ciphertext, answers[0].Release.Key)
		if err != nil {
			return err
		}
		_, err = io.Copy(os.Stdout, plain)
		return err
	}
	_ = decrypt
}
