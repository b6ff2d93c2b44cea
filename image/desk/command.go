package desk

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/keyrelease/krabox/image"
)

const usage = `usage:
  domain init DIR [-name NAME]
      make a throwaway domain: keys in DIR, public part in DIR/domain.json and DIR/root.pem
  domain enrol -dir DIR -manifest kra.json -request FILE -officer NAME -passphrase-file FILE
               [-name box1] [-dns NAME,…] [-ip ADDRESS,…] [-first-seen FINGERPRINT] [-firmware-as-seen]
               [-as-observed] [-replace] [-dry-run]                                  > bundle.pem
      take a box into service: check its request, certify it, approve the release on it, name its first
      officer; the answer opens only in the TPM that asked. -first-seen: no maker vouches for the TPM,
      but you have read this fingerprint at the box's console
  domain approve -dir DIR -manifest kra.json [-like FILE,…] [-firmware-as-seen] [-as-observed] [-dry-run] > bundle.pem
      approve a release for all boxes; for machines like those of the requests or bundles named,
      else for those of all enrolled boxes
  domain vendor add -dir DIR -name NAME -certificates FILE
  domain vendor list -dir DIR
      the makers of TPMs whose endorsement certificates the domain believes
  domain firmware approve -dir DIR -request FILE [-note TEXT]
  domain firmware list -dir DIR
      the firmware that machines may have, by model: what the request shows is put on the list
  domain journal -dir DIR
      what this domain did, verified: each act is signed and names the one before
  domain install -disk kra.img -uki kra.efi
      put a release on a stopped disk
  domain escrow -dir DIR -request FILE
      show a box's owner secrets, which only the domain can
`

// Command is the command line of cmd/domain. What it makes goes to out, what people should read to talk.
func Command(args []string, out, talk io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(talk, usage)
		return errors.New("say what to do")
	}
	verbs := map[string]func([]string, io.Writer, io.Writer) error{"init": runInit, "enrol": runEnrol, "approve": runApprove, "install": runInstall,
		"escrow": runEscrow, "vendor": runVendor, "firmware": runFirmware, "journal": runJournal}
	run, ok := verbs[args[0]]
	if !ok {
		fmt.Fprint(talk, usage)
		if args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
			return nil
		}
		return fmt.Errorf("unknown verb %q", args[0])
	}
	if err := run(args[1:], out, talk); !errors.Is(err, flag.ErrHelp) {
		return err
	}
	return nil
}

func flags(verb string, talk io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet(verb, flag.ContinueOnError)
	f.SetOutput(talk)
	return f
}

// parse also takes positional words that stand before flags, at most limit of them.
func parse(f *flag.FlagSet, args []string, limit int) ([]string, error) {
	var words []string
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		if f.NArg() == 0 {
			return words, nil
		}
		words, args = append(words, f.Arg(0)), f.Args()[1:]
		if len(words) > limit {
			return nil, fmt.Errorf("unexpected %q", words[limit])
		}
	}
}

// need refuses a command line without one of the flags that the verb cannot do without.
func need(f *flag.FlagSet, names ...string) error {
	for _, name := range names {
		if f.Lookup(name).Value.String() == "" {
			return fmt.Errorf("%s: -%s is missing; 'domain help' shows how", f.Name(), name)
		}
	}
	return nil
}

func runInit(args []string, out, talk io.Writer) error {
	f := flags("init", talk)
	name := f.String("name", "throwaway", "name of the domain, such as example.org")
	words, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	if len(words) != 1 {
		return errors.New("init: say in which folder")
	}
	if err := Init(words[0], *name); err != nil {
		return err
	}
	d, err := Open(words[0])
	if err != nil {
		return err
	}
	fmt.Fprintf(talk, "domain %q in %s: %s\nWARNING: %s\n", *name, words[0], d.domain.Hash(), Warning)
	return nil
}

func runInstall(args []string, out, talk io.Writer) error {
	f := flags("install", talk)
	disk := f.String("disk", "", "image of a stopped disk")
	uki := f.String("uki", "", "release, as built")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	if err := need(f, "disk", "uki"); err != nil {
		return err
	}
	b, err := os.ReadFile(*uki)
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	return image.InstallUKI(*disk, b)
}

func runEscrow(args []string, out, talk io.Writer) error {
	f := flags("escrow", talk)
	dir := f.String("dir", "", "folder of the domain")
	request := f.String("request", "", "enrolment request of the box")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	if err := need(f, "dir", "request"); err != nil {
		return err
	}
	d, err := Open(*dir)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(*request)
	if err != nil {
		return fmt.Errorf("escrow: %w", err)
	}
	s, err := d.Escrow(text)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "ownerAuth (hex)      %s\nlockoutAuth (hex)    %s\npresence passphrase  %s\n", s.Owner, s.Lockout, s.Presence)
	return err
}
