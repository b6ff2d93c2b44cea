package desk

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/kra/label"
)

// do carries out what needs no bundle.
func do(f *flag.FlagSet, dry bool, lines []string, act func() error) error {
	return order{dry: dry}.carryOut(f, io.Discard, lines, func() ([]byte, error) { return nil, act() })
}

func runVendor(args []string, out, talk io.Writer) error {
	f := flags("vendor", talk)
	dir := f.String("dir", "", "folder of the domain")
	name := f.String("name", "", "how to call the maker")
	file := f.String("certificates", "", "its authorities, in PEM")
	d, verb, err := openFor(f, args, dir, "add", "list", "remove")
	if err != nil {
		return err
	}
	switch verb {
	case "list":
		return d.listVendors(out)
	case "remove":
		if err := need(f, "name"); err != nil {
			return err
		}
		return do(f, false, []string{"to remove  the maker " + *name + ": boxes that are enrolled stay so"}, func() error { return d.ForgetVendor(*name) })
	}
	if err := need(f, "name", "certificates"); err != nil {
		return err
	}
	text, err := readFile(*file, maxVendorFile)
	if err != nil {
		return fmt.Errorf("vendor add: %w", err)
	}
	subjects, err := authorities(text)
	if err != nil {
		return err
	}
	lines := []string{"to believe endorsement certificates under"}
	for _, s := range subjects {
		lines = append(lines, "           "+s)
	}
	if err := do(f, false, lines, func() error { return d.TrustVendor(*name, text) }); err != nil {
		return err
	}
	fmt.Fprintf(talk, "the domain believes endorsement certificates under %s\n", *name)
	return nil
}

func (d *Desk) listVendors(out io.Writer) error {
	files, err := filepath.Glob(filepath.Join(d.dir, vendorsDir, "*.pem"))
	if err != nil {
		return fmt.Errorf("vendor list: %w", err)
	}
	for _, path := range files {
		fmt.Fprintln(out, strings.TrimSuffix(filepath.Base(path), ".pem"))
	}
	return nil
}

func runFirmware(args []string, out, talk io.Writer) error {
	f := flags("firmware", talk)
	dir := f.String("dir", "", "folder of the domain")
	request := f.String("request", "", "enrolment request of a machine with this firmware")
	note := f.String("note", "", "what to remember of it, such as the maker's version")
	seen := f.String("first-seen", "", "fingerprint at the machine's console: take your word for the TPM")
	model := f.String("model", "", "model of the machine")
	pcr := f.String("pcr0", "", "PCR 0, as the list shows it")
	d, verb, err := openFor(f, args, dir, "approve", "list", "remove")
	if err != nil {
		return err
	}
	switch verb {
	case "list":
		all, err := d.Firmware()
		for _, x := range all {
			fmt.Fprintf(out, "%s\n  PCR 0  %s\n  PCR 2  %s\n  note   %s\n", x.Model, x.PCR0, x.PCR2, x.Note)
		}
		return err
	case "remove":
		if err := need(f, "model", "pcr0"); err != nil {
			return err
		}
		lines := []string{"to remove  firmware of " + *model + " with PCR 0 " + *pcr + ": what was approved for it stays so"}
		return do(f, false, lines, func() error { return d.RemoveFirmware(*model, *pcr) })
	}
	if err := need(f, "request"); err != nil {
		return err
	}
	text, err := os.ReadFile(*request)
	if err != nil {
		return fmt.Errorf("firmware approve: %w", err)
	}
	if *seen != "" {
		warn(talk, SeenWarning)
	}
	x, err := d.ApproveFirmware(text, *note, *seen)
	if err == nil {
		fmt.Fprintf(talk, "approved as firmware of %s\n", x)
	}
	return err
}

func runJournal(args []string, out, talk io.Writer) error {
	f := flags("journal", talk)
	dir := f.String("dir", "", "folder of the domain")
	expect := f.String("expect", "", "digest of an act that was the last one")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	if err := need(f, "dir"); err != nil {
		return err
	}
	d, err := openDesk(f, *dir)
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
	if *expect != "" {
		if err := contains(all, last, *expect); err != nil {
			return err
		}
		fmt.Fprintln(talk, "the act that you kept is in it, and all that came before it")
	}
	fmt.Fprintf(talk, "%d acts, each signed by the domain's label key; the last is %s: keep that elsewhere\n", len(all), last)
	return nil
}

// contains says whether a journal goes back to the act that was once its last: what was cut off, or forked, does not.
func contains(all []label.Entry, last label.Digest, expect string) error {
	var want label.Digest
	if err := want.UnmarshalText([]byte(expect)); err != nil || want == (label.Digest{}) {
		return errors.New("journal: -expect wants the digest that this verb printed")
	}
	if want == last || slices.ContainsFunc(all, func(e label.Entry) bool { return e.Previous == want }) {
		return nil
	}
	return fmt.Errorf("journal: it does not contain the act %s: its end was cut off, or it is another one. The domain's folder is older than what you kept, or somebody has changed it", want.Short())
}
