package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age/armor"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
)

var decryptCommand = command{
	name:  "decrypt",
	args:  "[FILE]...",
	brief: "decrypt files, with your own identities or the agent's consent",
	help: `
FILE.age becomes FILE, readable by you only; without FILE, standard input is
decrypted to standard output. A file appears under its name only when all of it
was decrypted and authenticated: a failure leaves no file. On standard output
each part is authenticated before it is written, but a block that was cut short
is only found out at its end: look at the exit code.

Identities that you name with -i are tried first, and on CMS and JWE the keys of your
certificates (-cert, -certificate), without asking anybody; what
they do not open is asked of the agent, for all files at once. -ask always asks
the agent only, -ask never your identities only. A key is used only with a receipt
that proves that the agent logged its release; -receipt keeps the receipts.

CMS and JWE files are told by looking at them; FILE.cms, FILE.p7m and FILE.jwe become
FILE. Their content is authenticated at its end only: on standard output up to 64 MiB
are held back until then. CMS EnvelopedData (AES-CBC) is never authenticated: whoever
carried it could change it, or make it of a file that was, so it is refused (exit code
6) unless -unauthenticated is given. -splice adds to a CMS file a recipient, so that
stock openssl cms -decrypt opens it from then on; the content is not looked at, and
that openssl takes what is not authenticated, too.

Keys travel inside the connection, where -cert says who you are. With -certificate
they travel sealed to a certificate for encryption, and only its private key opens
them; -deliver key seals them to a key made for the request and signed by that one.
The connection then needs no -cert, if the officers of the agent allow it. What
others say about you may go along: -attributes, -token. A value for a service that the
agent asks, a voucher say, goes along with -value, for that service only.

With -platform this machine asks, whoever sits at it: it shows the agent what it runs,
on the connection; with -mutual the agent does so first.

  kra decrypt contract.pdf.age
  kra decrypt -i me.txt -ask never <plans.tar.age | tar x
  kra decrypt -certificate encryption.pem contract.pdf.age
  kra decrypt -splice me.pem -o mine.cms contract.pdf.cms

With -board and without -url, the boxes on the domain's board are asked which of them
is a key release agent now; the first that shows it is used. With -board or
-permissions, no box is used that the domain does not permit, or whose release is too
old; what was seen is remembered, and nothing older is believed later.

  kra decrypt -board https://board.example.org contract.pdf.age
`,
	run: runDecrypt,
}

type decryptArgs struct {
	out      string
	over     overwrite
	receipts string
	ids      many
	ask      client.Ask
	deliver  client.Delivery
	splice   string

	unauthenticated bool
}

func runDecrypt(t *tool, ctx context.Context, fs *flag.FlagSet, args []string) error {
	var a decryptArgs
	fs.StringVar(&a.out, "o", "", "write to `FILE`, '-' for standard output")
	force := fs.Bool("f", false, "replace an output file that exists")
	fs.StringVar(&a.receipts, "receipt", "", "append the receipts to `FILE`, for 'kra log verify'")
	fs.Var(&a.ids, setIdentity.flag, setIdentity.help+" ("+setIdentity.env+"); may be given several times")
	ask := fs.String("ask", "auto", "`WHEN` to ask the agent: auto, always or never")
	set := t.settings(fs, setURL, setRoot, setCert, setKey, setPlatform, setCertificate, setCertificateKey, setBoard, setPermissions)
	set.mutual = fs.Bool(setMutual, false, "with -platform: the agent shows itself on the connection before this machine does")
	deliver := deliveryFlags(fs)
	fs.StringVar(&a.splice, "splice", "", "of a CMS file, write it again for the holder of the certificate in `FILE` instead of decrypting it")
	fs.BoolVar(&a.unauthenticated, "unauthenticated", false, "decrypt CMS content that whoever carried it could change")
	files, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		files = []string{stdio}
	}
	if a.out != "" && len(files) > 1 {
		return usagef("-o names one file, and there are %d to decrypt", len(files))
	}
	a.over = overwriteOf(*force)
	if a.ask, err = parseAsk(*ask); err != nil {
		return err
	}
	if a.deliver, err = set.delivery(deliver); err != nil {
		return err
	}
	o, done, err := set.opener(ctx, a)
	if err != nil {
		return err
	}
	defer done()
	return t.decryptAll(ctx, o, files, a)
}

func parseAsk(s string) (client.Ask, error) {
	switch s {
	case "auto":
		return client.AskIfNeeded, nil
	case "always":
		return client.AskAlways, nil
	case "never":
		return client.AskNever, nil
	}
	return 0, usagef("-ask %q: want auto, always or never", s)
}

func (s settings) opener(ctx context.Context, a decryptArgs) (o *client.Opener, done func(), err error) {
	ids, err := s.identities(a.ids)
	if err != nil {
		return nil, nil, err
	}
	var agent *client.Agent
	done = func() {}
	named := s.get(setURL) != "" || s.get(setBoard) != ""
	if a.ask == client.AskAlways && !named {
		_, err := s.need(setURL, "-ask always needs an agent")
		return nil, nil, err
	}
	if named && a.ask != client.AskNever {
		if agent, err = s.reach(ctx, a.deliver); err != nil {
			return nil, nil, err
		}
		done = agent.Close
	}
	o, err = client.NewOpener(a.ask, agent, ids...)
	if err == nil {
		err = s.own(o, a)
	}
	return o, done, err
}

