package desk

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/keyrelease/krabox/image"
	"github.com/keyrelease/krabox/kra/label"
)

const usage = `usage:
  domain init DIR [-name NAME]
      make a throwaway domain: keys in DIR, public part in DIR/domain.json and DIR/root.pem
  domain approve -dir DIR -manifest kra.json -request FILE -officer NAME -passphrase-file FILE
                 [-name box1] [-dns NAME,…] [-ip ADDRESS,…] [-as-observed]           > bundle.pem
      enrol a box: check its request, certify it, approve the release on it, name its first officer
  domain approve -dir DIR -manifest kra.json [-like FILE,…] [-as-observed]           > bundle.pem
      approve a release for all boxes; for machines like those of the requests or bundles named,
      else for those of all enrolled boxes
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
	verbs := map[string]func([]string, io.Writer, io.Writer) error{"init": runInit, "approve": runApprove, "install": runInstall, "escrow": runEscrow}
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

// order is an approve command, parsed.
type order struct {
	dir, manifest, request, like, officer, passphrase string
	name, dns, ip                                     string
	observed                                          bool
}

func runApprove(args []string, out, talk io.Writer) error {
	var o order
	f := flags("approve", talk)
	f.StringVar(&o.dir, "dir", "", "folder of the domain")
	f.StringVar(&o.manifest, "manifest", "", "manifest of the release (dist/kra.json)")
	f.StringVar(&o.request, "request", "", "enrolment request of a box, as its console printed it")
	f.StringVar(&o.like, "like", "", "requests or bundles of machines to approve for, separated by commas")
	f.StringVar(&o.officer, "officer", "", "name of the first officer")
	f.StringVar(&o.passphrase, "passphrase-file", "", "file of the officer's passphrase")
	f.StringVar(&o.name, "name", "box1", "name of the box")
	f.StringVar(&o.dns, "dns", "", "DNS names of the box, separated by commas")
	f.StringVar(&o.ip, "ip", "", "addresses of the box, separated by commas")
	f.BoolVar(&o.observed, "as-observed", false, "approve whatever registers the box reports: for a server without measured boot")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	if err := need(f, "dir", "manifest"); err != nil {
		return err
	}
	d, err := Open(o.dir)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(o.manifest)
	if err != nil {
		return fmt.Errorf("approve: %w", err)
	}
	r := Release{Trust: AsPredicted}
	if r.Manifest, err = ParseManifest(b); err != nil {
		return err
	}
	if o.observed {
		r.Trust = AsObserved
		fmt.Fprintln(talk, "WARNING:", ObservedWarning)
	}
	bundle, err := o.carryOut(d, r)
	if err != nil {
		return err
	}
	_, err = out.Write(bundle)
	return err
}

func (o order) carryOut(d *Desk, r Release) ([]byte, error) {
	if o.request == "" {
		like, err := readAll(words(o.like))
		if err != nil {
			return nil, err
		}
		return d.ApproveFleet(r, like...)
	}
	request, err := os.ReadFile(o.request)
	if err != nil {
		return nil, fmt.Errorf("approve: %w", err)
	}
	box, err := o.box()
	if err != nil {
		return nil, err
	}
	passphrase, err := os.ReadFile(o.passphrase)
	if err != nil {
		return nil, fmt.Errorf("approve: an officer's passphrase is needed: %w", err)
	}
	defer clear(passphrase)
	officer, err := NewOfficer(o.officer, bytes.TrimRight(passphrase, "\r\n"))
	if err != nil {
		return nil, err
	}
	return d.Enrol(request, r, box, officer)
}

func (o order) box() (label.Box, error) {
	b := label.Box{Name: o.name, DNS: append([]string{}, words(o.dns)...), IP: []netip.Addr{}}
	for _, w := range words(o.ip) {
		a, err := netip.ParseAddr(w)
		if err != nil {
			return b, fmt.Errorf("approve: %w", err)
		}
		b.IP = append(b.IP, a)
	}
	return b, nil
}

func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

func readAll(files []string) ([][]byte, error) {
	var out [][]byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("approve: %w", err)
		}
		out = append(out, b)
	}
	return out, nil
}
