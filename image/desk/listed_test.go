package desk

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
)

// What somebody has put on a list who cannot sign the journal stops the desk: a token that would attend boxes, a maker of TPMs, firmware.
// What the domain took away, by a desk that was stopped before the file was gone, does not count.
func TestListsAreTheJournals(t *testing.T) {
	d, other := newDesk(t), newDesk(t)
	root := contents(t, filepath.Join(d.dir, RootFile))
	b := asking(t, d)
	seen, err := Fingerprint(b.request())
	if err != nil {
		t.Fatal(err)
	}
	mine, theirs := publicPEM(t, newSigner(t)), publicPEM(t, newSigner(t))
	for _, d := range []*Desk{d, other} {
		if err := d.TrustVendor("maker", root); err != nil {
			t.Fatal(err)
		}
		if err := d.AddOperator("ann", mine); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.ApproveFirmware(b.request(), "first", seen); err != nil {
		t.Fatal(err)
	}
	in := func(path ...string) string { return filepath.Join(append([]string{d.dir}, path...)...) }
	lists := map[string]struct {
		read func() (int, error)
		file string // of the list, and what it is exchanged for
		text []byte
		more string // one more file
		gone func() error
	}{
		"makers": {func() (int, error) {
			o, err := d.vendors()
			if err != nil || o.Roots.Equal(x509.NewCertPool()) {
				return 0, err
			}
			return 1, nil
		},
			in(vendorsDir, "maker.pem"), contents(t, filepath.Join(other.dir, RootFile)), in(vendorsDir, "other.pem"), func() error { return d.ForgetVendor("maker") }},
		"operators": {func() (int, error) { o, err := d.Operators(); return len(o), err },
			in(operatorsDir, "ann.pem"), theirs, in(operatorsDir, "eve.pem"), func() error { return d.RemoveOperator("ann") }},
		"firmware": {func() (int, error) { o, err := d.Firmware(); return len(o), err },
			in(firmwareFile), nil, "", func() error { o, _ := d.Firmware(); return d.RemoveFirmware(o[0].Model, o[0].PCR0.String()) }},
	}
	for name, l := range lists {
		t.Run(name, func(t *testing.T) {
			was := contents(t, l.file)
			text := l.text
			if text == nil {
				o, err := d.Firmware()
				if err != nil {
					t.Fatal(err)
				}
				pcr := o[0].PCR2.String()
				text = bytes.Replace(was, []byte(pcr), []byte("00"+pcr[2:]), 1)
			}
			if n, err := l.read(); err != nil || n != 1 {
				t.Fatalf("%d, %v", n, err)
			}
			putBack(t, l.file, text)
			_, err := l.read()
			wantText(t, err, "is not what the journal says that the domain believes", "the way is 'domain ")
			putBack(t, l.file, was)
			if l.more != "" {
				putBack(t, l.more, text)
				_, err := l.read()
				wantText(t, err, filepath.Base(l.more)+" is not what the journal says")
				if err := os.Remove(l.more); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.gone(); err != nil {
				t.Fatal(err)
			}
			putBack(t, l.file, was) // it was stopped before that
			if n, err := l.read(); err != nil || n != 0 {
				t.Errorf("taken away: %d, %v", n, err)
			}
		})
	}
	wantText(t, d.RemoveOperator("ann"), "there is none called", "domain operator list")
	if err := d.AddOperator("ann", theirs); err != nil {
		t.Error(err)
	}
	if _, err := d.ApproveFirmware(b.request(), "again", seen); err != nil {
		t.Error(err)
	}
	if o, err := d.Firmware(); err != nil || len(o) != 1 {
		t.Errorf("put there again: %v, %v", o, err)
	}
}
