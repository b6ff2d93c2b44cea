package desk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
)

// An Admission is a box to take into service: what it asks for, under which release, and on whose word. The zero word is the
// strict one.
type Admission struct {
	Request []byte
	Release Release
	Box     label.Box
	Officer label.Officer

	// Seen is the fingerprint that the officer has read at the box's console. Empty: a maker whom the domain believes must have
	// certified the TPM.
	Seen string
	// Replace allows that the name, or the platform, is in the desk's books already under another.
	Replace bool
}

// SeenWarning is what a caller must tell who admits a box by its fingerprint.
const SeenWarning = "no maker vouches for this TPM: the domain takes your word that the fingerprint stands on the console of the box that you mean.\n" +
	"A software TPM can be copied, and a false one can claim anything about the box."

// FirmwareWarning is what a caller must tell who takes firmware as seen.
const FirmwareWarning = "the firmware is taken as the box reports it: nobody has compared it with what its maker ships.\n" +
	"Malicious firmware can forge everything that is measured after it.\n" +
	"The approvals count on every box of the domain with this firmware, not only on this one."

// A finding is an admission that may be granted, and what was found on the way.
type finding struct {
	Admission
	verified tpm.Verified
	labels   []label.Definition
	tpm      string   // on whose word it is genuine
	firmware string   // likewise
	replaces []string // names in the books that go
}

// examine checks an admission and changes nothing.
func (d *Desk) examine(a Admission) (finding, error) {
	f := finding{Admission: a}
	if err := d.releasable(a.Release); err != nil {
		return f, err
	}
	q, err := label.ParseRequest(a.Request)
	if err != nil {
		return f, err
	}
	if f.verified, err = tpm.VerifyRequest(q, d.domain); err != nil {
		return f, err
	}
	if f.labels, err = d.asksFor(f.verified); err != nil {
		return f, err
	}
	if err := d.acceptable(f.verified, a.Release); err != nil {
		return f, err
	}
	if f.tpm, err = d.vouched(f.verified, a.Seen); err != nil {
		return f, err
	}
	if f.firmware, err = d.firmwareWord(f.verified, a.Release); err != nil {
		return f, err
	}
	if err := d.unanswered(q.Statement(), "enrol request", actEnrol, actRekey); err != nil {
		return f, err
	}
	f.replaces, err = d.newcomer(f)
	return f, err
}

// vouched says on whose word the TPM is genuine: a maker's, or the officer's who read the fingerprint at the console.
func (d *Desk) vouched(v tpm.Verified, seen string) (string, error) {
	if seen == "" {
		m, err := d.genuine(v)
		return "genuine: " + m.String(), err
	}
	if is := v.Request.Fingerprint(); !strings.EqualFold(strings.ReplaceAll(seen, "-", ""), strings.ReplaceAll(is, "-", "")) {
		return "", fmt.Errorf("approve box: the request is not from the box whose console you read: its fingerprint is %s, you read %.80q", is, seen)
	}
	return "first seen, on your word: fingerprint " + v.Request.Fingerprint(), nil
}

// vouchedLike says on whose word the TPM of a machine to approve for is genuine: an enrolment's, a maker's, or the officer's who read one of
// the fingerprints at its console.
func (d *Desk) vouchedLike(v tpm.Verified, seen []string) (string, error) {
	all, err := d.books()
	if err != nil {
		return "", err
	}
	for _, e := range all {
		if e.Passport.AK == v.AK {
			return "enrolled as " + e.Box.Name, nil
		}
	}
	for _, s := range seen {
		if word, err := d.vouched(v, s); s != "" && err == nil {
			return word, nil
		}
	}
	return d.vouched(v, "")
}

func (d *Desk) firmwareWord(v tpm.Verified, r Release) (string, error) {
	switch {
	case r.Trust == AsObserved:
		return notMeasured, nil
	case r.FirmwareAsSeen:
		return "as seen, on your word: " + firmwareOf(v).String(), nil
	}
	if err := d.listed(firmwareOf(v)); err != nil {
		return "", fmt.Errorf("approve box: %w", err)
	}
	return "on the list: " + firmwareOf(v).String(), nil
}

