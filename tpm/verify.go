package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
)

// A LabelKey is a platform's key for a label, as a request showed it.
type LabelKey struct {
	Label  label.ID
	Name   label.Name
	Public *ecdsa.PublicKey
}

// Verified is an enrolment request whose every claim was checked against its AK. That the AK lives in a genuine TPM is
// not among them: that takes the maker's certificate of the endorsement key.
type Verified struct {
	Request  label.EnrolRequest
	EK       label.Name
	SRK      label.Name
	AK       label.Name
	Labels   []LabelKey       // in the order of the request
	Attester *ecdsa.PublicKey // the attestation key
	Endorser crypto.PublicKey // the endorsement key: *rsa.PublicKey or *ecdsa.PublicKey
	Replayed label.PCRs       // what the event log adds up to; nil if the box has none
}

// VerifyRequest checks a request as the desk must: templates and policy of the keys, the AK's word that each label key was
// made under this SRK, the quote over everything, and that the event log explains the registers that the firmware owns.
func VerifyRequest(r label.EnrolRequest, d label.Domain) (Verified, error) {
	return verifyRequest(r, r.Statement(), d)
}

// verifyRequest checks a request whose quote is over this statement.
func verifyRequest(r label.EnrolRequest, statement label.Digest, d label.Domain) (Verified, error) {
	v := Verified{Request: r}
	if r.Domain != d.Hash() {
		return v, fmt.Errorf("verify request: the image was built for domain %s, this desk is %q (%s)", r.Domain.Short(), d.Name, d.Hash().Short())
	}
	k, err := readKeys(r, plan{d, label.KeyRelease})
	if err != nil {
		return v, fmt.Errorf("verify request: %w", err)
	}
	v.EK, v.SRK, v.AK, v.Labels, v.Attester = k.ek, k.srk, k.akName, k.labels, k.ak
	if v.Endorser, err = publicOf(r.EK.Public); err != nil {
		return v, fmt.Errorf("verify request: endorsement key: %w", err)
	}
	for i, asking := range r.Keys {
		if err := k.checkCreation(k.labels[i], asking.Creation); err != nil {
			return v, fmt.Errorf("verify request: %w", err)
		}
	}
	if err := k.checkQuote(r, statement); err != nil {
		return v, fmt.Errorf("verify request: %w", err)
	}
	v.Replayed, err = explained(r)
	if err != nil {
		return v, fmt.Errorf("verify request: %w", err)
	}
	return v, nil
}

// Of is the key of a label.
func (v Verified) Of(l label.ID) (LabelKey, bool) {
	for _, k := range v.Labels {
		if k.Label == l {
			return k, true
		}
	}
	return LabelKey{}, false
}

// Passport is what the domain signs of the platform that made the request.
func (v Verified) Passport() label.Passport {
	return label.Passport{EK: v.EK, SRK: v.SRK, AK: v.AK, Model: v.Request.Model, Serial: v.Request.Serial}
}

// ekTemplate is the one of the TCG's two default templates that a public area can be of: the first two bytes are its type.
func ekTemplate(public []byte) tpm2.TPMTPublic {
	if bytes.HasPrefix(public, tpm2.Marshal(tpm2.RSAEKTemplate)[:2]) {
		return tpm2.RSAEKTemplate
	}
	return tpm2.ECCEKTemplate
}

// requestKeys are the keys of a request, of the right templates.
type requestKeys struct {
	ek, srk, akName label.Name
	ak              *ecdsa.PublicKey
	labels          []LabelKey
}

func readKeys(r label.EnrolRequest, p plan) (k requestKeys, err error) {
	type expected struct {
		what     string
		bytes    []byte
		template tpm2.TPMTPublic
		name     *label.Name
		key      **ecdsa.PublicKey
	}
	all := []expected{
		{"endorsement key", r.EK.Public, ekTemplate(r.EK.Public), &k.ek, nil},
		{"storage root key", r.SRK, tpm2.ECCSRKTemplate, &k.srk, nil},
		{"attestation key", r.AK, akTemplate(), &k.akName, &k.ak},
	}
	k.labels = make([]LabelKey, len(r.Keys))
	for i, asking := range r.Keys {
		t, err := p.of(asking.Label).labelTemplate()
		if err != nil {
			return k, err
		}
		k.labels[i].Label = asking.Label
		all = append(all, expected{fmt.Sprintf("key of label %q", asking.Label), asking.Public, t, &k.labels[i].Name, &k.labels[i].Public})
	}
	for _, x := range all {
		pub, err := tpm2.Unmarshal[tpm2.TPMTPublic](x.bytes)
		if err != nil || string(tpm2.Marshal(*pub)) != string(x.bytes) {
			return k, fmt.Errorf("%s: not a public area", x.what)
		}
		if !sameTemplate(*pub, x.template) {
			return k, fmt.Errorf("%s: its attributes, policy or scheme are not what the domain requires", x.what)
		}
		n, err := tpm2.ObjectName(pub)
		if err != nil {
			return k, fmt.Errorf("%s: %w", x.what, err)
		}
		*x.name = label.Name(n.Buffer)
		if x.key == nil {
			continue
		}
		if *x.key, err = ecdsaKey(*pub); err != nil {
			return k, fmt.Errorf("%s: %w", x.what, err)
		}
	}
	return k, nil
}

