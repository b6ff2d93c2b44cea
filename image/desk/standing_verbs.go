package desk

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// About how a directory server is told.
const (
	postWithin = 30 * time.Second
	maxAnswer  = 4 << 10
)

// A standing is a revoke, grant or restore command, parsed.
type standing struct {
	dir, name, label, key, reason, to string
	dry                               bool
}

func (s *standing) parse(f *flag.FlagSet, args []string) (*Desk, Whom, error) {
	verb := f.Name()
	f.StringVar(&s.dir, "dir", "", "folder of the domain")
	f.StringVar(&s.name, "name", "", "name of the box or platform")
	f.StringVar(&s.key, "key", "", "SHA-256 of the public key (SubjectPublicKeyInfo) of a label or attestation key, in hex")
	f.StringVar(&s.label, "label", "", "only this label of it")
	f.StringVar(&s.reason, "reason", "", "why, for people")
	f.StringVar(&s.to, "to", "", "tell the domain's directory server at this URL")
	f.BoolVar(&s.dry, "dry-run", false, "say what would be signed, and do nothing")
	if _, err := parse(f, args, 0); err != nil {
		return nil, Whom{}, err
	}
	if err := need(f, "dir"); err != nil {
		return nil, Whom{}, err
	}
	w := Whom{Name: s.name, Reason: s.reason}
	if s.name == "" && s.key == "" {
		return nil, w, fmt.Errorf("%s: say whom: -name or -key", verb)
	}
	if s.key != "" {
		if err := w.Key.UnmarshalText([]byte(s.key)); err != nil {
			return nil, w, fmt.Errorf("%s: -key: %w", verb, err)
		}
	}
	if s.label != "" {
		var err error
		if w.Label, err = label.ParseID(s.label); err != nil {
			return nil, w, fmt.Errorf("%s: %w", verb, err)
		}
	}
	d, err := openDesk(f, s.dir)
	return d, w, err
}

func runRevoke(args []string, _, talk io.Writer) error {
	var s standing
	return s.run("revoke", args, talk, (*Desk).Revoke)
}

func runGrant(args []string, _, talk io.Writer) error {
	var s standing
	return s.run("grant", args, talk, (*Desk).Grant)
}

func runRestore(args []string, _, talk io.Writer) error {
	var s standing
	return s.run("restore", args, talk, (*Desk).Restore)
}

func (s *standing) run(verb string, args []string, talk io.Writer, do func(*Desk, Whom) (label.SignedPermissions, error)) error {
	f := flags(verb, talk)
	d, w, err := s.parse(f, args)
	if err != nil {
		return err
	}
	return s.decide(f, d, w, do)
}

func (s standing) decide(f *flag.FlagSet, d *Desk, w Whom, do func(*Desk, Whom) (label.SignedPermissions, error)) error {
	talk := f.Output()
	fmt.Fprintf(talk, "%s: %s\n", f.Name(), w)
	if f.Name() != "restore" {
		if known, err := d.concerns(w); err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		} else if !known {
			warn(talk, UnknownWarning)
		}
	}
	if s.dry {
		fmt.Fprintln(talk, nothingDone)
		return nil
	}
	if err := agree(f); err != nil {
		return err
	}
	p, err := do(d, w)
	if err != nil {
		return err
	}
	tell(talk, d, p)
	return d.post(s.to, talk, p)
}

// UnknownWarning is what a caller must tell who speaks of a platform that the domain has certified nothing for.
const UnknownWarning = "the domain's books have no such platform, label or key. If this is a slip, it does nothing to whom you mean: 'domain passport' lists the names."

// concerns says whether anything that the domain has certified falls under a word about somebody.
func (d *Desk) concerns(w Whom) (bool, error) {
	all, err := d.issued()
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(all, func(c issuedTo) bool {
		return (w.Name == "" || w.Name == c.name) && (w.Label == "" || w.Label == c.label) && (w.Key == label.Digest{} || w.Key == KeyOf(c.cert))
	}), nil
}

// tell says what was signed, and what has to happen for it to count.
func tell(talk io.Writer, d *Desk, s label.SignedPermissions) {
	p := s.Permissions
	fmt.Fprintf(talk, "permissions number %d: mode %s, %d entries, lowest epoch %d, until %s UTC\n%s\n%s\n", p.Sequence, p.Mode, len(p.Entries), p.MinEpoch,
		p.Until.Format(time.DateTime), filepath.Join(d.dir, PublicDir, PermissionsFile), filepath.Join(d.dir, RevokedFile))
}

func runPublish(args []string, out, talk io.Writer) error {
	f := flags("publish", talk)
	dir := f.String("dir", "", "folder of the domain")
	mode := f.String("mode", "", "attest: who is not granted may not; revoke: who is not revoked may")
	epoch := f.Uint64("min-epoch", 0, "no release of a lower epoch is believed; it never goes down")
	valid := f.Duration("valid", 0, "how long it holds; boxes and clients without anything newer stop then")
	to := f.String("to", "", "tell the domain's directory server at this URL")
	list := f.Bool("list", false, "show what holds, and sign nothing")
	dry := f.Bool("dry-run", false, "say what would be signed, and do nothing")
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
	t := Terms{Mode: label.Mode(*mode), MinEpoch: *epoch, Valid: *valid}
	switch {
	case *list:
		return d.listPermissions(out)
	case *dry:
		fmt.Fprintln(talk, nothingDone)
		return nil
	}
	if err := agree(f); err != nil {
		return err
	}
	p, err := d.Publish(t)
	if err != nil {
		return err
	}
	tell(talk, d, p)
	if _, err := out.Write(p.Armored()); err != nil {
		return err
	}
	return d.post(*to, talk, p)
}

func (d *Desk) listPermissions(out io.Writer) error {
	s, err := d.Permissions()
	if err != nil {
		return err
	}
	p := s.Permissions
	fmt.Fprintf(out, "number %d, mode %s, lowest epoch %d, until %s UTC\n", p.Sequence, p.Mode, p.MinEpoch, p.Until.Format(time.DateTime))
	for _, e := range p.Entries {
		fmt.Fprintf(out, "%-8s  %s  since %s  %s\n", e.State, Whom{Name: e.Name, Label: e.Label, Key: e.Key}, e.Since.Format(time.DateTime), e.Reason)
	}
	return nil
}

// post gives permissions, and the list of revoked certificates, to the domain's directory server. Both are signed: the connection need not be believed.
func (d *Desk) post(to string, talk io.Writer, s label.SignedPermissions) error {
	if to == "" {
		return nil
	}
	list, err := os.ReadFile(filepath.Join(d.dir, RevokedFile))
	if err != nil {
		return fmt.Errorf("tell directory: %w", err)
	}
	for _, p := range []struct {
		path, kind string
		data       []byte
	}{{"/v1/permissions", "application/json", s.Bytes()}, {"/v1/root.crl", "application/x-pem-file", list}} {
		if err := send(strings.TrimSuffix(to, "/")+p.path, p.kind, p.data); err != nil {
			return fmt.Errorf("tell directory: %w", err)
		}
	}
	fmt.Fprintln(talk, "the directory server has it:", to)
	return nil
}

func send(url, kind string, data []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), postWithin)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", kind)
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = a.Body.Close() }()
	if a.StatusCode == http.StatusNoContent {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(a.Body, maxAnswer))
	return fmt.Errorf("%s: %s: %q", url, a.Status, text)
}
