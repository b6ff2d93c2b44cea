package desk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
)

// maxSecret bounds an escrowed secret.
const maxSecret = 1 << 10

// Secrets are a box's owner secrets, as the domain keeps them: it needs them to clear, re-own or repair the TPM, and the
// presence passphrase for its operators.
type Secrets struct{ Owner, Lockout, Presence string }

// Escrow opens the escrow of a request. Only the holder of the domain's escrow key can, and it does so only for a platform in its
// books: the attestation key that vouches for the request must be the one that was enrolled. Otherwise who copied a box's
// escrow into a request of his own would have it opened as his.
func (d *Desk) Escrow(text []byte) (Secrets, error) {
	v, e, err := d.escrowOf(text)
	if err != nil {
		return Secrets{}, err
	}
	s, err := d.secrets(v.Request.Escrow)
	if err != nil {
		return Secrets{}, err
	}
	return s, d.note(actEscrow, e.Box.Name, map[string]string{factRequest: v.Request.Statement().String(), "ak": v.AK.String()})
}

func (d *Desk) escrowOf(text []byte) (tpm.Verified, *label.Enrolment, error) {
	r, err := label.ParseRequest(text)
	if err != nil {
		return tpm.Verified{}, nil, err
	}
	v, err := tpm.VerifyRequest(r, d.domain)
	if err != nil {
		return v, nil, err
	}
	all, err := d.books()
	if err != nil {
		return v, nil, err
	}
	for _, e := range all {
		if e.Passport.AK == v.AK && e.Passport.EK == v.EK && e.Passport.SRK == v.SRK {
			return v, e, nil
		}
	}
	return v, nil, fmt.Errorf("open escrow: the request is of a platform that this domain has not enrolled: fingerprint %s", r.Fingerprint())
}

func (d *Desk) secrets(e label.Escrow) (s Secrets, err error) {
	key, err := d.opener()
	if err != nil {
		return s, err
	}
	for _, x := range []struct {
		from []byte
		to   *string
	}{{e.Owner, &s.Owner}, {e.Lockout, &s.Lockout}, {e.Presence, &s.Presence}} {
		r, err := age.Decrypt(bytes.NewReader(x.from), key)
		if err != nil {
			return Secrets{}, fmt.Errorf("open escrow: not encrypted to this domain: %w", err)
		}
		b, err := io.ReadAll(io.LimitReader(r, maxSecret))
		if err != nil || len(b) == 0 {
			return Secrets{}, fmt.Errorf("open escrow: damaged: %w", err)
		}
		*x.to = string(b)
	}
	return s, nil
}

// opener is the key that escrow is encrypted to.
func (d *Desk) opener() (age.Identity, error) {
	b, err := d.secret(escrowKey)
	if err != nil {
		return nil, fmt.Errorf("open escrow key: %w", err)
	}
	defer clear(b)
	id, err := age.ParseX25519Identity(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, errors.New("open escrow key: the file holds no age identity")
	}
	if id.Recipient().String() != d.domain.Escrow {
		return nil, errors.New("open escrow key: it is another key than the domain's")
	}
	return id, nil
}

func runEscrow(args []string, out, talk io.Writer) error {
	f := flags("escrow", talk)
	dir := f.String("dir", "", "folder of the domain")
	request := f.String("request", "", "enrolment request of the box")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	if err := need(f, "dir", "request"); err != nil {
		return err
	}
	d, err := openDesk(f, *dir)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(*request)
	if err != nil {
		return fmt.Errorf("escrow: %w", err)
	}
	_, e, err := d.escrowOf(text)
	if err != nil {
		return err
	}
	return do(f, false, []string{"to show    the owner secrets of " + e.Box.Name + ", here and now, and to note that in the journal"}, func() error {
		s, err := d.Escrow(text)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "ownerAuth (hex)      %s\nlockoutAuth (hex)    %s\npresence passphrase  %s\n", s.Owner, s.Lockout, s.Presence)
		return err
	})
}