// unanswered refuses a request that the domain has answered by one of these acts: a captured one would otherwise be good for ever.
func (d *Desk) unanswered(statement label.Digest, again string, by ...string) error {
	all, _, err := d.Journal()
	if err != nil {
		return err
	}
	for _, e := range all {
		if slices.Contains(by, e.Act) && e.Facts[factRequest] == statement.String() {
			return fmt.Errorf("answer request: this request was answered on %s for %s: have a new one made (%s)", e.Time.Format("2006-01-02 15:04:05"), e.Subject, again)
		}
	}
	return nil
}

// newcomer refuses a second platform under a name, and a second name for a platform. It gives the names that are replaced.
func (d *Desk) newcomer(f finding) (replaces []string, err error) {
	if _, err := os.Lstat(d.platformFile(f.Box.Name)); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("approve box: %s is the name of a platform in the books: choose another", f.Box.Name), err)
	}
	all, err := d.books()
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		same, name := e.Passport.EK == f.verified.EK, e.Box.Name == f.Box.Name
		switch {
		case same == name:
			continue
		case f.Replace:
			replaces = append(replaces, e.Box.Name)
		case name:
			return nil, fmt.Errorf("approve box: %s is another platform in the books: its endorsement key is %s, this one's %s; choose another name, or say -replace",
				e.Box.Name, e.Passport.EK.Short(), f.verified.EK.Short())
		default:
			return nil, fmt.Errorf("approve box: this platform is in the books as %s; say -replace to enrol it under another name", e.Box.Name)
		}
	}
	return replaces, nil
}

// Preview says what Enrol would do, line by line, and does nothing.
func (d *Desk) Preview(a Admission) ([]string, error) {
	f, err := d.examine(a)
	if err != nil {
		return nil, err
	}
	return d.lines(f)
}

func (d *Desk) lines(f finding) ([]string, error) {
	v, q, a := f.verified, f.verified.Request, f.Admission
	values, err := a.Release.values(q.PCRs)
	if err != nil {
		return nil, err
	}
	n, err := d.count(f.labels)
	if err != nil {
		return nil, err
	}
	lines := []string{
		fmt.Sprintf("box        %s, %s", a.Box.Name, strings.Join(names(a.Box), ", ")),
		fmt.Sprintf("machine    %s, number %s (its own words)", q.Model, q.Serial),
		fmt.Sprintf("platform   endorsement key %s, attestation key %s", v.EK.Short(), v.AK.Short()),
		"TPM        " + f.tpm,
		"firmware   " + f.firmware,
		fmt.Sprintf("release    %s, epoch %d", a.Release.Description(), a.Release.Epoch),
		fmt.Sprintf("officer    %s", a.Officer.Name),
		"owner      its secrets are escrowed; that they open this TPM shows only when they are used",
		"labels     " + labelNames(f.labels),
		fmt.Sprintf("to sign    label and platform certificates for %d years, first epoch, %d approvals; sealed to this TPM", labelLife, n),
	}
	lines = append(lines, registers(values)...)
	if len(f.replaces) > 0 {
		lines = append(lines, "replaces   "+strings.Join(f.replaces, ", ")+" in the desk's books; their keys are revoked under that name: give the new permissions to the boxes (domain publish)")
	}
	return lines, nil
}

func names(b label.Box) []string {
	out := append([]string{}, b.DNS...)
	for _, a := range b.IP {
		out = append(out, a.String())
	}
	return out
}

// Fingerprint is that of the attestation key in a request, as the console of the box shows it.
func Fingerprint(request []byte) (string, error) {
	q, err := label.ParseRequest(request)
	if err != nil {
		return "", errors.New("read fingerprint: not a request")
	}
	return q.Fingerprint(), nil
}
