package desk

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// record gives the enrolment of a box, as the domain signed it last.
func (d *Desk) record(name string) (*label.Enrolment, error) {
	all, err := d.books()
	if err != nil {
		return nil, err
	}
	var known []string
	for _, e := range all {
		if e.Box.Name == name {
			return e, nil
		}
		known = append(known, e.Box.Name)
	}
	if known == nil {
		return nil, fmt.Errorf("find box: no box is enrolled yet")
	}
	return nil, fmt.Errorf("find box: no box %.80q is enrolled; there are %s", name, strings.Join(known, ", "))
}

func runPassport(args []string, out, talk io.Writer) error {
	f := flags("passport", talk)
	dir := f.String("dir", "", "folder of the domain")
	name := f.String("name", "", "box")
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
	if *name == "" {
		return d.listBoxes(out)
	}
	e, err := d.record(*name)
	if err != nil {
		return err
	}
	lines, err := passport(e)
	if err != nil {
		return err
	}
	for _, l := range lines {
		fmt.Fprintln(out, l)
	}
	return nil
}

func (d *Desk) listBoxes(out io.Writer) error {
	all, err := d.books()
	if err != nil {
		return err
	}
	for _, e := range all {
		fmt.Fprintf(out, "%-20s %s, endorsement key %s\n", e.Box.Name, e.Passport.Model, e.Passport.EK.Short())
	}
	others, err := d.issuedToPlatforms()
	for _, c := range others {
		if c.label != "" {
			fmt.Fprintf(out, "%-20s platform, label %s, until %s\n", c.name, c.label, c.cert.NotAfter.Format(time.DateOnly))
		}
	}
	return err
}

// passport says what the domain has certified of a box.
func passport(e *label.Enrolment) ([]string, error) {
	p := e.Passport
	lines := []string{
		fmt.Sprintf("box        %s, %s", e.Box.Name, strings.Join(names(e.Box), ", ")),
		fmt.Sprintf("machine    %s, number %s (its own words)", p.Model, p.Serial),
		fmt.Sprintf("TPM        endorsement key      %s", p.EK),
		fmt.Sprintf("           storage root key     %s", p.SRK),
		fmt.Sprintf("           attestation key      %s", p.AK),
		fmt.Sprintf("           its fingerprint      %s", p.AK.Fingerprint()),
	}
	certificates := [][]byte{e.Platform}
	certificates = append(certificates, labelChains(e)...)
	for _, der := range certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read passport: %w", err)
		}
		if len(c.URIs) != 1 {
			return nil, errors.New("read passport: a certificate has no name")
		}
		lines = append(lines, fmt.Sprintf("certified  %s, from %s until %s, number %x%s", c.URIs[0], c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly), c.SerialNumber, expired(c)))
	}
	return append(lines, "officer    "+e.Officer.Name+" was the first"), nil
}

func expired(c *x509.Certificate) string {
	if time.Now().After(c.NotAfter) {
		return " (expired: domain rekey)"
	}
	return ""
}

// labelChains are the label certificates of a box.
func labelChains(e *label.Enrolment) (out [][]byte) {
	for _, of := range e.Labels {
		out = append(out, of.Chain[0])
		if len(of.Client) > 0 {
			out = append(out, of.Client[0])
		}
	}
	return out
}
