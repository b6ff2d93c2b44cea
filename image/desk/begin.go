package desk

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"

	"filippo.io/age"
	"github.com/keyrelease/krabox/appliance/account"
	"github.com/keyrelease/krabox/kra/label"
)

func runInit(args []string, out, talk io.Writer) error {
	f := flags("init", talk)
	name := f.String("name", "throwaway", "name of the domain, such as example.org")
	plain := f.Bool("plain", false, "keys are plain files: for evaluation")
	to := f.String("recipients", "", "age recipients to whom key files are encrypted")
	quorum := f.String("recovery", "", "K/N: split the recovery key in N shares, of which it takes K")
	dir := f.String("shares", "", "folder of the shares")
	module := f.String("module", "", "PKCS#11 library of the token")
	token := f.String("token", "", "label of the token")
	words, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	if len(words) != 1 {
		return errors.New("init: say in which folder")
	}
	if *token == "" != (*module == "") {
		return errors.New("init: a token takes both, -module FILE and -token LABEL")
	}
	if err := errors.Join(label.CheckName(*name), vacant(words[0])); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	c := Custody{}
	if *token != "" {
		c.Token = &HSM{Module: *module, Label: *token}
	}
	if c.Recovery, err = quorumOf(*quorum, *dir); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if err := c.Recovery.check(*name); err != nil {
		return fmt.Errorf("init: -recovery: %w", err)
	}
	if c.Hands, err = handsOf(f); err != nil {
		return err
	}
	if err := c.choose(f, *plain, *to); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if err := Make(words[0], *name, c); err != nil {
		return err
	}
	if err := MakeSecureBoot(words[0], *name, c.To...); err != nil {
		return err
	}
	return welcome(talk, words[0], c)
}

// choose decides the form of key files: what was said, else a passphrase.
func (c *Custody) choose(f *flag.FlagSet, plain bool, recipients string) error {
	passphrase := given(f, flagPassphrase) != ""
	switch {
	case plain && (recipients != "" || passphrase), recipients != "" && passphrase:
		return errors.New("say one of -plain, -recipients and -key-passphrase-file")
	case plain:
		c.Files = PlainFiles
		return nil
	}
	c.Files = SealedFiles
	if recipients != "" {
		return c.sealTo(recipients)
	}
	text, err := newPassphrase(f)
	if err != nil {
		return err
	}
	defer clear(text)
	if err := account.Acceptable(text); err != nil {
		return err
	}
	r, err := age.NewScryptRecipient(string(text))
	c.To = []age.Recipient{r}
	return err
}

func newPassphrase(f *flag.FlagSet) ([]byte, error) {
	s := seatOf(f.Output())
	if path := given(f, flagPassphrase); path != "" {
		return s.secret(path, "passphrase")("")
	}
	if !s.manned() {
		return nil, errors.New("there is no terminal to ask for the passphrase of the domain's keys: say -key-passphrase-file FILE, -recipients FILE, or -plain for evaluation")
	}
	return s.fresh()
}

func (c *Custody) sealTo(path string) error {
	text, err := readFile(path, maxKeyFile)
	if err != nil {
		return err
	}
	if c.To, err = age.ParseRecipients(bytes.NewReader(text)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	c.Keys = string(text)
	return nil
}

// quorumOf reads "2/3"; nothing is the zero one.
func quorumOf(text, dir string) (Quorum, error) {
	if text == "" && dir == "" {
		return Quorum{}, nil
	}
	k, n, ok := strings.Cut(text, "/")
	need, err1 := strconv.Atoi(k)
	of, err2 := strconv.Atoi(n)
	if !ok || err1 != nil || err2 != nil || of < 1 {
		return Quorum{}, errors.New("-recovery: want how many shares it takes of how many, such as 2/3")
	}
	if dir == "" {
		return Quorum{}, errors.New("-shares is missing: the folder that the shares are written to")
	}
	return Quorum{need, of, dir}, nil
}

// welcome says what there is now, and what to do with it.
func welcome(talk io.Writer, dir string, c Custody) error {
	d, err := Open(dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(talk, "domain %q in %s: %s\n", d.domain.Name, dir, d.domain.Hash())
	if c.Token != nil {
		fmt.Fprintf(talk, "root and label key are in token %s, and nowhere else\n", c.Token.Label)
	}
	if c.Recovery.Of > 0 {
		fmt.Fprintf(talk, "the recovery key is in %d shares in %s: give each to another person, and leave none there; any %d give the key\n",
			c.Recovery.Of, c.Recovery.Dir, c.Recovery.Need)
	}
	switch {
	case c.Files == PlainFiles:
		warn(talk, Warning)
	case c.Keys != "":
		fmt.Fprintln(talk, "key files are encrypted to the recipients: each of them alone opens them")
	default:
		fmt.Fprintln(talk, "key files are encrypted to the passphrase: without it they are lost")
	}
	fmt.Fprintln(talk, "keep a copy of the folder elsewhere, the journal above all")
	return nil
}
