package tpm

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/keyrelease/krabox/kra/label"
)

// reload reads approvals and enrolment from the folder and checks the domain's signatures again: the disk is not
// trusted. An approval that does not check is left out, as if it were not there.
func (a *Agent) reload() error {
	approvals, err := a.readApprovals()
	if err != nil {
		return err
	}
	if a.values, err = a.readValues(); err != nil {
		return err
	}
	if a.defined, err = a.readDefinitions(); err != nil {
		return err
	}
	a.approvals, a.chosen = approvals, map[label.ID]granted{}
	a.enrolment, a.sequence, a.spoilt = a.readEnrolment()
	return nil
}

// readDefinitions reads what the domain defined beside the built-in labels; what does not check is left out.
func (a *Agent) readDefinitions() ([]label.Definition, error) {
	files, err := os.ReadDir(filepath.Join(string(a.folder), labelsDir))
	if err != nil {
		return nil, fmt.Errorf("read label definitions: %w", err)
	}
	var out []label.Definition
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") || len(out) == label.MaxApprovals {
			continue
		}
		b, err := a.folder.read(filepath.Join(labelsDir, f.Name()))
		if err != nil {
			continue
		}
		if s, err := label.ParseDefinition(b); err == nil && s.Verify(a.domain) == nil {
			out = append(out, s.Definition)
		}
	}
	return out, nil
}

// addDefinitions stores definitions, one file for each label.
func (a *Agent) addDefinitions(all []label.SignedDefinition) error {
	for _, s := range all {
		if err := a.folder.write(filepath.Join(labelsDir, string(s.Definition.Label)+".json"), s.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// readEnrolment gives nil where there is none.
func (a *Agent) readEnrolment() (*label.Enrolment, uint64, error) {
	text, err := a.folder.read(bundleFile)
	if err != nil || text == nil {
		return nil, 0, err
	}
	b, err := label.OpenBundle(text, a.domain)
	if err == nil && b.Enrolment == nil {
		err = errors.New("it holds approvals only")
	}
	return b.Enrolment, b.Sequence, err
}

// maxStored bounds the approvals on the disk: releases times firmware sets times labels and stages.
const maxStored = 1024

func (a *Agent) readApprovals() ([]label.Approval, error) {
	files, err := os.ReadDir(filepath.Join(string(a.folder), approvalsDir))
	if err != nil {
		return nil, fmt.Errorf("read approvals: %w", err)
	}
	var out []label.Approval
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") {
			continue
		}
		b, err := a.folder.read(filepath.Join(approvalsDir, f.Name()))
		if err != nil {
			continue
		}
		p, err := label.ParseApproval(b)
		if err == nil && a.check(p) == nil {
			out = append(out, p)
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Version > out[j].Version })
	return out[:min(len(out), maxStored)], nil
}

// addApprovals stores approvals, one file for each policy and key: the same one again replaces itself. It says how many
// are new.
func (a *Agent) addApprovals(as []label.Approval) (int, error) {
	added := 0
	for _, p := range as {
		if p.Kind == label.Epoch && !p.Advances() {
			continue // it comes with an enrolment
		}
		id := sha256.Sum256(append([]byte(p.By.String()+" "+p.Kind.String()+" "+string(p.Label)+" "), p.Policy[:]...))
		name := filepath.Join(approvalsDir, fmt.Sprintf("%s-%d-%x.json", p.Kind, p.Version, id[:8]))
		old, err := a.folder.read(name)
		if err == nil && bytes.Equal(old, p.Bytes()) {
			continue // it is there; a preloaded bundle comes at each boot
		}
		if err != nil || old == nil {
			added++
		}
		if err := a.folder.write(name, p.Bytes()); err != nil {
			return added, err
		}
	}
	return added, nil
}
