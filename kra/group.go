package kra

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// Limits of what maintainers of groups send and get.
const (
	MaxGroupEdit = 1000     // decryptors that one edit names
	MaxGroupBody = 64 << 10 // bytes of one edit: it is logged as a whole
	MaxGroupPage = 1000     // members in one answer
)

// groupContext begins what a maintainer signs:
//
//	"kra/group/v1" 0 DOMAIN/BOX 0 JSON of the edit without its signature
const groupContext = "kra/group/v1"

// A GroupEdit is the body of a POST to PathGroups: a maintainer's signed statement of whom a group has to gain and lose.
// It is good once: for the group at one version, in one box.
type GroupEdit struct{ wire wireGroupEdit }

// wireGroupEdit is a GroupEdit as encoding/json sees it.
type wireGroupEdit struct {
	Group     string   `json:"group"`
	Add       []string `json:"add,omitempty"`    // sorted, each once
	Remove    []string `json:"remove,omitempty"` // sorted, each once
	Version   uint64   `json:"version"`
	Signature []byte   `json:"signature,omitempty"`
}

// SignGroupEdit states, for the box of a domain, what is to become of the group at a version. certified is the private key
// of the maintainer's certificate.
func SignGroupEdit(domain, box, group string, add, remove []Decryptor, version uint64, certified crypto.Signer) (GroupEdit, error) {
	w := wireGroupEdit{Group: group, Add: identifiers(add), Remove: identifiers(remove), Version: version}
	if err := w.check(); err != nil {
		return GroupEdit{}, fmt.Errorf("sign group edit: %w", err)
	}
	message, err := w.message(domain, box)
	if err != nil {
		return GroupEdit{}, fmt.Errorf("sign group edit: %w", err)
	}
	if w.Signature, err = sign(message, certified); err != nil {
		return GroupEdit{}, fmt.Errorf("sign group edit: %w", err)
	}
	if b, err := encodeCanonical(w); err != nil || len(b) > MaxGroupBody {
		return GroupEdit{}, fmt.Errorf("sign group edit: longer than %d bytes; make two of it", MaxGroupBody)
	}
	return GroupEdit{w}, nil
}

// identifiers writes decryptors in their one order.
func identifiers(all []Decryptor) (out []string) {
	for _, d := range all {
		out = append(out, d.String())
	}
	slices.Sort(out)
	return out
}

// ParseGroupEdit reads the one encoding of an edit. Nobody has verified who signed it: Verify does.
func ParseGroupEdit(body []byte) (GroupEdit, error) {
	var w wireGroupEdit
	if len(body) > MaxGroupBody {
		return GroupEdit{}, fmt.Errorf("parse group edit: %d bytes, at most %d are accepted", len(body), MaxGroupBody)
	}
	if err := decodeCanonical(body, &w); err != nil {
		return GroupEdit{}, fmt.Errorf("parse group edit: %w", err)
	}
	if err := w.check(); err != nil {
		return GroupEdit{}, fmt.Errorf("parse group edit: %w", err)
	}
	if len(w.Signature) == 0 || len(w.Signature) > maxSignature {
		return GroupEdit{}, fmt.Errorf("parse group edit: signature of %d bytes, want 1 to %d", len(w.Signature), maxSignature)
	}
	return GroupEdit{w}, nil
}

func (w wireGroupEdit) check() error {
	if err := CheckName(w.Group); err != nil {
		return fmt.Errorf("group: %w", err)
	}
	if n := len(w.Add) + len(w.Remove); n == 0 || n > MaxGroupEdit {
		return fmt.Errorf("%d decryptors to add and remove, want 1 to %d", n, MaxGroupEdit)
	}
	for _, list := range [][]string{w.Add, w.Remove} {
		for i, m := range list {
			if _, err := ParseDecryptor(m); err != nil {
				return err
			}
			if i > 0 && list[i-1] >= m {
				return fmt.Errorf("%s is out of order, or there twice", clip(m))
			}
		}
	}
	for _, m := range w.Add {
		if _, twice := slices.BinarySearch(w.Remove, m); twice {
			return fmt.Errorf("%s is to be added and removed", clip(m))
		}
	}
	return nil
}

func (w wireGroupEdit) message(domain, box string) ([]byte, error) {
	w.Signature = nil
	text, err := encodeCanonical(w)
	if err != nil {
		return nil, err
	}
	return append([]byte(groupContext+"\x00"+domain+"/"+box+"\x00"), text...), nil
}

// Verify reports, as nil or an error, whether the holder of the certificate's private key stated this for the box.
func (e GroupEdit) Verify(domain, box string, cert *x509.Certificate) error {
	if len(e.wire.Signature) == 0 {
		return errors.New("verify group edit: it is empty")
	}
	message, err := e.wire.message(domain, box)
	if err == nil {
		err = checkSigned(cert, message, e.wire.Signature)
	}
	if err != nil {
		return fmt.Errorf("verify group edit: %w", err)
	}
	return nil
}

// Group returns the group that it is about.
func (e GroupEdit) Group() string { return e.wire.Group }

// Add returns whom the group gains, sorted. The caller must not write to it.
func (e GroupEdit) Add() []string { return e.wire.Add }

// Remove returns whom the group loses, sorted. The caller must not write to it.
func (e GroupEdit) Remove() []string { return e.wire.Remove }

// Version returns the version of the group that it is good for.
func (e GroupEdit) Version() uint64 { return e.wire.Version }

// Encode returns its JSON.
func (e GroupEdit) Encode() ([]byte, error) { return encodeCanonical(e.wire) }

// A GroupState is the answer to a maintainer: the group as it is, with a page of its members.
type GroupState struct {
	Group   string   `json:"group"`
	Version uint64   `json:"version"`
	Size    int      `json:"size"`              // members in all
	Members []string `json:"members,omitempty"` // sorted; those that follow the one that was asked for
	More    bool     `json:"more,omitempty"`    // others follow
}

// ParseGroupState reads what Encode wrote.
func ParseGroupState(body []byte) (GroupState, error) {
	var s GroupState
	if len(body) > MaxResponse {
		return GroupState{}, fmt.Errorf("parse group: %d bytes, at most %d are accepted", len(body), MaxResponse)
	}
	if err := decodeCanonical(body, &s); err != nil {
		return GroupState{}, fmt.Errorf("parse group: %w", err)
	}
	return s, s.check()
}

func (s GroupState) check() error {
	if err := CheckName(s.Group); err != nil {
		return fmt.Errorf("parse group: %w", err)
	}
	if len(s.Members) > MaxGroupPage || s.Size < len(s.Members) || s.More && len(s.Members) == 0 {
		return fmt.Errorf("parse group: %d of %d members", len(s.Members), s.Size)
	}
	for i, m := range s.Members {
		if _, err := ParseDecryptor(m); err != nil {
			return fmt.Errorf("parse group: %w", err)
		}
		if i > 0 && s.Members[i-1] >= m {
			return fmt.Errorf("parse group: %s is out of order", clip(m))
		}
	}
	return nil
}

// Encode returns the JSON of s.
func (s GroupState) Encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	return encodeCanonical(s)
}
