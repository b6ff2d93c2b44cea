package desk

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// Facts of the journal about certificates of people.
const (
	factSerial = "serial" // hexadecimal
	factUntil  = "until"
)

func runPerson(args []string, out, talk io.Writer) error {
	f := flags("person", talk)
	dir := f.String("dir", "", "folder of the domain")
	name := f.String("name", "", "common name")
	organization := f.String("organization", "", "organization")
	unit := f.String("unit", "", "organizational unit")
	request := f.String("request", "", "PKCS #10 request of the person's own key")
	days := f.Int("days", personDays, "days that it is valid")
	number := f.String("serial", "", "number of the certificate")
	dry := f.Bool("dry-run", false, "say what would be done")
	d, verb, err := openFor(f, args, dir, "issue", "list", "revoke", "publish")
	if err != nil {
		return err
	}
	switch verb {
	case "list":
		return d.listPeople(out)
	case "publish":
		lines := []string{fmt.Sprintf("to sign    %s anew, good for %d days: give it to the boxes that read it", filepath.Join(*dir, ListFile), listDays)}
		return do(f, *dry, lines, d.PublishPeople)
	case "revoke":
		if err := need(f, "serial"); err != nil {
			return err
		}
		who, err := d.holder(*number)
		if err != nil {
			return err
		}
		lines := []string{"to revoke  certificate " + *number + " of " + who, "to sign    " + filepath.Join(*dir, ListFile) + ": give it to the boxes (source add … or a web server of yours)"}
		return do(f, *dry, lines, func() error { return d.RevokePerson(*number) })
	}
	if err := need(f, "name"); err != nil {
		return err
	}
	p := Person{Subject: pkix.Name{CommonName: *name, Organization: some(*organization), OrganizationalUnit: some(*unit)}, Days: *days}
	if *request != "" {
		if p.Request, err = readFile(*request, maxKeyFile); err != nil {
			return fmt.Errorf("person issue: %w", err)
		}
	}
	if err := p.check(); err != nil {
		return err
	}
	if _, _, err := p.key(); err != nil {
		return fmt.Errorf("issue person: %w", err)
	}
	lines := []string{"to certify " + p.Subject.String() + fmt.Sprintf(" as a decryptor for %d days", *days)}
	return do(f, *dry, lines, func() error {
		cert, key, err := d.IssuePerson(p)
		if err != nil {
			return err
		}
		fmt.Fprintf(talk, "certificate in %s, under %s, which boxes are told to trust (trust add)\n", cert, filepath.Join(*dir, PeopleFile))
		if key != "" {
			fmt.Fprintf(talk, "its key in %s: give it to its owner, and keep no copy\nfor a browser: openssl pkcs12 -export -in %q -inkey %q -out person.p12\n", key, cert, key)
		}
		return nil
	})
}

func some(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// holder says whose a number is, if it is not revoked.
func (d *Desk) holder(number string) (string, error) {
	all, _, err := d.Journal()
	if err != nil {
		return "", err
	}
	who := ""
	for _, e := range all {
		switch {
		case e.Facts[factSerial] != number:
		case e.Act == actPerson:
			who = e.Subject
		case e.Act == actDismiss:
			return "", fmt.Errorf("revoke person: certificate %s of %s was revoked on %s; 'domain person publish' signs the list anew", number, who, e.Time.Format(time.DateOnly))
		}
	}
	if who == "" {
		return "", fmt.Errorf("revoke person: the domain has issued no certificate with number %.80q; 'domain person list' shows them", number)
	}
	return who, nil
}

func (d *Desk) listPeople(out io.Writer) error {
	all, _, err := d.Journal()
	if err != nil {
		return err
	}
	gone := dismissed(all)
	for _, e := range all {
		if e.Act != actPerson {
			continue
		}
		state := "until " + e.Facts[factUntil]
		if i := slices.IndexFunc(gone, func(g label.Entry) bool { return g.Facts[factSerial] == e.Facts[factSerial] }); i >= 0 {
			state = "revoked " + gone[i].Time.Format(time.DateOnly)
		}
		fmt.Fprintf(out, "%s  %-20s  %s\n", e.Facts[factSerial], e.Subject, state)
	}
	return nil
}

func dismissed(all []label.Entry) []label.Entry {
	return slices.DeleteFunc(slices.Clone(all), func(e label.Entry) bool { return e.Act != actDismiss })
}

// RevokePerson takes a certificate back and writes the list of all that were, whose number is that of the act in the journal.
func (d *Desk) RevokePerson(number string) error {
	return d.alone(func() error {
		who, err := d.holder(number)
		if err != nil {
			return err
		}
		return d.listPersons(actDismiss, who, map[string]string{factSerial: number})
	})
}

// PublishPeople writes that list anew: who reads it believes nobody any more when it has run out.
func (d *Desk) PublishPeople() error {
	return d.alone(func() error { return d.listPersons(actPeople, d.domain.Name, nil) })
}

func (d *Desk) listPersons(act, subject string, facts map[string]string) error {
	ca, key, err := d.personCA()
	if err != nil {
		return fmt.Errorf("revoke person: %w", err)
	}
	if err := d.note(act, subject, facts); err != nil {
		return err
	}
	all, _, err := d.Journal()
	if err != nil {
		return err
	}
	list := &x509.RevocationList{Number: big.NewInt(int64(len(all))), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().AddDate(0, 0, listDays)}
	for _, e := range dismissed(all) {
		n, ok := new(big.Int).SetString(e.Facts[factSerial], 16)
		if !ok {
			return fmt.Errorf("revoke person: the journal has number %.80q", e.Facts[factSerial])
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: e.Time})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, ca, key)
	if err != nil {
		return fmt.Errorf("revoke person: %w", err)
	}
	return writeWhole(filepath.Join(d.dir, ListFile), pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), os.FileMode(0o644))
}
