package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"filippo.io/age/tag"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/client"
)

// suffix is what encrypt adds to a file's name and decrypt takes off.
const suffix = ".age"

// suffixes are those that decrypt takes off.
var suffixes = []string{suffix, suffixCMS, ".p7m", suffixJWE}

var encryptCommand = command{
	name:  "encrypt",
	args:  "-to WHO [-to WHO]... [FILE]",
	brief: "encrypt a file to access identifiers and age recipients",
	help: `
WHO is an access identifier of the agent's directory, such as legal-team, or an
age recipient (age1...). Any one of them can decrypt. Who belongs to an access
identifier is decided by the agent when somebody asks, not now. With -repository, it
is looked up in a key repository instead, a folder or a web server, and the agent is
not asked.

With -format cms, FILE becomes FILE.cms, CMS AuthEnvelopedData as openssl cms -decrypt
and others read it; with -format jwe, FILE.jwe, a JSON Web Encryption of at most 1 MiB of
content. WHO may then be the PEM file of a certificate, too, and is no age recipient.
Otherwise FILE becomes FILE.age, an age file that the recipients can open with stock age too;
without FILE, standard input is encrypted to standard output. It holds no names and
no rules.

  kra encrypt -to legal-team contract.pdf
  tar c plans | kra encrypt -to legal-team -to age1... >plans.tar.age
`,
	run: runEncrypt,
}

type encryptArgs struct {
	to    many
	out   string
	over  overwrite
	armor bool
}

func runEncrypt(t *tool, ctx context.Context, fs *flag.FlagSet, args []string) error {
	var a encryptArgs
	fs.Var(&a.to, "to", "`WHO` can decrypt; may be given several times")
	fs.StringVar(&a.out, "o", "", "write to `FILE`, '-' for standard output")
	force := fs.Bool("f", false, "replace an output file that exists")
	fs.BoolVar(&a.armor, "a", false, "write text (PEM) instead of binary")
	form := fs.String("format", "age", "`FORMAT` of the file: age, cms or jwe")
	set := t.settings(fs, setURL, setRoot, setDirectory, setRepository, setRepositoryKey, setBoard, setPermissions)
	files, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(files) > 1 {
		return usagef("one file at a time, not %d", len(files))
	}
	a.over = overwriteOf(*force)
	in := stdio
	if len(files) == 1 {
		in = files[0]
	}
	w, err := writerOf(ctx, set, *form, a)
	if err != nil {
		return err
	}
	return t.encrypt(in, a, w)
}

func overwriteOf(force bool) overwrite {
	if force {
		return replaceOld
	}
	return keepOld
}

// recipients turns words into keys. Directory or repository is asked only if a word needs it.
func recipients(ctx context.Context, set settings, words []string) ([]age.Recipient, error) {
	var out []age.Recipient
	f := &finder{set: set}
	for _, w := range strings.FieldsFunc(strings.Join(words, ","), func(r rune) bool { return r == ',' }) {
		if r, ok, err := ageRecipient(w); ok {
			if err != nil {
				return nil, err
			}
			out = append(out, r)
			continue
		}
		id, err := kra.ParseAccessID(w)
		if err != nil {
			return nil, usagef("-to %s: neither an age recipient nor an access identifier (a-z, 0-9 and '-')", w)
		}
		found, err := f.find(ctx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	if len(out) == 0 {
		return nil, usagef("nobody to encrypt to: give -to, such as -to legal-team")
	}
	return out, nil
}

// shown is how much of a damaged age recipient an error repeats: whole ones have up to
// 2,000 characters.
const shown = 20

// ageRecipient takes every word that begins with "age1" for an age recipient: one that
// was cut short is never looked for in a directory.
func ageRecipient(w string) (r age.Recipient, ok bool, err error) {
	if !strings.HasPrefix(strings.ToLower(w), "age1") {
		return nil, false, nil
	}
	switch {
	case strings.HasPrefix(w, "age1pq1"):
		r, err = age.ParseHybridRecipient(w)
	case strings.HasPrefix(w, "age1tag1"), strings.HasPrefix(w, "age1tagpq1"):
		r, err = tag.ParseRecipient(w)
	case strings.HasPrefix(w, "age1"+pluginName+"1"):
		r, err = keyRecipient(w)
	default:
		r, err = age.ParseX25519Recipient(w)
	}
	if err != nil {
		if len(w) > shown {
			w = w[:shown] + "..."
		}
		return nil, true, usagef("-to %s: not an age recipient: it was cut short or mistyped, or needs a plugin", w)
	}
	return r, true, nil
}

func lookup(d client.Directory, id kra.AccessID) (client.Key, error) {
	if k, ok := d.Lookup(id); ok {
		return k, nil
	}
	err := usagef("the directory of %s has no access identifier %s", d.Domain(), id)
	if near := nearest(d, string(id)); near != "" {
		return client.Key{}, hint(err, "did you mean %s?", near)
	}
	return client.Key{}, hint(err, "'kra directory' lists what there is")
}

func (t *tool) encrypt(in string, a encryptArgs, w writer) (err error) {
	src, name, err := t.open(in)
	if err != nil {
		return err
	}
	defer src.Close()
	path := a.out
	if path == "" {
		if path = stdio; in != stdio {
			path = in + w.suffix
		}
	}
	if path == stdio && !w.text && isTerminal(t.stdout) {
		return usagef("binary output does not belong on a terminal: give -o FILE, or -a for text")
	}
	out, err := t.create(path, modeBlock, a.over)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.discard()) }()
	watched := t.progress(src, name, out.File)
	err = w.write(out, watched)
	watched.end()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return out.commit()
}

func seal(out io.Writer, src io.Reader, text bool, to []age.Recipient) error {
	closers := []io.Closer{}
	if text {
		a := armor.NewWriter(out)
		closers, out = append(closers, a), a
	}
	w, err := client.Encrypt(out, to...)
	if err != nil {
		return err
	}
	if err := pump(w, src); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	for _, c := range closers {
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}
