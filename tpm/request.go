package tpm

import (
	"cmp"
	"context"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// EnrolRequest prepares the TPM of a factory box, as far as that is not done, and says what the desk must know. It may
// be asked for again at any time, also by an enrolled box: the answer brings the escrow again.
func (a *Agent) EnrolRequest(ctx context.Context) ([]byte, error) {
	leave, err := a.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	s, reason, err := a.state()
	switch {
	case err != nil:
		return nil, err
	case s == wire.Inconsistent:
		return nil, wire.Refused{Reason: reason}
	case s == wire.Factory:
		if err := a.prepare(); err != nil {
			return nil, err
		}
	case a.srk != nil:
		if err := a.newLabelKeys(); err != nil {
			return nil, err
		}
	}
	if a.srk == nil {
		return nil, wire.Refused{Reason: "the TPM holds no storage root key"}
	}
	r, err := a.compose()
	if err != nil {
		return nil, refuse(err)
	}
	return r.PEM(), nil
}

// unknown stands for what a machine does not say of itself.
const unknown = "unknown"

func (a *Agent) compose() (label.EnrolRequest, error) {
	r := label.EnrolRequest{Domain: a.domain.Hash(), Software: a.cfg.Software,
		Model: cmp.Or(a.cfg.Model, unknown), Serial: cmp.Or(a.cfg.Serial, unknown), SRK: tpm2.Marshal(a.srk.public)}
	var err error
	for file, to := range map[string]*[]byte{ownerFile: &r.Escrow.Owner, lockoutFile: &r.Escrow.Lockout, presenceFile: &r.Escrow.Presence} {
		if *to, err = a.folder.read(file); err != nil {
			return r, err
		}
	}
	if r.EK, err = a.device.endorsed(); err != nil {
		return r, err
	}
	log, err := a.cfg.EventLog()
	if err != nil {
		return r, fmt.Errorf("read event log: %w", err)
	}
	if r.EventLog, err = label.PackLog(log); err != nil {
		return r, err
	}
	if r.PCRs, err = a.device.readPCRs(); err != nil {
		return r, err
	}
	_, akBlob, err := a.folder.readBlob(akFile)
	if err != nil {
		return r, err
	}
	r.AK = akBlob.public.Bytes()
	for _, l := range a.labels() {
		k, err := a.vouch(akBlob, l)
		if err != nil {
			return r, err
		}
		r.Keys = append(r.Keys, k)
	}
	return r, a.quote(akBlob, &r)
}

// vouch has the AK say that a label key was made here. TPM2_Certify would need an approval for the label key's ADMIN
// role, which a factory box does not have.
func (a *Agent) vouch(akBlob blob, l label.ID) (label.Asking, error) {
	s, keyBlob, err := a.folder.readBlob(labelFile(l))
	if err != nil {
		return label.Asking{}, err
	}
	ticket, err := tpm2.Unmarshal[tpm2.TPMTTKCreation](s.Ticket)
	if err != nil {
		return label.Asking{}, fmt.Errorf("read creation ticket: %w", err)
	}
	key, err := a.device.load(*a.srk, keyBlob)
	if err != nil {
		return label.Asking{}, fmt.Errorf("label key: %w", err)
	}
	defer a.device.flush(key.handle)
	ak, err := a.device.load(*a.srk, akBlob)
	if err != nil {
		return label.Asking{}, fmt.Errorf("attestation key: %w", err)
	}
	defer a.device.flush(ak.handle)
	c, err := tpm2.CertifyCreation{SignHandle: ak.auth(tpm2.PasswordAuth(nil)), ObjectHandle: tpm2.NamedHandle{Handle: key.handle, Name: key.name},
		CreationHash: tpm2.TPM2BDigest{Buffer: s.Hash}, InScheme: ecdsaSHA256, CreationTicket: *ticket}.Execute(a.device)
	if err != nil {
		return label.Asking{}, fmt.Errorf("certify creation of label key: %w", err)
	}
	return label.Asking{Label: l, Public: keyBlob.public.Bytes(), Creation: label.Created{Data: s.Creation,
		Attest: label.Signed{Attest: c.CertifyInfo.Bytes(), Signature: tpm2.Marshal(c.Signature)}}}, nil
}

// quote binds the whole request to the registers.
func (a *Agent) quote(akBlob blob, r *label.EnrolRequest) (err error) {
	r.Quote, err = a.attest(akBlob, r.Statement(), reported())
	return err
}

// reported are the registers in a request.
func reported() []int {
	var p []int
	for i := range label.MaxPCR + 1 {
		p = append(p, i)
	}
	return p
}
