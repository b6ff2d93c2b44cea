package backup

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// ToAge encrypts a share's text to recipients of age.
func ToAge(s Share, recipients []string) ([]byte, error) {
	to, err := age.ParseRecipients(strings.NewReader(strings.Join(recipients, "\n")))
	if err != nil {
		return nil, fmt.Errorf("read recipients: %w", err)
	}
	var b bytes.Buffer
	a := armor.NewWriter(&b)
	w, err := age.Encrypt(a, to...)
	if err != nil {
		return nil, fmt.Errorf("encrypt to recipients: %w", err)
	}
	if _, err := io.WriteString(w, s.Text()); err != nil {
		return nil, fmt.Errorf("encrypt to recipients: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encrypt to recipients: %w", err)
	}
	if err := a.Close(); err != nil {
		return nil, fmt.Errorf("encrypt to recipients: %w", err)
	}
	return b.Bytes(), nil
}
