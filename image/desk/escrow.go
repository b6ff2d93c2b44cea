package desk

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"github.com/keyrelease/krabox/kra/label"
)

// maxSecret bounds an escrowed secret.
const maxSecret = 1 << 10

// Secrets are a box's owner secrets, as the domain keeps them: it needs them to clear, re-own or repair the TPM, and the
// presence passphrase for its operators.
type Secrets struct{ Owner, Lockout, Presence string }

// Escrow opens the escrow of a request. Only the holder of the domain's escrow key can.
func (d *Desk) Escrow(text []byte) (Secrets, error) {
	r, err := label.ParseRequest(text)
	if err != nil {
		return Secrets{}, err
	}
	s, err := d.secrets(r.Escrow)
	if err != nil {
		return Secrets{}, err
	}
	return s, d.note(actEscrow, label.NameOf(r.AK).Fingerprint(), map[string]string{factRequest: r.Digest().String()})
}

func (d *Desk) secrets(e label.Escrow) (s Secrets, err error) {
	for _, x := range []struct {
		from []byte
		to   *string
	}{{e.Owner, &s.Owner}, {e.Lockout, &s.Lockout}, {e.Presence, &s.Presence}} {
		r, err := age.Decrypt(bytes.NewReader(x.from), d.escrow)
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

func readEscrow(path string) (*age.X25519Identity, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	id, err := age.ParseX25519Identity(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("%s holds no age identity", path)
	}
	return id, nil
}
