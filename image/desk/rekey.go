package desk

import (
	"fmt"
	"io"
	"os"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
)

// A Rekeying certifies the keys of an enrolled box anew, under the names and the officer that it has.
type Rekeying struct {
	Request []byte
	Release Release
	Name    string // of the box
}

// rekeying turns it into a finding: the TPM is the one that was enrolled under the name, and no other.
func (d *Desk) rekeying(r Rekeying) (finding, error) {
	e, err := d.record(r.Name)
	if err != nil {
		return finding{}, err
	}
	f := finding{Admission: Admission{Request: r.Request, Release: r.Release, Box: e.Box, Officer: e.Officer}}
	if err := d.releasable(r.Release); err != nil {
		return f, err
	}
	q, err := label.ParseRequest(r.Request)
	if err != nil {
		return f, err
	}
	if f.verified, err = tpm.VerifyRequest(q, d.domain); err != nil {
		return f, err
	}
	if f.verified.EK != e.Passport.EK {
		return f, fmt.Errorf("rekey: %s was enrolled with another TPM: its endorsement key is %s, that of the request %s; a new machine is enrolled, with -replace if it takes the name",
			r.Name, e.Passport.EK.Short(), f.verified.EK.Short())
	}
	if f.labels, err = d.asksFor(f.verified); err != nil {
		return f, err
	}
	if err := d.acceptable(f.verified, r.Release); err != nil {
		return f, err
	}
	if f.firmware, err = d.firmwareWord(f.verified, r.Release); err != nil {
		return f, err
	}
	f.tpm = "as enrolled: the answer opens only in the TPM with endorsement key " + e.Passport.EK.Short()
	return f, d.unanswered(q.Statement(), "enrol request", actEnrol, actRekey)
}

// PreviewRekey says what Rekey would do.
func (d *Desk) PreviewRekey(r Rekeying) ([]string, error) {
	f, err := d.rekeying(r)
	if err != nil {
		return nil, err
	}
	return d.lines(f)
}

// Rekey answers the request of an enrolled box by a bundle as Enrol does: its keys get new certificates.
func (d *Desk) Rekey(r Rekeying) (sealed []byte, err error) {
	err = d.alone(func() error {
		f, err := d.rekeying(r)
		if err == nil {
			sealed, err = d.grant(f, actRekey)
		}
		return err
	})
	return sealed, err
}

func runRekey(args []string, out, talk io.Writer) error {
	var o order
	f := flags("rekey", talk)
	f.StringVar(&o.dir, "dir", "", "folder of the domain")
	f.StringVar(&o.manifest, "manifest", "", "manifest of the release that the box runs")
	f.StringVar(&o.request, "request", "", "new request of the box")
	f.StringVar(&o.name, "name", "", "name of the box")
	f.BoolVar(&o.asSeen, "firmware-as-seen", false, "take the machine's firmware as it reports it")
	f.BoolVar(&o.observed, "as-observed", false, "approve whatever registers the box reports")
	f.BoolVar(&o.dry, "dry-run", false, "check and say what would be signed, and do nothing")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	if err := need(f, "dir", "manifest", "request", "name"); err != nil {
		return err
	}
	d, r, err := o.open(f)
	if err != nil {
		return err
	}
	request, err := os.ReadFile(o.request)
	if err != nil {
		return fmt.Errorf("rekey: %w", err)
	}
	k := Rekeying{Request: request, Release: r, Name: o.name}
	lines, err := d.PreviewRekey(k)
	if err != nil {
		return err
	}
	return o.carryOut(f, out, lines, func() ([]byte, error) { return d.Rekey(k) })
}
