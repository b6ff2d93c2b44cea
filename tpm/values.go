package tpm

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/kra/label"
)

// readValues reads the label values of the folder whose signature by the domain checks, newest first; others are as if they were not
// there.
func (a *Agent) readValues() ([]label.SignedValue, error) {
	files, err := os.ReadDir(filepath.Join(string(a.folder), valuesDir))
	if err != nil {
		return nil, fmt.Errorf("read label values: %w", err)
	}
	var out []label.SignedValue
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") {
			continue
		}
		b, err := a.folder.read(filepath.Join(valuesDir, f.Name()))
		if err != nil {
			continue
		}
		if v, err := label.ParseValue(b); err == nil && v.Verify(a.domain) == nil {
			out = append(out, v)
		}
	}
	slices.SortStableFunc(out, func(v, w label.SignedValue) int { return cmp.Compare(w.Value.Version, v.Value.Version) })
	return out[:min(len(out), maxStored)], nil
}

// addValues stores values, one file for each: the same one again replaces itself.
func (a *Agent) addValues(vs []label.SignedValue) error {
	for _, v := range vs {
		id := sha256.Sum256(v.Bytes())
		name := filepath.Join(valuesDir, fmt.Sprintf("%d-%x.json", v.Value.Version, id[:8]))
		if old, err := a.folder.read(name); err == nil && bytes.Equal(old, v.Bytes()) {
			continue
		}
		if err := a.folder.write(name, v.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// valueOf is the value of a label, of the newest release whose registers are these.
func (a *Agent) valueOf(l label.ID, found label.PCRs) (best label.SignedValue, ok bool) {
	for _, v := range a.values {
		if v.Value.Label == l && maps.Equal(v.Value.PCRs, found) && (!ok || v.Value.Version > best.Value.Version) {
			best, ok = v, true
		}
	}
	return best, ok
}
