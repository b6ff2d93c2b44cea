// Package receipt is the written evidence of the release log: records, checkpoints, receipts and exports, and how
// anyone who trusts the domain root verifies them offline.
//
//	record      public part (canonical JSON) ‖ commitment to the private part      one leaf of the Merkle tree
//	checkpoint  signed note over tree size, root, HSM chain head, generation        one per batch
//	receipt     public part, commitment, inclusion proof                            one per record, given with the key
//	export      JSON lines: records and checkpoints in log order                    for the auditor
//
// The note's key is the box's receipt key. Its certificate path ends at the domain root and travels with the
// checkpoint; it is verified at the checkpoint's own time, so that a receipt outlives its certificate.
package receipt

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"
)

// MaxReceipt bounds the JSON form of a receipt, in bytes.
const MaxReceipt = MaxPublic + 16<<10

// maxProof is the longest inclusion proof of a tree whose size fits 63 bits.
const maxProof = 63

// A Receipt is the claim that a record stands at Index of the log, with the proof that a checkpoint covers it.
// It proves nothing before Verify has accepted it.
type Receipt struct {
	Index      int64            `json:"index"`      // position in the log, from 0
	Public     json.RawMessage  `json:"public"`     // canonical JSON of a Public
	Commitment Hash             `json:"commitment"` // commitment to the private part, see Record
	Proof      tlog.RecordProof `json:"proof"`      // inclusion proof up to the checkpoint's root, RFC 6962 order
}

// Append appends the one JSON form of the receipt to b: what encoding/json would write, without its cost.
func (r Receipt) Append(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"index":`...), r.Index, 10)
	b = append(append(b, `,"public":`...), r.Public...)
	b = hex.AppendEncode(append(b, `,"commitment":"`...), r.Commitment[:])
	if r.Proof == nil {
		return append(b, `","proof":null}`...)
	}
	b = append(b, `","proof":[`...)
	for i, h := range r.Proof {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(base64.StdEncoding.AppendEncode(append(b, '"'), h[:]), '"')
	}
	return append(b, "]}"...)
}

// ParseReceipt reads the one JSON form of a receipt and refuses every other.
func ParseReceipt(data []byte) (Receipt, error) {
	var r Receipt
	if len(data) > MaxReceipt {
		return Receipt{}, fmt.Errorf("parse receipt: longer than %d bytes", MaxReceipt)
	}
	if err := canonical(data, &r); err != nil {
		return Receipt{}, fmt.Errorf("parse receipt: %w", err)
	}
	if _, err := ParsePublic(r.Public); err != nil {
		return Receipt{}, fmt.Errorf("parse receipt: %w", err)
	}
	if r.Index < 0 || len(r.Proof) > maxProof {
		return Receipt{}, fmt.Errorf("parse receipt: index or proof out of range")
	}
	return r, nil
}

// A Verified is a receipt that was checked up to the domain root. Only Verify makes one.
type Verified struct {
	public     Public
	index      int64
	checkpoint Checkpoint
	name       Name
}

// Public returns the public part of the record.
func (v Verified) Public() Public { return v.public }

// Index returns the record's position in the log.
func (v Verified) Index() int64 { return v.index }

// Checkpoint returns the checkpoint that covers the record.
func (v Verified) Checkpoint() Checkpoint { return v.checkpoint }

// Name returns the domain and box whose receipt key signed.
func (v Verified) Name() Name { return v.name }

// Verify checks that r is included in the tree of the signed checkpoint (a note), whose signing key the path
// certifies, at the checkpoint's own time, up to one of the roots. It needs no network and no clock.
func Verify(r Receipt, checkpoint string, path Path, roots *x509.CertPool) (Verified, error) {
	c, name, err := VerifyCheckpoint(checkpoint, path, roots)
	if err != nil {
		return Verified{}, fmt.Errorf("verify receipt: %w", err)
	}
	p, err := ParsePublic(r.Public)
	if err != nil {
		return Verified{}, fmt.Errorf("verify receipt: %w", err)
	}
	if r.Index < 0 || r.Index >= c.Size {
		return Verified{}, fmt.Errorf("verify receipt: index %d lies outside the checkpoint's %d records", r.Index, c.Size)
	}
	if err := tlog.CheckRecord(r.Proof, c.Size, c.Root, r.Index, Leaf(r.Public, r.Commitment)); err != nil {
		return Verified{}, fmt.Errorf("verify receipt: inclusion of record %d: %w", r.Index, err)
	}
	return Verified{public: p, index: r.Index, checkpoint: c, name: name}, nil
}
