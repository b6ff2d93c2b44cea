package tpm

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// Seal encrypts a bundle to the TPM that made the request: only one that holds both the endorsement key and the attestation
// key of the request can open it (TPM2_MakeCredential, done here offline).
func (v Verified) Seal(bundle []byte) ([]byte, error) {
	pub, err := tpm2.Unmarshal[tpm2.TPMTPublic](v.Request.EK.Public)
	if err != nil {
		return nil, fmt.Errorf("seal bundle: %w", err)
	}
	to, err := tpm2.ImportEncapsulationKey(pub)
	if err != nil {
		return nil, fmt.Errorf("seal bundle: %w", err)
	}
	credential := make([]byte, label.CredentialSize)
	rand.Read(credential)
	defer clear(credential)
	var s label.SealedBundle
	if s.Credential, s.Secret, err = tpm2.CreateCredential(rand.Reader, to, v.AK[:], credential); err != nil {
		return nil, fmt.Errorf("seal bundle: %w", err)
	}
	if s.Data, err = label.SealBundle(bundle, credential); err != nil {
		return nil, err
	}
	return s.PEM(), nil
}

// unwrap opens a sealed bundle, and gives any other text back as it is.
func (a *Agent) unwrap(text []byte) (plain []byte, sealed bool, err error) {
	if !label.IsSealed(text) {
		return text, false, nil
	}
	s, err := label.ParseSealed(text)
	if err != nil {
		return nil, true, wire.Refused{Reason: err.Error()}
	}
	_, ak, err := a.folder.readBlob(akFile)
	if errors.Is(err, errNoFile) || a.srk == nil {
		return nil, true, wire.Refused{Reason: "the box has made no enrolment request yet"}
	}
	if err != nil {
		return nil, true, err
	}
	credential, err := a.activate(ak, s)
	if err != nil {
		return nil, true, err
	}
	defer clear(credential)
	if plain, err = s.Open(credential); err != nil {
		return nil, true, wire.Refused{Reason: err.Error()}
	}
	return plain, true, nil
}

// activate is TPM2_ActivateCredential: the TPM gives the credential out only if it was made for this endorsement key and
// for the Name of this attestation key. It crosses the bus encrypted.
func (a *Agent) activate(akBlob blob, s label.SealedBundle) ([]byte, error) {
	session, end, err := a.srk.policySession(a.device, encryptOut)
	if err != nil {
		return nil, fmt.Errorf("activate credential: %w", err)
	}
	defer func() { _ = end() }()
	e, err := a.device.endorser()
	if err != nil {
		return nil, err
	}
	ek, done, err := a.device.endorsementKey(e)
	if err != nil {
		return nil, err
	}
	defer done()
	ak, err := a.device.load(*a.srk, akBlob)
	if err != nil {
		return nil, refuse(fmt.Errorf("attestation key: %w", err))
	}
	defer a.device.flush(ak.handle)
	// The policy of both default templates.
	if _, err := (tpm2.PolicySecret{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		PolicySession: session.Handle(), NonceTPM: session.NonceTPM()}).Execute(a.device); err != nil {
		return nil, foreignOwner(fmt.Errorf("activate credential: %w", err))
	}
	r, err := tpm2.ActivateCredential{ActivateHandle: ak.auth(tpm2.PasswordAuth(nil)), KeyHandle: ek.auth(session),
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: s.Credential}, Secret: tpm2.TPM2BEncryptedSecret{Buffer: s.Secret}}.Execute(a.device)
	var rc tpm2.TPMRC
	if errors.As(err, &rc) {
		return nil, wire.Refused{Reason: fmt.Sprintf("activate credential: the bundle is sealed to another TPM, or to another attestation key than %s of this box (%v)",
			label.Name(ak.name.Buffer).Short(), rc)}
	}
	if err != nil {
		return nil, fmt.Errorf("activate credential: %w", err)
	}
	return r.CertInfo.Buffer, nil
}
