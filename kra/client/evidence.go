package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/keyrelease/krabox/kra/receipt"
)

// evidenceVersion is the first member of an evidence file.
const evidenceVersion = "kra evidence v1"

// EvidenceStart begins every line of an evidence file.
const EvidenceStart = `{"format":"` + evidenceVersion + `"`

// maxEvidence bounds an evidence file, in bytes.
const maxEvidence = receipt.MaxReceipt + receipt.MaxCheckpoint + 64<<10

// Evidence is a receipt with all that its verification needs except the domain root:
// the checkpoint that covers it, and the certificates of the key that signed that. It
// proves nothing before Verify.
type Evidence struct {
	receipt    receipt.Receipt
	raw        []byte
	checkpoint string
	path       receipt.Path
}

type evidenceFile struct {
	Version    string          `json:"format"`
	Receipt    json.RawMessage `json:"receipt"`
	Checkpoint string          `json:"checkpoint"`
	Chain      string          `json:"chain"`
}

func evidenceOf(raw []byte, checkpoint, chain string) (Evidence, error) {
	r, err := receipt.ParseReceipt(raw)
	if err != nil {
		return Evidence{}, err
	}
	p, err := receipt.ParsePath(chain)
	if err != nil {
		return Evidence{}, err
	}
	return Evidence{receipt: r, raw: bytes.Clone(raw), checkpoint: checkpoint, path: p}, nil
}

// ParseEvidence reads what Encode wrote, and nothing else.
func ParseEvidence(b []byte) (Evidence, error) {
	if len(b) > maxEvidence {
		return Evidence{}, fmt.Errorf("parse evidence: longer than %d bytes", maxEvidence)
	}
	var f evidenceFile
	if err := json.Unmarshal(b, &f); err != nil {
		return Evidence{}, fmt.Errorf("parse evidence: %w", err)
	}
	if f.Version != evidenceVersion {
		return Evidence{}, fmt.Errorf("parse evidence: format is not %q", evidenceVersion)
	}
	e, err := evidenceOf(f.Receipt, f.Checkpoint, f.Chain)
	if err != nil {
		return Evidence{}, fmt.Errorf("parse evidence: %w", err)
	}
	if !bytes.Equal(e.Encode(), b) {
		return Evidence{}, errors.New("parse evidence: not in its one encoding")
	}
	return e, nil
}

// Empty reports whether there is none: the key did not come from an agent.
func (e Evidence) Empty() bool { return len(e.raw) == 0 }

// Encode returns the evidence as a line of JSON, to be kept beside the block.
func (e Evidence) Encode() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	// Cannot fail: the receipt was parsed, the rest is text.
	_ = enc.Encode(evidenceFile{evidenceVersion, e.raw, e.checkpoint, e.path.PEM()})
	return b.Bytes()
}

// Verify checks the receipt up to the domain root. It needs no network and no clock.
func (e Evidence) Verify(t Trust) (receipt.Verified, error) {
	return receipt.Verify(e.receipt, e.checkpoint, e.path, t.Roots())
}

// Held returns the evidence in the form that receipt.VerifyExport holds against a log.
func (e Evidence) Held() receipt.Evidence {
	return receipt.Evidence{Checkpoint: e.checkpoint, Path: e.path, Receipt: &e.receipt}
}
