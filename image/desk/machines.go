package desk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
)

// machines are the registers of the machines to approve for.
func (d *Desk) machines(r Release, like [][]byte) ([]label.PCRs, error) {
	if len(like) == 0 {
		var err error
		if like, err = d.boxes(); err != nil {
			return nil, err
		}
	}
	if len(like) == 0 {
		return nil, errors.New("approve release: no box is enrolled yet: say for which machine, by a request or bundle of it")
	}
	var out []label.PCRs
	for _, text := range like {
		v, err := d.machine(r, text)
		if err != nil {
			return nil, err
		}
		out = append(out, v...)
	}
	return out, nil
}

// machine reads registers out of a request or out of a bundle that this domain signed. A request's TPM and firmware must be
// vouched for, as at an enrolment; a bundle's were.
func (d *Desk) machine(r Release, text []byte) ([]label.PCRs, error) {
	if q, err := label.ParseRequest(text); err == nil {
		v, err := tpm.VerifyRequest(q, d.domain)
		if err != nil {
			return nil, err
		}
		if _, err := d.vouchedLike(v, r.Seen); err != nil {
			return nil, err
		}
		if _, err := d.firmwareWord(v, r); err != nil {
			return nil, err
		}
		return []label.PCRs{v.Request.PCRs}, nil
	}
	b, err := label.OpenBundle(text, d.domain)
	if err != nil {
		return nil, fmt.Errorf("read machine: neither a request nor a bundle of this domain: %w", err)
	}
	var out []label.PCRs
	for _, a := range b.Approvals {
		if a.Kind == label.Seal {
			out = append(out, a.PCRs)
		}
	}
	return out, nil
}

// boxes are the last bundles of the enrolled boxes.
func (d *Desk) boxes() ([][]byte, error) {
	files, err := filepath.Glob(filepath.Join(d.dir, boxesDir, "*.pem"))
	if err != nil {
		return nil, fmt.Errorf("list boxes: %w", err)
	}
	var out [][]byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("list boxes: %w", err)
		}
		out = append(out, b)
	}
	return out, nil
}

// books are the enrolments of the domain. A record that cannot be read, or that the journal does not know, stops the desk: it could
// otherwise give a name, or a platform, away twice.
func (d *Desk) books() ([]*label.Enrolment, error) {
	texts, err := d.boxes()
	if err != nil {
		return nil, err
	}
	if len(texts) == 0 {
		return nil, nil
	}
	all, _, err := d.Journal()
	if err != nil {
		return nil, err
	}
	noted := map[string]bool{}
	for _, e := range all {
		noted[e.Facts[factBundle]] = true
	}
	var out []*label.Enrolment
	for _, text := range texts {
		b, err := label.OpenBundle(text, d.domain)
		if err == nil && b.Enrolment == nil {
			err = errors.New("it enrols nobody")
		}
		if err != nil {
			return nil, fmt.Errorf("read books: a file of %s is not the bundle of a box: %w; put it back as it was, or take it away", filepath.Join(d.dir, boxesDir), err)
		}
		if !noted[digest(text)] {
			return nil, fmt.Errorf("read books: %s is in %s, but the journal does not know of it: one of them is older than the other; put back the newest of both",
				b.Enrolment.Box.Name, filepath.Join(d.dir, boxesDir))
		}
		out = append(out, b.Enrolment)
	}
	return out, nil
}

// remember keeps the bundle of a box.
func (d *Desk) remember(f finding, bundle []byte) error {
	dir := filepath.Join(d.dir, boxesDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("remember box: %w", err)
	}
	if err := writeWhole(filepath.Join(dir, f.Box.Name+".pem"), bundle, 0o600); err != nil {
		return fmt.Errorf("remember box: %w", err)
	}
	for _, name := range f.replaces {
		if name == f.Box.Name {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name+".pem")); err != nil {
			return fmt.Errorf("remember box: %w", err)
		}
	}
	return nil
}
