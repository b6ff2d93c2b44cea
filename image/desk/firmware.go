package desk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
)

const (
	firmwareFile = "firmware.json" // what the domain approved as firmware, by machine model
	maxFirmware  = 4096            // sets in the list
)

// A Firmware is one state of the firmware of one machine model that the domain approved: PCR 0 is its code, PCR 2 that of its
// option ROMs (TCG PC Client Platform Firmware Profile, 3.3.4). The model is what machines say of themselves, a claim: the
// registers are not.
type Firmware struct {
	Model string       `json:"model"`
	PCR0  label.Digest `json:"pcr0"`
	PCR2  label.Digest `json:"pcr2"`
	Note  string       `json:"note"` // such as the maker's version of it
}

// String is for people.
func (f Firmware) String() string {
	return fmt.Sprintf("%s: PCR 0 %s, PCR 2 %s", f.Model, f.PCR0.Short(), f.PCR2.Short())
}

func (f Firmware) is(g Firmware) bool {
	return f.Model == g.Model && f.PCR0 == g.PCR0 && f.PCR2 == g.PCR2
}

// firmwareOf is what a verified request shows.
func firmwareOf(v tpm.Verified) Firmware {
	return Firmware{Model: v.Request.Model, PCR0: v.Request.PCRs[0], PCR2: v.Request.PCRs[2]}
}

// Firmware is the list of what was approved.
func (d *Desk) Firmware() ([]Firmware, error) {
	b, err := os.ReadFile(filepath.Join(d.dir, firmwareFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read firmware list: %w", err)
	}
	var all []Firmware
	if err := json.Unmarshal(b, &all); err != nil || len(all) > maxFirmware {
		return nil, fmt.Errorf("read firmware list: %s is not one of at most %d sets", firmwareFile, maxFirmware)
	}
	put := map[string][]string{} // by model and PCR 0, the sets that were put there
	said, err := d.said(func(e label.Entry) ([]string, string) {
		of := e.Subject + " " + e.Facts["pcr0"]
		switch e.Act {
		case actFirmware:
			set := of + " " + e.Facts["pcr2"]
			put[of] = append(put[of], set)
			return []string{set}, actFirmware
		case actUnfirmware:
			return put[of], ""
		}
		return nil, ""
	})
	if err != nil {
		return nil, fmt.Errorf("read firmware list: %w", err)
	}
	var out []Firmware
	for _, f := range all {
		counts, err := said.counts(fmt.Sprint(f.Model, " ", f.PCR0, " ", f.PCR2), actFirmware, fmt.Sprintf("firmware of %s in %s", f, firmwareFile), "domain firmware approve")
		if err != nil {
			return nil, fmt.Errorf("read firmware list: %w", err)
		}
		if counts {
			out = append(out, f)
		}
	}
	return out, nil
}

// ApproveFirmware puts what a request shows on the list. The request must explain it by an event log, and come from a TPM that an
// enrolment, a maker, or the officer who read its fingerprint (seen) vouches for: any other could have made it up.
func (d *Desk) ApproveFirmware(request []byte, note, seen string) (Firmware, error) {
	q, err := label.ParseRequest(request)
	if err != nil {
		return Firmware{}, err
	}
	v, err := tpm.VerifyRequest(q, d.domain)
	if err != nil {
		return Firmware{}, err
	}
	if v.Replayed == nil {
		return Firmware{}, errors.New("approve firmware: the machine has no event log: it measures nothing")
	}
	word, err := d.vouchedLike(v, []string{seen})
	if err != nil {
		return Firmware{}, err
	}
	f := firmwareOf(v)
	f.Note = note
	all, err := d.Firmware()
	if err != nil {
		return f, err
	}
	if slices.ContainsFunc(all, f.is) {
		return f, fmt.Errorf("approve firmware: %s is on the list already", f)
	}
	if len(all) == maxFirmware {
		return f, fmt.Errorf("approve firmware: the list is full (%d)", maxFirmware)
	}
	if err := d.note(actFirmware, f.Model, map[string]string{"pcr0": f.PCR0.String(), "pcr2": f.PCR2.String(), "tpm": word}); err != nil {
		return f, err
	}
	return f, d.writeFirmware(append(all, f))
}

// RemoveFirmware takes firmware off the list.
func (d *Desk) RemoveFirmware(model, pcr0 string) error {
	all, err := d.Firmware()
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(all), func(f Firmware) bool { return f.Model == model && f.PCR0.String() == pcr0 })
	if len(left) == len(all) {
		return fmt.Errorf("remove firmware: the list has none of model %q with PCR 0 %.80s", model, pcr0)
	}
	if err := d.note(actUnfirmware, model, map[string]string{"pcr0": pcr0}); err != nil {
		return err
	}
	return d.writeFirmware(left)
}

func (d *Desk) writeFirmware(all []Firmware) error {
	doc, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("write firmware list: %w", err)
	}
	return writeWhole(filepath.Join(d.dir, firmwareFile), append(doc, '\n'), 0o644)
}

// listed refuses firmware that is not on the list: a malicious one could forge all that is measured after it.
func (d *Desk) listed(f Firmware) error {
	all, err := d.Firmware()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, f.is) {
		return nil
	}
	known := "nothing of this model is on the list"
	for _, g := range all {
		if g.Model == f.Model {
			known = fmt.Sprintf("the list has PCR 0 %s, PCR 2 %s for it", g.PCR0.Short(), g.PCR2.Short())
		}
	}
	return fmt.Errorf("the firmware of model %q is not approved: PCR 0 is %s, PCR 2 is %s, and %s; compare it with a machine that you trust and say "+
		"domain firmware approve, or -firmware-as-seen", f.Model, f.PCR0, f.PCR2, known)
}

// writeWhole replaces a file as one: who reads it sees the old or the new one.
func writeWhole(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path))
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
