package label

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	requestBlock   = "KRA ENROLMENT REQUEST"
	requestContext = "kra/enrolment-request/v1"
)

// An EnrolRequest is what a factory box tells the desk. TPM structures are in their marshalled forms (TPM 2.0 part 2).
// Quote is over registers 0 to MaxPCR with Statement as qualifying data: it binds everything else.
type EnrolRequest struct {
	Domain   Digest   `json:"domain"`   // hash of the domain's public part in the image
	Software string   `json:"software"` // what the image says it is; a claim
	Model    string   `json:"model"`    // what the machine's firmware says it is; a claim
	Serial   string   `json:"serial"`   // the machine's number; a claim
	EK       Endorsed `json:"ek"`
	SRK      []byte   `json:"srk"`  // TPMT_PUBLIC
	AK       []byte   `json:"ak"`   // TPMT_PUBLIC
	Keys     []Asking `json:"keys"` // of the labels asked for; a box names key-release first
	Escrow   Escrow   `json:"escrow"`
	PCRs     PCRs     `json:"pcrs"`     // registers 0 to MaxPCR
	EventLog []byte   `json:"eventLog"` // gzip of the firmware's event log, may be empty
	Quote    Signed   `json:"quote"`
}

// An Asking is a key for a label, made in this TPM.
type Asking struct {
	Label    ID      `json:"label"`
	Public   []byte  `json:"public"` // TPMT_PUBLIC
	Creation Created `json:"creation"`
}

// Of is the key that a request has for a label.
func (r EnrolRequest) Of(l ID) (Asking, bool) {
	for _, k := range r.Keys {
		if k.Label == l {
			return k, true
		}
	}
	return Asking{}, false
}

// Endorsed is the endorsement key, with its maker's word that it lives in a genuine TPM (TCG EK Credential Profile).
type Endorsed struct {
	Public      []byte   `json:"public"`      // TPMT_PUBLIC
	Certificate []byte   `json:"certificate"` // X.509, DER; empty: the TPM holds none
	Chain       [][]byte `json:"chain"`       // certificates of its issuers that the TPM holds, DER
}

// MaxChain bounds the issuers of an endorsement certificate.
const MaxChain = 8

func (e Endorsed) check() error {
	if len(e.Public) == 0 || e.Certificate == nil || e.Chain == nil {
		return errors.New("a part of the endorsement key is missing")
	}
	if len(e.Chain) > MaxChain || slices.ContainsFunc(e.Chain, func(c []byte) bool { return len(c) == 0 }) {
		return fmt.Errorf("want at most %d issuers of the endorsement certificate, none empty", MaxChain)
	}
	return nil
}

// Created is the AK's word by TPM2_CertifyCreation that the label key was made in this TPM, under this SRK.
type Created struct {
	Data   []byte `json:"data"` // TPMS_CREATION_DATA
	Attest Signed `json:"attest"`
}

// Signed is a TPMS_ATTEST and the AK's signature, a TPMT_SIGNATURE.
type Signed struct {
	Attest    []byte `json:"attest"`
	Signature []byte `json:"signature"`
}

// Escrow holds the owner's secrets, each encrypted to the domain (age).
type Escrow struct {
	Owner    []byte `json:"owner"`    // ownerAuth
	Lockout  []byte `json:"lockout"`  // lockoutAuth
	Presence []byte `json:"presence"` // passphrase of the presence index
}

// Statement is the hash of everything but the quote, and what the quote vouches for. It names the request: a quote's signature has more
// than one form, so a hash over that would give one request several names.
func (r EnrolRequest) Statement() Digest {
	r.Quote = Signed{Attest: []byte{}, Signature: []byte{}}
	return sha256.Sum256(append([]byte(requestContext+"\x00"), encode(r)...))
}

func (r EnrolRequest) check() error {
	if err := r.checkKeys(); err != nil {
		return err
	}
	var want []int
	for i := range MaxPCR + 1 {
		want = append(want, i)
	}
	if !r.PCRs.exactly(want) {
		return errors.New("registers are not 0 to 15")
	}
	if r.EventLog == nil {
		return errors.New("event log is null")
	}
	for _, s := range []string{r.Software, r.Model, r.Serial} {
		if !printable(s, MaxDescription) {
			return errors.New("software, model or serial number is not printable")
		}
	}
	if err := r.EK.check(); err != nil {
		return err
	}
	for _, b := range [][]byte{r.SRK, r.AK, r.Escrow.Owner, r.Escrow.Lockout, r.Escrow.Presence, r.Quote.Attest, r.Quote.Signature} {
		if len(b) == 0 {
			return errors.New("a part is missing")
		}
	}
	return nil
}

func (r EnrolRequest) checkKeys() error {
	if len(r.Keys) == 0 || len(r.Keys) > MaxLabels {
		return fmt.Errorf("want keys of 1 to %d labels", MaxLabels)
	}
	for i, k := range r.Keys {
		if _, err := ParseID(string(k.Label)); err != nil {
			return err
		}
		if slices.ContainsFunc(r.Keys[:i], func(b Asking) bool { return b.Label == k.Label }) {
			return fmt.Errorf("label %q is there twice", k.Label)
		}
		for _, b := range [][]byte{k.Public, k.Creation.Data, k.Creation.Attest.Attest, k.Creation.Attest.Signature} {
			if len(b) == 0 {
				return fmt.Errorf("label %q: a part of its key is missing", k.Label)
			}
		}
	}
	return nil
}

// PEM is the request as it is printed on a console.
func (r EnrolRequest) PEM() []byte { return armor(requestBlock, encode(r)) }

// ParseRequest reads a request out of a text, such as a console's. It proves nothing: the desk verifies it.
func ParseRequest(text []byte) (EnrolRequest, error) {
	doc, err := unarmor(requestBlock, text)
	if err != nil {
		return EnrolRequest{}, fmt.Errorf("parse enrolment request: %w", err)
	}
	return parseRequest(doc)
}

func parseRequest(doc []byte) (EnrolRequest, error) {
	var r EnrolRequest
	if err := decode(doc, &r, func() error { return r.check() }); err != nil {
		return EnrolRequest{}, fmt.Errorf("parse enrolment request: %w", err)
	}
	return r, nil
}

// PackLog compresses an event log for a request.
func PackLog(log []byte) ([]byte, error) {
	if len(log) > MaxEventLog {
		return nil, fmt.Errorf("pack event log: %d bytes, at most %d", len(log), MaxEventLog)
	}
	if len(log) == 0 {
		return []byte{}, nil
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, fmt.Errorf("pack event log: %w", err)
	}
	if _, err := z.Write(log); err != nil {
		return nil, fmt.Errorf("pack event log: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("pack event log: %w", err)
	}
	return b.Bytes(), nil
}

// UnpackLog gives the event log of a request.
func (r EnrolRequest) UnpackLog() ([]byte, error) {
	if len(r.EventLog) == 0 {
		return nil, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(r.EventLog))
	if err != nil {
		return nil, fmt.Errorf("unpack event log: %w", err)
	}
	log, err := io.ReadAll(io.LimitReader(z, MaxEventLog+1))
	if err != nil {
		return nil, fmt.Errorf("unpack event log: %w", err)
	}
	if len(log) > MaxEventLog {
		return nil, fmt.Errorf("unpack event log: more than %d bytes", MaxEventLog)
	}
	return log, nil
}
