package desk

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/keyrelease/krabox/kra/label"
)

// A Manifest is what the desk needs to know of a release: dist/kra.json has it, with more.
type Manifest struct {
	Version string       `json:"version"`
	Epoch   uint64       `json:"epoch"`
	Commit  string       `json:"commit"`
	Domain  Hash         `json:"domain"`
	PCR4    label.Digest `json:"pcr4"`
	PCR7    label.Digest `json:"pcr7"`
	PCR11   label.Digest `json:"pcr11"`

	Files map[string]Hash `json:"files"` // by name in dist/
}

// A Hash names a file by its hash, or a domain by that of its public part.
type Hash struct {
	SHA256 label.Digest `json:"sha256"`
}

// ParseManifest reads a release's manifest.
func ParseManifest(b []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("parse manifest: %w", err)
	}
	if m.Version == "" || m.Epoch == 0 {
		return m, errors.New("parse manifest: it names no version or no epoch")
	}
	return m, nil
}

// Description is how approvals call the release.
func (m Manifest) Description() string {
	if m.Commit == "" {
		return m.Version
	}
	return fmt.Sprintf("%s (%.12s)", m.Version, m.Commit)
}

// image is the hash of the UKI, zero where there is none.
func (m Manifest) image() label.Digest { return m.Files["kra.efi"].SHA256 }

// predicted are the registers that the build knows beforehand.
func (m Manifest) predicted() label.PCRs {
	return label.PCRs{4: m.PCR4, 7: m.PCR7, 11: m.PCR11}
}

// complete refuses a manifest that leaves out a prediction: the register would be whatever the box says.
func (m Manifest) complete() error {
	v := m.predicted()
	for _, i := range slices.Sorted(maps.Keys(v)) {
		if v[i] == (label.Digest{}) {
			return fmt.Errorf("approve release: the manifest of %s predicts no PCR %d; for a server without measured boot say so (-as-observed)", m.Version, i)
		}
	}
	if m.Domain.SHA256 == (label.Digest{}) {
		return fmt.Errorf("approve release: the manifest of %s does not say for which domain it was built; for a server without measured boot say so (-as-observed)", m.Version)
	}
	return nil
}
