package desk

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/kra/label"
)

func (d *Desk) platformFile(name string) string {
	return filepath.Join(d.dir, platformsDir, name+".pem")
}

// issuedToPlatforms are the certificates that platforms were answered last. A record that cannot be read, or that the journal does not
// know, stops the desk: its platform could not be revoked.
func (d *Desk) issuedToPlatforms() (out []issuedTo, err error) {
	files, err := filepath.Glob(d.platformFile("*"))
	if err != nil || len(files) == 0 {
		return nil, err
	}
	all, _, err := d.Journal()
	if err != nil {
		return nil, err
	}
	noted := map[string]bool{}
	for _, e := range all {
		noted[e.Facts[factBundle]], noted[e.Facts[factCertificate]] = true, true
	}
	for _, path := range files {
		text, err := readFile(path, label.MaxDocument)
		if err != nil {
			return nil, fmt.Errorf("read books: %w", err)
		}
		certificates, is, err := d.platformRecord(text)
		name := strings.TrimSuffix(filepath.Base(path), ".pem")
		if err == nil && slices.ContainsFunc(certificates, func(c issuedTo) bool { return c.name != name }) {
			err = errors.New("it is of another name")
		}
		if err != nil {
			return nil, fmt.Errorf("read books: %s is not what a platform was answered: %w; put it back as it was, or take it away", path, err)
		}
		if !noted[is] {
			return nil, fmt.Errorf("read books: the journal does not know of %s: one of them is older than the other; put back the newest of both", path)
		}
		out = append(out, certificates...)
	}
	return out, nil
}

// platformRecord reads what a platform was answered: a bundle, or the certificate of a key that no TPM holds; is names it in the journal.
func (d *Desk) platformRecord(text []byte) (out []issuedTo, is string, err error) {
	if der := firstBlock(text, "CERTIFICATE"); der != nil {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, "", err
		}
		h, err := label.HolderOf(c, x509.ExtKeyUsageClientAuth)
		if err == nil {
			err = c.CheckSignatureFrom(d.root)
		}
		return []issuedTo{{h.Name, h.Label, c}}, digest(der), err
	}
	b, err := label.OpenPlatformBundle(text, d.domain)
	if err != nil {
		return nil, "", err
	}
	for _, x := range append(labelled(label.Enrolment{Labels: b.Labels}), ofLabel{"", b.Platform}) {
		c, err := x509.ParseCertificate(x.der)
		if err != nil {
			return nil, "", err
		}
		out = append(out, issuedTo{b.Name, x.label, c})
	}
	return out, digest(text), nil
}

// supersede revokes, under the name of a platform, the keys that it was certified for and that are not those of its successor: the
// certificates are good for years.
func (d *Desk) supersede(name string, successor []label.Digest) error {
	text, err := readFile(d.platformFile(name), label.MaxDocument)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	old, _, err := d.platformRecord(text)
	if err != nil {
		return fmt.Errorf("replace platform %s: %w", name, err)
	}
	done := slices.Clone(successor)
	for _, c := range old {
		key := KeyOf(c.cert)
		if slices.Contains(done, key) {
			continue
		}
		done = append(done, key)
		if _, err := d.Revoke(Whom{Name: name, Key: key, Reason: "replaced by another"}); err != nil {
			return err
		}
	}
	return nil
}
