package desk

import (
	"crypto/sha256"
	"crypto/x509/pkix"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/keyrelease/krabox/kra/label"
)

const (
	labelsDir      = "labels" // LABEL.txt: what the label's service is
	maxDescription = label.MaxExplanation
)

// PublicDir is the part of a domain's folder that an HTTP server of the domain may serve as it is: descriptions lie there under
// the paths of RFC 6920.
const PublicDir = "public"

//go:embed labels
var descriptions embed.FS

// described refers a label certificate to the label's description as it is now, and publishes that.
func (d *Desk) described(l label.ID) (pkix.Extension, error) {
	text, err := d.description(l)
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("describe label: %w", err)
	}
	path := filepath.Join(d.dir, PublicDir, label.DescriptionPath(sha256.Sum256(text)))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return pkix.Extension{}, fmt.Errorf("describe label: %w", err)
	}
	if err := writeWhole(path, text, 0o644); err != nil {
		return pkix.Extension{}, fmt.Errorf("describe label: %w", err)
	}
	return label.DescriptionExtension(d.domain.DescriptionURI(text))
}

// description is the domain's own text, which begins as ours.
func (d *Desk) description(l label.ID) ([]byte, error) {
	path := filepath.Join(d.dir, labelsDir, string(l)+".txt")
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && label.IsBuiltin(l) {
		ours, err := descriptions.ReadFile("labels/" + string(l) + ".txt")
		if err != nil {
			return nil, err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		return ours, writeWhole(path, ours, 0o644)
	}
	if err != nil {
		return nil, err
	}
	if st.Size() == 0 || st.Size() > maxDescription {
		return nil, fmt.Errorf("%s has %d bytes, want 1 to %d", path, st.Size(), maxDescription)
	}
	text, err := os.ReadFile(path)
	if err == nil && !utf8.Valid(text) {
		return nil, fmt.Errorf("%s is not UTF-8", path)
	}
	return text, err
}