// own lets the opener use the keys of the certificates that were given.
func (s settings) own(o *client.Opener, a decryptArgs) error {
	if a.deliver.Pair != nil {
		if err := o.Own(*a.deliver.Pair); err != nil {
			return err
		}
	}
	if s.get(setCert) == "" {
		return nil
	}
	c, err := s.clientPair()
	if err != nil && *s.values[setCert.flag] == "" {
		return nil // of the environment, and perhaps not meant for this: where the agent is asked, it was an error before
	}
	if err != nil {
		return err
	}
	return o.Own(c)
}

// decryptAll takes the files a request's worth at a time, so that any number of them
// needs few requests and few open files. One bad file does not stop the others.
func (t *tool) decryptAll(ctx context.Context, o *client.Opener, files []string, a decryptArgs) error {
	receipts, err := t.receiptFile(a)
	if err != nil {
		return err
	}
	var failed []error
	for len(files) > 0 {
		n := min(len(files), kra.MaxHeaders)
		errs := t.decryptSome(ctx, o, files[:n], a, receipts)
		failed, files = append(failed, errs...), files[n:]
	}
	if receipts != nil {
		if err := receipts.Close(); err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return &failures{failed}
}

// receiptFile is written to at once and never taken back: a receipt outlives whatever
// becomes of the decryption.
func (t *tool) receiptFile(a decryptArgs) (*os.File, error) {
	if a.receipts == "" {
		return nil, nil
	}
	return os.OpenFile(a.receipts, os.O_WRONLY|os.O_APPEND|os.O_CREATE, modeBlock)
}

// An input is a block of which the header was read.
type input struct {
	to, name string
	file     *os.File
	watched  *progress
	sealed   sealed
}

func (t *tool) decryptSome(ctx context.Context, o *client.Opener, files []string, a decryptArgs, receipts *os.File) (failed []error) {
	var ins []input
	var headers []block.Envelope
	for _, path := range files {
		in, err := t.input(path, a)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		defer in.file.Close()
		ins, headers = append(ins, in), append(headers, in.sealed.envelope())
	}
	if len(ins) == 0 {
		return failed
	}
	answers, err := o.OpenEnvelopes(ctx, headers)
	if err != nil {
		return append(failed, err)
	}
	for i, in := range ins {
		err := answers[i].Err
		if err == nil {
			err = keep(receipts, answers[i].Release.Evidence)
		}
		if err == nil {
			err = t.decrypt(in, a, answers[i].Release.Key)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", in.name, err))
		}
	}
	return failed
}

// input refuses, before anybody is asked, what could not be written afterwards.
func (t *tool) input(path string, a decryptArgs) (input, error) {
	f, name, err := t.open(path)
	if err != nil {
		return input{}, err
	}
	to, err := plainName(path, a.out)
	if err == nil {
		err = writable(to, a.over)
	}
	if err != nil {
		return input{}, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	in := input{to: to, name: name, file: f, watched: t.progress(f, name, nil)}
	in.sealed, err = readSealed(in.watched)
	if err == nil {
		err = suits(in, a)
	}
	if err != nil {
		return input{}, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	return in, nil
}

// dearmor takes the text form off where there is one. Its buffer is small so that large
// reads go past it.
func dearmor(r io.Reader) io.Reader {
	b := bufio.NewReader(r)
	if start, _ := b.Peek(len(armor.Header)); bytes.Equal(start, []byte(armor.Header)) {
		return armor.NewReader(b)
	}
	return b
}

// keep writes the receipt before any plaintext: evidence of a release must not depend
// on what becomes of the file. What an own identity opened has none.
func keep(receipts *os.File, e client.Evidence) error {
	if receipts == nil || e.Empty() {
		return nil
	}
	_, err := receipts.Write(e.Encode())
	return err
}

func (t *tool) decrypt(in input, a decryptArgs, key block.FileKey) (err error) {
	if a.splice != "" {
		return t.splice(in, a, key)
	}
	plain, err := in.sealed.plaintext(key)
	if err != nil {
		return err
	}
	out, err := t.create(in.to, modePlain, a.over)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.discard()) }()
	if !in.sealed.inParts() && out.temp == "" {
		if plain, err = held(plain); err != nil {
			return err
		}
	}
	if isTerminal(out.File) {
		in.watched.end()
	}
	err = pump(out, plain)
	in.watched.end()
	if err != nil {
		return err
	}
	return out.commit()
}

// plainName is where the plaintext of the block at path goes.
func plainName(path, out string) (string, error) {
	switch {
	case out != "":
		return out, nil
	case path == stdio:
		return stdio, nil
	}
	for _, s := range suffixes {
		if strings.HasSuffix(path, s) && len(path) > len(s) {
			return strings.TrimSuffix(path, s), nil
		}
	}
	return "", hint(usagef("cannot tell the name of the plaintext, as this is not FILE%s", suffix), "give -o FILE, or -o - for standard output")
}
