package desk

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/kra/label"
)

// order is an enrol or approve command, parsed.
type order struct {
	dir, manifest              string
	observed, asSeen, dry      bool
	request, like              string
	officer, passphrase        string
	name, dns, ip, fingerprint string
	replace                    bool
}

// open opens the desk and reads the release.
func (o order) open(talk io.Writer) (*Desk, Release, error) {
	d, err := Open(o.dir)
	if err != nil {
		return nil, Release{}, err
	}
	b, err := os.ReadFile(o.manifest)
	if err != nil {
		return nil, Release{}, fmt.Errorf("read release: %w", err)
	}
	r := Release{Trust: AsPredicted, FirmwareAsSeen: o.asSeen}
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
	if err := need(f, "dir", "manifest", "request", "officer", "passphrase-file"); err != nil {
		return err
	}
	d, r, err := o.open(talk)
	if err != nil {
		return err
	}
	a, err := o.admission(r)
	if err != nil {
		return err
	}
	if a.Seen != "" {
		warn(talk, SeenWarning)
	}
	lines, err := d.Preview(a)
	if err != nil {
		return err
	}
	return o.carryOut(talk, out, lines, func() ([]byte, error) { return d.Enrol(a) })
}

// carryOut tells what will happen, and unless it is a dry run does it.
func (o order) carryOut(talk, out io.Writer, lines []string, do func() ([]byte, error)) error {
	for _, l := range lines {
		fmt.Fprintln(talk, l)
	}
	if o.dry {
		fmt.Fprintln(talk, nothingDone)
		return nil
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
	if a.Request, err = os.ReadFile(o.request); err != nil {
		return a, fmt.Errorf("enrol: %w", err)
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
	f.StringVar(&o.dir, "dir", "", "folder of the domain")
	f.StringVar(&o.manifest, "manifest", "", "manifest of the release (dist/kra.json)")
	f.StringVar(&o.like, "like", "", "requests or bundles of machines to approve for, separated by commas")
	f.BoolVar(&o.asSeen, "firmware-as-seen", false, "take the firmware in requests as it is")
	f.BoolVar(&o.observed, "as-observed", false, "approve whatever registers the machines report: for servers without measured boot")
	f.BoolVar(&o.dry, "dry-run", false, "check and say what would be signed, and do nothing")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	if err := need(f, "dir", "manifest"); err != nil {
		return err
	}
	d, r, err := o.open(talk)
	if err != nil {
		return err
	}
	like, err := readAll(words(o.like))
	if err != nil {
		return err
	}
	lines, err := d.PreviewFleet(r, like...)
	if err != nil {
		return err
	}
	return o.carryOut(talk, out, lines, func() ([]byte, error) { return d.ApproveFleet(r, like...) })
}

func runVendor(args []string, out, talk io.Writer) error {
	f := flags("vendor", talk)
	dir := f.String("dir", "", "folder of the domain")
	name := f.String("name", "", "how to call the maker")
	file := f.String("certificates", "", "its authorities, in PEM")
	d, verb, err := openFor(f, args, dir, "add", "list")
	if err != nil {
		return err
	}
	if verb == "list" {
		files, err := filepath.Glob(filepath.Join(d.dir, vendorsDir, "*.pem"))
		if err != nil {
			return fmt.Errorf("vendor list: %w", err)
		}
		for _, path := range files {
			fmt.Fprintln(out, strings.TrimSuffix(filepath.Base(path), ".pem"))
		}
		return nil
	}
	if err := need(f, "name", "certificates"); err != nil {
		return err
	}
	text, err := os.ReadFile(*file)
	if err != nil {
		return fmt.Errorf("vendor add: %w", err)
	}
	if err := d.TrustVendor(*name, text); err != nil {
		return err
	}
	fmt.Fprintf(talk, "the domain believes endorsement certificates under %s\n", *name)
	return nil
}

func runFirmware(args []string, out, talk io.Writer) error {
	f := flags("firmware", talk)
	dir := f.String("dir", "", "folder of the domain")
	request := f.String("request", "", "enrolment request of a machine with this firmware")
	note := f.String("note", "", "what to remember of it, such as the maker's version")
	d, verb, err := openFor(f, args, dir, "approve", "list")
	if err != nil {
		return err
	}
	if verb == "list" {
		all, err := d.Firmware()
		for _, x := range all {
			fmt.Fprintf(out, "%s\n  PCR 0  %s\n  PCR 2  %s\n  note   %s\n", x.Model, x.PCR0, x.PCR2, x.Note)
		}
		return err
	}
	if err := need(f, "request"); err != nil {
		return err
	}
	text, err := os.ReadFile(*request)
	if err != nil {
		return fmt.Errorf("firmware approve: %w", err)
	}
	x, err := d.ApproveFirmware(text, *note)
	if err == nil {
		fmt.Fprintf(talk, "approved as firmware of %s\n", x)
	}
	return err
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
	d, err := Open(*dir)
	return d, said[0], err
}

func runJournal(args []string, out, talk io.Writer) error {
	f := flags("journal", talk)
	dir := f.String("dir", "", "folder of the domain")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	if err := need(f, "dir"); err != nil {
		return err
	}
	d, err := Open(*dir)
	if err != nil {
		return err
	}
	all, last, err := d.Journal()
	if err != nil {
		return err
	}
	for _, e := range all {
		fmt.Fprintf(out, "%4d  %s  %-16s  %s\n", e.Sequence, e.Time.Format("2006-01-02 15:04:05"), e.Act, e.Subject)
		for _, k := range slices.Sorted(maps.Keys(e.Facts)) {
			fmt.Fprintf(out, "      %s: %s\n", k, e.Facts[k])
		}
	}
	fmt.Fprintf(talk, "%d acts, each signed by the domain's label key; the last is %s: keep that elsewhere\n", len(all), last)
	return nil
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
