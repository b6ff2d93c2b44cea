package tpm

import (
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
	a.approvals, a.chosen = approvals, nil
	a.enrolment, a.spoilt = a.readEnrolment()
	return nil
}

// readEnrolment gives nil where there is none.
func (a *Agent) readEnrolment() (*label.Enrolment, error) {
	text, err := a.folder.read(bundleFile)
	if err != nil || text == nil {
		return nil, err
	}
	b, err := label.OpenBundle(text, a.domain)
	if err == nil && b.Enrolment == nil {
		err = errors.New("it holds approvals only")
	}
	return b.Enrolment, err
}

// maxStored bounds the approvals on the disk: releases times firmware sets times two.
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
		if p.Kind == label.Epoch || p.Label != a.label {
			continue
		}
		id := sha256.Sum256(append([]byte(p.By.String()+p.Kind.String()), p.Policy[:]...))
		name := filepath.Join(approvalsDir, fmt.Sprintf("%s-%d-%x.json", p.Kind, p.Version, id[:8]))
		if old, err := a.folder.read(name); err != nil || old == nil {
			added++
		}
		if err := a.folder.write(name, p.Bytes()); err != nil {
			return added, err
		}
	}
	return added, nil
}