func publicOf(public []byte) (crypto.PublicKey, error) {
	t, err := tpm2.Unmarshal[tpm2.TPMTPublic](public)
	if err != nil {
		return nil, err
	}
	return tpm2.Pub(*t)
}

// attested checks the AK's signature and that a TPM made the structure, of the right kind.
func (k requestKeys) attested(s label.Signed, kind tpm2.TPMST) (*tpm2.TPMSAttest, error) {
	sig, err := tpm2.Unmarshal[tpm2.TPMTSignature](s.Signature)
	if err != nil || string(tpm2.Marshal(*sig)) != string(s.Signature) {
		return nil, errors.New("not a signature")
	}
	der, err := derSignature(*sig)
	if err != nil {
		return nil, err
	}
	if e, err := sig.Signature.ECDSA(); err != nil || e.Hash != tpm2.TPMAlgSHA256 {
		return nil, errors.New("not a signature with SHA-256")
	}
	digest := sha256.Sum256(s.Attest)
	if !ecdsa.VerifyASN1(k.ak, digest[:], der) {
		return nil, errors.New("not signed by the attestation key")
	}
	a, err := tpm2.Unmarshal[tpm2.TPMSAttest](s.Attest)
	if err != nil || a.Magic != tpm2.TPMGeneratedValue || a.Type != kind || string(tpm2.Marshal(*a)) != string(s.Attest) {
		return nil, errors.New("not an attestation of the kind wanted")
	}
	return a, nil
}

func (k requestKeys) checkCreation(of LabelKey, r label.Created) error {
	a, err := k.attested(r.Attest, tpm2.TPMSTAttestCreation)
	if err != nil {
		return fmt.Errorf("creation of the key of label %q: %w", of.Label, err)
	}
	c, err := a.Attested.Creation()
	if err != nil {
		return fmt.Errorf("creation of the key of label %q: %w", of.Label, err)
	}
	hash := sha256.Sum256(r.Data)
	if string(c.ObjectName.Buffer) != string(of.Name[:]) || string(c.CreationHash.Buffer) != string(hash[:]) {
		return fmt.Errorf("creation of the key of label %q: the attestation is about another key", of.Label)
	}
	data, err := tpm2.Unmarshal[tpm2.TPMSCreationData](r.Data)
	if err != nil || string(data.ParentName.Buffer) != string(k.srk[:]) {
		return fmt.Errorf("creation of the key of label %q: its parent is not the storage root key", of.Label)
	}
	return nil
}

func (k requestKeys) checkQuote(r label.EnrolRequest, statement label.Digest) error {
	a, err := k.attested(r.Quote, tpm2.TPMSTAttestQuote)
	if err != nil {
		return fmt.Errorf("quote: %w", err)
	}
	if string(a.ExtraData.Buffer) != string(statement[:]) {
		return errors.New("quote: it is not over this request")
	}
	q, err := a.Attested.Quote()
	if err != nil {
		return fmt.Errorf("quote: %w", err)
	}
	if string(tpm2.Marshal(q.PCRSelect)) != string(tpm2.Marshal(selection(reported()))) {
		return errors.New("quote: it is over other registers")
	}
	if string(q.PCRDigest.Buffer) != string(pcrDigest(reported(), r.PCRs)) {
		return errors.New("quote: the registers in the request are not the ones quoted")
	}
	return nil
}

// explained replays the event log. The approved registers must be what it adds up to, the stage aside; the others are
// reported only.
func explained(r label.EnrolRequest) (label.PCRs, error) {
	log, err := r.UnpackLog()
	if err != nil || len(log) == 0 {
		return nil, err
	}
	v, err := Replay(log)
	if err != nil {
		return nil, err
	}
	for _, i := range label.ApprovedPCRs() {
		if i != label.StagePCR && v[i] != r.PCRs[i] {
			return nil, fmt.Errorf("event log: PCR %d adds up to %s, the quote has %s", i, v[i].Short(), r.PCRs[i].Short())
		}
	}
	return v, nil
}
