package tpm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// Where the TCG has a TPM keep its endorsement certificates and key (TCG EK Credential Profile 2.5, 2.2.1.4 and 2.2.1.5;
// TCG Provisioning Guidance 1.0, 7.8).
const (
	ekCertificateRSA = 0x01c00002 // of the RSA-2048 template, L-1
	ekCertificateECC = 0x01c0000a // of the P-256 template, L-2
	ekChainFirst     = 0x01c00100
	ekChainLast      = 0x01c001ff
	ekHandleRSA      = 0x81010001
)

// Limits of what is read from a TPM that nobody vouches for yet.
const (
	maxCertificate = 8 << 10 // bytes of one index
	maxChainIndex  = 16      // indexes of issuers' certificates
	nvChunk        = 512     // bytes of one read: no TPM takes less
)

// endorser is an endorsement key that can be had from this TPM: one of the TCG's two default templates.
type endorser struct {
	template    tpm2.TPMTPublic
	persistent  tpm2.TPMHandle // where a maker may have left the key; 0: nowhere
	certificate []byte         // DER; empty: none
}

// endorser prefers the P-256 key, which is made faster, unless only the other one is certified.
func (d *Device) endorser() (endorser, error) {
	ecc := endorser{template: tpm2.ECCEKTemplate}
	for _, e := range []endorser{ecc, {template: tpm2.RSAEKTemplate, persistent: ekHandleRSA}} {
		index := tpm2.TPMHandle(ekCertificateECC)
		if e.template.Type == tpm2.TPMAlgRSA {
			index = ekCertificateRSA
		}
		held, err := d.readCertificates(index)
		if err != nil {
			return e, err
		}
		if len(held) > 0 {
			e.certificate = held[0]
			return e, nil
		}
	}
	return ecc, nil
}

// endorsementKey gives the key itself; the caller calls the function when it is done with it.
func (d *Device) endorsementKey(e endorser) (object, func(), error) {
	if e.persistent != 0 {
		if r, err := (tpm2.ReadPublic{ObjectHandle: e.persistent}).Execute(d); err == nil {
			o, err := named(e.persistent, r.OutPublic)
			if err == nil && sameTemplate(o.public, e.template) {
				return o, func() {}, nil
			}
		}
	}
	r, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(e.template)}.Execute(d)
	if err != nil {
		return object{}, nil, foreignOwner(fmt.Errorf("make endorsement key: %w", err))
	}
	o, err := named(r.ObjectHandle, r.OutPublic)
	if err != nil {
		d.flush(r.ObjectHandle)
		return object{}, nil, fmt.Errorf("make endorsement key: %w", err)
	}
	return o, func() { d.flush(o.handle) }, nil
}

// named is an object under the Name that follows from its public area.
func named(h tpm2.TPMHandle, b tpm2.TPM2BPublic) (object, error) {
	pub, err := b.Contents()
	if err != nil {
		return object{}, err
	}
	n, err := tpm2.ObjectName(pub)
	if err != nil || len(n.Buffer) != len(label.Name{}) {
		return object{}, errors.New("key without a Name under SHA-256")
	}
	return object{h, *n, *pub}, nil
}

// endorsed is what a request says of the endorsement key.
func (d *Device) endorsed() (label.Endorsed, error) {
	e, err := d.endorser()
	if err != nil {
		return label.Endorsed{}, err
	}
	o, done, err := d.endorsementKey(e)
	if err != nil {
		return label.Endorsed{}, err
	}
	done()
	out := label.Endorsed{Public: tpm2.Marshal(o.public), Certificate: append([]byte{}, e.certificate...), Chain: [][]byte{}}
	if len(e.certificate) == 0 {
		return out, nil
	}
	indexes, err := d.chainIndexes()
	if err != nil {
		return label.Endorsed{}, err
	}
	held, err := d.readCertificates(indexes...)
	if err != nil {
		return label.Endorsed{}, err
	}
	out.Chain = append(out.Chain, held[:min(len(held), label.MaxChain)]...)
	return out, nil
}

func (d *Device) chainIndexes() ([]tpm2.TPMHandle, error) {
	r, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: ekChainFirst, PropertyCount: maxChainIndex}.Execute(d)
	if err != nil {
		return nil, fmt.Errorf("list endorsement certificates: %w", err)
	}
	l, err := r.CapabilityData.Data.Handles()
	if err != nil {
		return nil, fmt.Errorf("list endorsement certificates: %w", err)
	}
	var out []tpm2.TPMHandle
	for _, h := range l.Handle {
		if h <= ekChainLast {
			out = append(out, h)
		}
	}
	return out, nil
}

// readCertificates reads indexes that hold certificates one after the other, which may run on from one index to the next. What
// follows the last whole one is padding. The bytes prove nothing: the desk reads them, and the signatures over them.
func (d *Device) readCertificates(indexes ...tpm2.TPMHandle) ([][]byte, error) {
	var all []byte
	for _, h := range indexes {
		b, err := d.readMakers(h)
		if err != nil {
			return nil, fmt.Errorf("read endorsement certificate %#x: %w", uint32(h), err)
		}
		all = append(all, b...)
	}
	var out [][]byte
	for in := cryptobyte.String(all); ; {
		var one cryptobyte.String
		if !in.ReadASN1Element(&one, der.SEQUENCE) {
			return out, nil
		}
		out = append(out, one)
	}
}

// readMakers reads an index of the TPM's maker, which anyone may; nothing where there is none, or none that was written.
func (d *Device) readMakers(h tpm2.TPMHandle) ([]byte, error) {
	r, err := tpm2.NVReadPublic{NVIndex: h}.Execute(d)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	pub, err := r.NVPublic.Contents()
	if err != nil {
		return nil, err
	}
	if !pub.Attributes.Written {
		return nil, nil
	}
	if pub.DataSize > maxCertificate {
		return nil, fmt.Errorf("%d bytes, at most %d", pub.DataSize, maxCertificate)
	}
	var out []byte
	for len(out) < int(pub.DataSize) {
		part, err := tpm2.NVRead{AuthHandle: tpm2.AuthHandle{Handle: h, Name: r.NVName, Auth: tpm2.PasswordAuth(nil)},
			NVIndex: tpm2.NamedHandle{Handle: h, Name: r.NVName}, Size: min(nvChunk, pub.DataSize-uint16(len(out))), Offset: uint16(len(out))}.Execute(d)
		if err != nil {
			return nil, err
		}
		if len(part.Data.Buffer) == 0 {
			return nil, errors.New("empty answer")
		}
		out = append(out, part.Data.Buffer...)
	}
	return out, nil
}
