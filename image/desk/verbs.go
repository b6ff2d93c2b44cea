package desk

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/kra/enrol"
	"github.com/keyrelease/krabox/kra/label"
)

// order is an enrol or approve command, parsed.
type order struct {
	dir, manifest              string
	observed, asSeen, dry      bool
	request, like, at, code    string
	officer, passphrase        string
	name, dns, ip, fingerprint string
	replace                    bool
	labels                     string
}

// open opens the desk and reads the release.
func (o order) open(f *flag.FlagSet) (*Desk, Release, error) {
	talk := f.Output()
	d, err := openDesk(f, o.dir)
	if err != nil {
		return nil, Release{}, err
	}
	b, err := os.ReadFile(o.manifest)
	if err != nil {
		return nil, Release{}, fmt.Errorf("read release: %w", err)
	}
	r := Release{Trust: AsPredicted, FirmwareAsSeen: o.asSeen, Seen: words(o.fingerprint)}
	for _, w := range words(o.labels) {
		l, err := label.ParseID(w)
		if err != nil {
			return nil, Release{}, err
		}
		r.Labels = append(r.Labels, l)
	}
	if r.Manifest, err = ParseManifest(b); err != nil {
		return nil, Release{}, err
	}
	if o.observed {
		r.Trust = AsObserved
		warn(talk, ObservedWarning)
	}
	if o.asSeen && !o.observed {
		warn(talk, FirmwareWarning)
	}
	switch o.fingerprint {
	case "":
	case byCode:
		warn(talk, MetWarning)
	default:
		warn(talk, SeenWarning)
	}
	return d, r, nil
}

func warn(talk io.Writer, text string) { fmt.Fprintln(talk, "WARNING:", text) }

const nothingDone = "dry run: nothing was signed, nothing was written"

func runEnrol(args []string, out, talk io.Writer) error {
	var o order
	f := flags("enrol", talk)
	f.StringVar(&o.dir, "dir", "", "folder of the domain")
	f.StringVar(&o.manifest, "manifest", "", "manifest of the release (dist/kra.json)")
	f.StringVar(&o.request, "request", "", "enrolment request of the box, as its console printed it")
	f.StringVar(&o.at, "at", "", "https address at which the box listens (enrol listen at its console)")
	f.StringVar(&o.code, "code", "", "code that its console shows")
	f.StringVar(&o.officer, "officer", "", "name of the first officer")
	f.StringVar(&o.passphrase, "passphrase-file", "", "file of the officer's passphrase")
	f.StringVar(&o.name, "name", "box1", "name of the box")
	f.StringVar(&o.dns, "dns", "", "DNS names of the box, separated by commas")
	f.StringVar(&o.ip, "ip", "", "addresses of the box, separated by commas")
	f.StringVar(&o.fingerprint, "first-seen", "", "fingerprint at the box's console: take your word for the TPM")
	f.BoolVar(&o.asSeen, "firmware-as-seen", false, "take the machine's firmware as it reports it")
	f.BoolVar(&o.observed, "as-observed", false, "approve whatever registers the box reports: for a server without measured boot")
	f.BoolVar(&o.replace, "replace", false, "let it take the name of another box, or another name than it had")
	f.BoolVar(&o.dry, "dry-run", false, "check and say what would be signed, and do nothing")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	if o.at == "" {
		if err := need(f, "request"); err != nil {
			return err
		}
	}
	if err := need(f, "dir", "manifest", "officer", "passphrase-file"); err != nil {
		return err
	}
	d, r, err := o.open(f)
	if err != nil {
		return err
	}
	a, err := o.admission(r)
	if err != nil {
		return err
	}
	var box *enrol.Desk
	if o.at != "" {
		if box, err = o.meet(f); err != nil {
			return err
		}
		defer func() { _ = box.Close() }()
		if err := a.metAt(box); err != nil {
			return err
		}
	}
	answered := false
	if box != nil {
		defer func() {
			if !answered {
				fmt.Fprintln(talk, codeUsed)
			}
		}()
	}
	lines, err := d.Preview(a)
	if err != nil {
		return err
	}
	return o.carryOut(f, out, lines, func() ([]byte, error) {
		bundle, err := d.Enrol(a)
		if err != nil || box == nil {
			return bundle, err
		}
		answered = true
		return nil, o.handOver(talk, out, box, bundle)
	})
}

// carryOut tells what will happen, and unless it is a dry run does it, when the officer agrees.
func (o order) carryOut(f *flag.FlagSet, out io.Writer, lines []string, do func() ([]byte, error)) error {
	for _, l := range lines {
		fmt.Fprintln(f.Output(), l)
	}
	if o.dry {
		fmt.Fprintln(f.Output(), nothingDone)
		return nil
	}
	if err := agree(f); err != nil {
		return err
	}
	bundle, err := do()
	if err != nil {
		return err
	}
	_, err = out.Write(bundle)
	return err
}

