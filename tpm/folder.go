package tpm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
)

// Files in the state folder. None holds a secret in the clear: blobs are bound to the TPM, escrow to the domain.
const (
	akFile       = "ak.json"
	sealedFile   = "state.json"
	bundleFile   = "enrolment.pem"
	ownerFile    = "escrow-owner.age"
	lockoutFile  = "escrow-lockout.age"
	presenceFile = "escrow-presence.age"
	approvalsDir = "approvals"
	valuesDir    = "values"
	labelsDir    = "labels" // definitions
	zeroizedFile = "zeroized"
)

// labelFile holds the key of a label.
func labelFile(l label.ID) string { return "label-" + string(l) + ".json" }

// maxFile bounds a file of the folder.
const maxFile = 1 << 20

// A folder is tpmd's part of the state partition.
type folder string

func openFolder(path string) (folder, error) {
	for _, dir := range []string{approvalsDir, valuesDir, labelsDir} {
		if err := os.MkdirAll(filepath.Join(path, dir), 0o700); err != nil {
			return "", fmt.Errorf("open state folder: %w", err)
		}
	}
	return folder(path), nil
}

func (f folder) has(name string) bool {
	_, err := os.Stat(filepath.Join(string(f), name))
	return err == nil
}

// read gives nil where there is no such file.
func (f folder) read(name string) ([]byte, error) {
	path := filepath.Join(string(f), name)
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state file: %w", err)
	}
	if st.Size() == 0 || st.Size() > maxFile {
		return nil, fmt.Errorf("read state file %s: %d bytes, want 1 to %d", name, st.Size(), maxFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read state file: %w", err)
	}
	return b, nil
}

// write returns when the file is on the disk, whole, under its name: an old file is there until then.
func (f folder) write(name string, data []byte) error {
	path := filepath.Join(string(f), name)
	if err := writeSynced(path+".new", data); err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	return nil
}

// remove returns when the file is gone, or was never there.
func (f folder) remove(name string) error {
	if err := os.Remove(filepath.Join(string(f), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove state file: %w", err)
	}
	return syncFolder(string(f))
}

func writeSynced(path string, data []byte) error {
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return errors.Join(err, w.Sync(), w.Close())
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// storedBlob is a blob in a file; the last three are of label keys only, for TPM2_CertifyCreation.
type storedBlob struct {
	Public   []byte `json:"public"`
	Private  []byte `json:"private"`
	Creation []byte `json:"creation,omitempty"`
	Hash     []byte `json:"hash,omitempty"`
	Ticket   []byte `json:"ticket,omitempty"`
}

func (f folder) writeBlob(name string, b storedBlob) error {
	doc, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("write state file %s: %w", name, err)
	}
	return f.write(name, doc)
}

// errNoFile says that a blob was never made.
var errNoFile = errors.New("no such file")

func (f folder) readBlob(name string) (storedBlob, blob, error) {
	doc, err := f.read(name)
	if err != nil {
		return storedBlob{}, blob{}, err
	}
	if doc == nil {
		return storedBlob{}, blob{}, fmt.Errorf("read state file %s: %w", name, errNoFile)
	}
	s, b, err := parseBlob(doc)
	if err != nil {
		return s, b, fmt.Errorf("read state file %s: %w", name, err)
	}
	return s, b, nil
}

func parseBlob(doc []byte) (storedBlob, blob, error) {
	var s storedBlob
	if err := json.Unmarshal(doc, &s); err != nil {
		return s, blob{}, errors.New("damaged")
	}
	pub, err := tpm2.Unmarshal[tpm2.TPMTPublic](s.Public)
	if err != nil {
		return s, blob{}, errors.New("public area is damaged")
	}
	return s, blob{tpm2.New2B(*pub), tpm2.TPM2BPrivate{Buffer: s.Private}}, nil
}

func (b blob) stored() storedBlob {
	return storedBlob{Public: b.public.Bytes(), Private: b.private.Buffer}
}
