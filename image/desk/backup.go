package desk

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

const actBackup = "approve-backup-key"

const (
	factFingerprint = "fingerprint"
	factOpenedBy    = "opened-by"
)

const maxBackupRequest = 256 << 10 // bytes of a file; a request has some 80 KiB at most

// BackupWarning is what a caller must tell who approves a backup key.
const BackupWarning = "the box made this key, and says so while its software is approved: that nobody else knows what opens it is its word.\n" +
	"Compare the fingerprint with that on the papers of the shares, or on the encrypted text, and approve none that you do not expect."

// A backupRequest is a box's request for a backup key, and what the domain makes of it.
type backupRequest struct {
	key    label.BackupKey
	by     label.Member
	number uint64       // that its approval has
	again  bool         // it was approved, and is the newest of its box
	last   *label.Entry // the newest approval of its box before it; nil if it is the first
}

// examineBackup checks a request and changes nothing.
func (d *Desk) examineBackup(text []byte) (q backupRequest, err error) {
	if q.key, q.by, err = label.OpenBackupKey(text, d.domain, time.Now()); err != nil {
		return q, err
	}
	e, err := d.record(q.by.Box)
	if err != nil {
		return q, fmt.Errorf("approve backup key: %w", err)
	}
	if err := d.enrolledKey(e, q.by.Key); err != nil {
		return q, fmt.Errorf("approve backup key: %w", err)
	}
	all, err := d.backupKeys()
	if err != nil {
		return q, err
	}
	for i, a := range all {
		n, err := strconv.ParseUint(a.Facts[factNumber], 10, 64)
		if err != nil || n < q.number {
			return q, fmt.Errorf("approve backup key: journal, entry %d: its backup key has no number, or not the next", a.Sequence)
		}
		q.number = n + 1
		if a.Subject == q.by.Box {
			q.last = &all[i]
		}
	}
	q.number = max(q.number, 1)
	return q, q.answered(all)
}

// answered looks for an answer that the request has had. The newest of its box is given again, under its number, as often as it is asked
// for: a paper that got lost costs nobody a new key. An older one is not.
func (q *backupRequest) answered(all []label.Entry) error {
	i := slices.IndexFunc(all, func(e label.Entry) bool { return e.Facts[factRequest] == q.key.Digest().String() })
	switch {
	case i < 0:
		return nil
	case q.last == nil || q.last.Sequence != all[i].Sequence:
		return fmt.Errorf("approve backup key: this one was approved on %s, and a newer one of %s since: an older one does not come back", all[i].Time.Format(time.DateTime), q.by.Box)
	}
	n, err := strconv.ParseUint(all[i].Facts[factNumber], 10, 64)
	q.number, q.again = n, true
	return err
}

// enrolledKey refuses a label key that is not the one which the box was certified for last, or that is revoked.
func (d *Desk) enrolledKey(e *label.Enrolment, key label.Digest) error {
	certificates, err := d.issued()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(certificates, func(c issuedTo) bool {
		return c.name == e.Box.Name && c.label == label.KeyRelease && KeyOf(c.cert) == key
	})
	if i < 0 {
		return fmt.Errorf("the label key %s is not the one that %s has now: it was enrolled anew since; have the request made again", key.Short(), e.Box.Name)
	}
	p, err := d.Permissions()
	if err != nil {
		return err
	}
	if r, ok := certificates[i].revokedBy(p.Permissions); ok {
		return fmt.Errorf("%s is revoked since %s", e.Box.Name, r.Since.Format(time.DateTime))
	}
	return nil
}

// openedBy is the kind of a backup key as a fact, which has no room for long lists of recipients.
func openedBy(k label.BackupKey) string {
	if text := k.Kind(); len(text) <= label.MaxFact {
		return text
	}
	return fmt.Sprintf("%d recipients of age, SHA-256 of their lines %s", len(k.Recipients), digest([]byte(strings.Join(k.Recipients, "\n")+"\n")))
}

// backupKeys are the journal's entries about them.
func (d *Desk) backupKeys() ([]label.Entry, error) {
	all, _, err := d.Journal()
	return slices.DeleteFunc(all, func(e label.Entry) bool { return e.Act != actBackup }), err
}

// PreviewBackupKey says what ApproveBackupKey would do, line by line, and does nothing.
func (d *Desk) PreviewBackupKey(request []byte) ([]string, error) {
	q, err := d.examineBackup(request)
	if err != nil {
		return nil, err
	}
	lines := []string{
		"box        " + q.by.Box + ", as it is enrolled now, in an approved state",
		"label key  " + q.by.Key.String(),
		"opened by  " + q.key.Kind(),
		"           fingerprint " + q.key.Fingerprint(),
	}
	switch {
	case q.again:
		lines = append(lines, fmt.Sprintf("again      number %d, as on %s", q.number, q.last.Time.Format(time.DateTime)))
	case q.last != nil:
		lines = append(lines, fmt.Sprintf("replaces   number %s, fingerprint %s, of %s", q.last.Facts[factNumber], q.last.Facts[factFingerprint], q.last.Time.Format(time.DateTime)))
	}
	return append(lines, fmt.Sprintf("to sign    backup key number %d: %s will give its state and every replicable key to whoever opens it", q.number, q.by.Box)), nil
}

// ApproveBackupKey answers a box's request: its token takes no backup key that the domain has not approved.
func (d *Desk) ApproveBackupKey(request []byte) (approval []byte, err error) {
	err = d.alone(func() error {
		q, err := d.examineBackup(request)
		if err != nil {
			return err
		}
		if approval, err = (label.BackupApproval{Number: q.number, Key: q.key}).Sign(d.key); err != nil || q.again {
			return err
		}
		facts := map[string]string{factRequest: q.key.Digest().String(), factNumber: strconv.FormatUint(q.number, 10), factFingerprint: q.key.Fingerprint(),
			factKey: q.by.Key.String(), factOpenedBy: openedBy(q.key)}
		if err := d.note(actBackup, q.by.Box, facts); err != nil {
			approval = nil
			return err
		}
		return nil
	})
	return approval, err
}

func runBackup(args []string, out, talk io.Writer) error {
	f := flags("backup", talk)
	dir := f.String("dir", "", "folder of the domain")
	request := f.String("request", "", "request for a backup key, as the box's console printed it")
	dry := f.Bool("dry-run", false, "check and say what would be signed, and do nothing")
	d, verb, err := openFor(f, args, dir, "approve", "list")
	if err != nil {
		return err
	}
	if verb == "list" {
		return d.listBackupKeys(f, out)
	}
	if err := need(f, "request"); err != nil {
		return err
	}
	text, err := readFile(*request, maxBackupRequest)
	if err != nil {
		return fmt.Errorf("backup approve: %w", err)
	}
	lines, err := d.PreviewBackupKey(text)
	if err != nil {
		return err
	}
	warn(talk, BackupWarning)
	return order{dry: *dry}.carryOut(f, out, lines, func() ([]byte, error) { return d.ApproveBackupKey(text) })
}

func (d *Desk) listBackupKeys(f *flag.FlagSet, out io.Writer) error {
	if given(f, "request") != "" {
		return errors.New("backup list: it takes no -request")
	}
	all, err := d.backupKeys()
	for _, e := range all {
		fmt.Fprintf(out, "%-4s %-20s %s  %s\n     %s\n", e.Facts[factNumber], e.Subject, e.Time.Format(time.DateTime), e.Facts[factFingerprint], e.Facts[factOpenedBy])
	}
	return err
}