func (o order) admission(r Release) (Admission, error) {
	a := Admission{Release: r, Seen: o.fingerprint, Replace: o.replace}
	var err error
	if o.request != "" && o.at != "" {
		return a, errors.New("enrol: say -request or -at, not both")
	}
	if o.at == "" {
		if a.Request, err = os.ReadFile(o.request); err != nil {
			return a, fmt.Errorf("enrol: %w", err)
		}
	}
	if a.Box, err = o.box(); err != nil {
		return a, err
	}
	passphrase, err := os.ReadFile(o.passphrase)
	if err != nil {
		return a, fmt.Errorf("enrol: an officer's passphrase is needed: %w", err)
	}
	defer clear(passphrase)
	a.Officer, err = NewOfficer(o.officer, bytes.TrimRight(passphrase, "\r\n"))
	return a, err
}

func (o order) box() (label.Box, error) {
	b := label.Box{Name: o.name, DNS: append([]string{}, words(o.dns)...), IP: []netip.Addr{}}
	for _, w := range words(o.ip) {
		a, err := netip.ParseAddr(w)
		if err != nil {
			return b, fmt.Errorf("enrol: %w", err)
		}
		b.IP = append(b.IP, a)
	}
	return b, nil
}

func runApprove(args []string, out, talk io.Writer) error {
	var o order
	f := flags("approve", talk)
	o.forFleet(f)
	f.StringVar(&o.labels, "labels", "", "labels to approve it for, separated by commas; otherwise all of boxes")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	if err := need(f, "dir", "manifest"); err != nil {
		return err
	}
	return o.approveFor(f, out)
}

// forFleet are the flags of what is signed for many boxes.
func (o *order) forFleet(f *flag.FlagSet) {
	f.StringVar(&o.dir, "dir", "", "folder of the domain")
	f.StringVar(&o.manifest, "manifest", "", "manifest of the release (dist/kra.json)")
	f.StringVar(&o.like, "like", "", "requests or bundles of machines to approve for, separated by commas")
	f.StringVar(&o.fingerprint, "first-seen", "", "fingerprints at the consoles of machines that sent the requests: take your word for their TPMs")
	f.BoolVar(&o.asSeen, "firmware-as-seen", false, "take the firmware in requests as it is")
	f.BoolVar(&o.observed, "as-observed", false, "approve whatever registers the machines report: for servers without measured boot")
	f.BoolVar(&o.dry, "dry-run", false, "check and say what would be signed, and do nothing")
}

func runEpoch(args []string, out, talk io.Writer) error {
	var o order
	f := flags("epoch", talk)
	o.forFleet(f)
	said, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	if len(said) != 1 || said[0] != "advance" {
		return errors.New("epoch: say advance")
	}
	if err := need(f, "dir", "manifest"); err != nil {
		return err
	}
	d, r, err := o.open(f)
	if err != nil {
		return err
	}
	like, err := readAll(words(o.like))
	if err != nil {
		return err
	}
	lines, err := d.PreviewAdvance(r, like...)
	if err != nil {
		return err
	}
	return o.carryOut(f, out, lines, func() ([]byte, error) { return d.Advance(r, like...) })
}

func runOperator(args []string, out, talk io.Writer) error {
	f := flags("operator", talk)
	dir := f.String("dir", "", "folder of the domain")
	name := f.String("name", "", "how to call the operator")
	file := f.String("key", "", "public key of the operator's token, in PEM")
	d, verb, err := openFor(f, args, dir, "add", "list", "remove")
	if err != nil {
		return err
	}
	if verb == "list" {
		all, err := d.Operators()
		for _, t := range all {
			fmt.Fprintf(out, "%-20s %s\n", t.Name, t.Key.Name().Fingerprint())
		}
		return err
	}
	if verb == "remove" {
		if err := need(f, "name"); err != nil {
			return err
		}
		return do(f, false, []string{"to remove  the operator " + *name + ": boxes are attended by this token until their approvals are replaced"}, func() error { return d.RemoveOperator(*name) })
	}
	if err := need(f, "name", "key"); err != nil {
		return err
	}
	text, err := os.ReadFile(*file)
	if err != nil {
		return fmt.Errorf("operator add: %w", err)
	}
	if err := d.AddOperator(*name, text); err != nil {
		return err
	}
	fmt.Fprintf(talk, "%s may attend boxes, from the next approval on\n", *name)
	return nil
}

// openFor parses a command with a second verb, and opens the desk.
func openFor(f *flag.FlagSet, args []string, dir *string, verbs ...string) (*Desk, string, error) {
	said, err := parse(f, args, 1)
	if err != nil {
		return nil, "", err
	}
	if len(said) != 1 || !slices.Contains(verbs, said[0]) {
		return nil, "", fmt.Errorf("%s: say %s", f.Name(), strings.Join(verbs, " or "))
	}
	if err := need(f, "dir"); err != nil {
		return nil, "", err
	}
	d, err := openDesk(f, *dir)
	return d, said[0], err
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
