package main

import (
	"context"
	"flag"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/keyrelease/krabox/kra/client"
)

var directoryCommand = command{
	name:  "directory",
	args:  "[serve -dir DIR] [publish -o DIR -sign KEY FILE...] [-age|-plugin|-pem [ACCESS]...]",
	brief: "list the access identifiers to which one can encrypt (also: kra keys)",
	help: `
Every key is verified up to the domain root before it is shown. With -json the
directory is written as published, to be kept for encrypting without the network:

  kra directory -json >directory.json
  kra encrypt -directory directory.json -to legal-team contract.pdf

-age and -plugin write a file of recipients for age -R: of the keys that age 1.3 and
later encrypts to by itself, or of all keys, for age with the plugin age-plugin-kra.

  kra directory -age legal-team >recipients.txt
  age -R recipients.txt -o contract.pdf.age contract.pdf

-pem writes the certificates of the keys, for clients that encrypt to those:

  kra directory -pem board >board.pem
  openssl cms -encrypt -binary -outform DER -aes-256-gcm -in plan.pdf -out plan.pdf.cms \
    -recip board.pem -keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256

publish makes a key repository: static files, signed, for a folder or any web server.
Each FILE holds a directory (-json), the certificates of a decryptor in PEM, or an
attribute certificate. With -repository, a repository is listed instead of the agent's.

  openssl genpkey -algorithm ed25519 -out repository.key
  openssl pkey -in repository.key -pubout -out repository.pem
  kra directory publish -o keys -sign repository.key directory.json alice.pem alice.ac
  kra encrypt -repository keys -repository-key repository.pem -to legal-team contract.pdf

serve runs the board of a domain: boxes and others post there what they could be, and
take it back; the domain's desk posts what they may be (domain publish -to). It takes
only what the domain root vouches for, and whoever reads it checks again (kra board).
Without -tls-cert it answers on this machine only.

  kra directory serve -root root.pem -dir board -listen 0.0.0.0:443 -tls-cert server.pem
`,
	run: runDirectory,
}

func runDirectory(t *tool, ctx context.Context, fs *flag.FlagSet, args []string) error {
	if len(args) > 0 && args[0] == "publish" {
		return runPublish(t, fs, args[1:])
	}
	if len(args) > 0 && args[0] == "serve" {
		return runServe(t, ctx, fs, args[1:])
	}
	asJSON := fs.Bool("json", false, "write the directory as published")
	asAge := fs.Bool("age", false, "write recipients for age 1.3 and later")
	asPlugin := fs.Bool("plugin", false, "write recipients for age with age-plugin-kra")
	asPEM := fs.Bool("pem", false, "write certificates in PEM, for openssl cms")
	set := t.settings(fs, setURL, setRoot, setDirectory, setRepository, setRepositoryKey, setBoard, setPermissions)
	files, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(files) != 0 && !*asAge && !*asPlugin && !*asPEM {
		return usagef("no file is needed, and %q was given", files[0])
	}
	r, err := set.repository()
	if err != nil {
		return err
	}
	if r != nil {
		if *asJSON || *asAge || *asPlugin || *asPEM {
			return usagef("-json, -age, -plugin and -pem are of an agent's directory, not of a repository")
		}
		return t.listRepository(ctx, r)
	}
	d, err := set.directory(ctx)
	if err != nil {
		return err
	}
	switch {
	case *asJSON:
		_, err := t.stdout.Write(d.Bytes())
		return err
	case *asAge:
		return t.listRecipients(d, files, stockString)
	case *asPlugin:
		return t.listRecipients(d, files, pluginString)
	case *asPEM:
		return t.listRecipients(d, files, pemString)
	}
	return t.listKeys(d)
}

func (t *tool) listKeys(d client.Directory) error {
	if len(d.Keys()) == 0 {
		_, err := fmt.Fprintf(t.stdout, "%s of domain %s publishes no keys yet\n", plain(d.Box()), plain(d.Domain()))
		return err
	}
	return t.keyTable(d.Keys())
}

func (t *tool) keyTable(keys []client.Key) error {
	w := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ACCESS\tTITLE\tSUITE\tKEY\tUNTIL")
	for _, k := range keys {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.Access(), plain(k.Title()), k.Suite(), k.ID().String()[:16], k.Until().UTC().Format(time.DateOnly))
	}
	return w.Flush()
}
