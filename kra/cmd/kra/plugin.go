package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"

	"filippo.io/age"
	"filippo.io/age/plugin"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
)

// The plugin of age is this same program under another name, which age looks for in PATH.
//
//	age1kra1…           recipient: the SubjectPublicKeyInfo of a key-release key
//	age -d -j kra       identity AGE-PLUGIN-KRA-1T0GNXC, without data: the agent and the certificate are those of the environment
const (
	pluginName = "kra"
	pluginFile = "age-plugin-" + pluginName
)

func pluginHelp() string {
	return `Usage: age-plugin-kra, by age

age runs this program to encrypt to key-release keys and to decrypt with the consent
of a key release agent, whose address, root and your certificate are those of KRA_URL,
KRA_ROOT, KRA_CERT and KRA_KEY, as with kra; name files by absolute paths, for age
runs this in a folder of its own. It is kra under another name: link one to the other.

  kra directory -plugin >recipients.txt
  age -R recipients.txt -o contract.pdf.age contract.pdf
  age -d -j kra -o contract.pdf contract.pdf.age

Where -i is wanted instead of -j kra, this line is the identity file:

  ` + plugin.EncodeIdentity(pluginName, nil) + `
`
}

// start is main: it tells by its name what this program is to be.
func start(args []string, t *tool) int {
	if filepath.Base(args[0]) == pluginFile {
		return t.plugin(args[1:])
	}
	return run(args[1:], t)
}

// plugin speaks age's plugin protocol on standard input and output.
func (t *tool) plugin(args []string) int {
	t.name = pluginFile
	p, err := plugin.New(pluginName)
	if err != nil {
		return t.exit(err)
	}
	fs := flag.NewFlagSet(pluginFile, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	p.RegisterFlags(fs)
	p.SetIO(t.stdin, t.stdout, t.stderr)
	p.HandleRecipient(pluginRecipient)
	p.HandleIdentity(t.pluginIdentity)
	if err := fs.Parse(args); err != nil || fs.NFlag() != 1 || fs.NArg() != 0 {
		fmt.Fprint(t.stderr, pluginHelp())
		return exitUsage
	}
	return p.Main()
}

func pluginRecipient(data []byte) (age.Recipient, error) {
	pub, err := block.ParsePublicKey(data)
	if err != nil {
		return nil, err
	}
	return block.NewRecipient(pub)
}

// stockString is the recipient that age 1.3 and later needs no plugin for.
func stockString(k client.Key) (string, error) { return block.AgeRecipient(k.Public()) }

// listRecipients writes a file for age -R, of the access identifiers given or of all. A key that has no such recipient is
// a comment.
func (t *tool) listRecipients(d client.Directory, words []string, of func(client.Key) (string, error)) error {
	keys, err := chosen(d, words)
	if err != nil {
		return err
	}
	for _, k := range keys {
		r, err := of(k)
		if err != nil {
			r = "# " + err.Error()
		}
		if _, err := fmt.Fprintf(t.stdout, "# %s: %s\n%s\n", k.Access(), plain(k.Title()), r); err != nil {
			return err
		}
	}
	return nil
}

func chosen(d client.Directory, words []string) (keys []client.Key, err error) {
	if len(words) == 0 {
		return d.Keys(), nil
	}
	for _, w := range words {
		id, err := kra.ParseAccessID(w)
		if err != nil {
			return nil, usagef("%s: not an access identifier (a-z, 0-9 and '-')", w)
		}
		if _, err := lookup(d, id); err != nil {
			return nil, err
		}
		k, _ := d.Lookup(id)
		keys = append(keys, k)
	}
	return keys, nil
}

// pluginString is what pluginRecipient reads.
func pluginString(k client.Key) (string, error) {
	spki, err := block.MarshalPublicKey(k.Public())
	if err != nil {
		return "", err
	}
	return plugin.EncodeRecipient(pluginName, spki), nil
}

// An asker is an age.Identity that is the consent of the agent.
type asker struct{ tool *tool }

func (t *tool) pluginIdentity(data []byte) (age.Identity, error) {
	if len(data) != 0 {
		return nil, errors.New("this identity has data, and the plugin's has none: use -j kra")
	}
	return asker{t}, nil
}

// Unwrap asks for the key of a file by its stanzas, which are all that age shows of it. age verifies the header's MAC
// under the key before it decrypts.
func (a asker) Unwrap(stanzas []*age.Stanza) (fileKey []byte, err error) {
	h, err := block.NewHeader(stanzas)
	if err != nil {
		return nil, err
	}
	if len(h.Wraps()) == 0 {
		return nil, age.ErrIncorrectIdentity
	}
	set := settings{t: a.tool}
	url, err := set.need(setURL, "an agent is to be asked")
	if err != nil {
		return nil, err
	}
	agent, err := set.agent(url)
	if err != nil {
		return nil, err
	}
	defer agent.Close()
	answers, err := agent.Release(context.Background(), []block.Header{h})
	if err != nil {
		return nil, err
	}
	if answers[0].Err != nil {
		return nil, answers[0].Err
	}
	err = answers[0].Release.Key.Use(func(k []byte) error { fileKey = append(fileKey, k...); return nil })
	return fileKey, err
}

// keyRecipient reads a recipient of the plugin, without it.
func keyRecipient(w string) (age.Recipient, error) {
	_, data, err := plugin.ParseRecipient(w)
	if err != nil {
		return nil, err
	}
	return pluginRecipient(data)
}
