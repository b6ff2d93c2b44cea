package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// A word is an operator's, that he is present: a ticket of the TPM, which repeats it in other sessions until it expires. The TPM counts
// the time, and forgets it at a reset.
type word struct {
	by      label.Operator
	entity  tpm2.TPM2BName // whose word it is
	ref     [32]byte
	timeout []byte
	ticket  tpm2.TPMTTKAuth
}

// An asked is a challenge to an operator's token, and the session that it is bound to: one at a time.
type asked struct {
	label.OperatorChallenge
	session tpm2.Session
	end     func() error
}

// entity is whose authorization an operator gives.
func (p plan) entity(o label.Operator) (tpm2.TPM2BName, error) {
	if k, ok := o.Token(); ok {
		return name2B(k.Name()), nil
	}
	return p.presence().name(unwritten) // nobody ever writes it
}

func operatorRef(l label.ID) tpm2.TPM2BNonce {
	ref := label.OperatorRef(l)
	return tpm2.TPM2BNonce{Buffer: ref[:]}
}

// operatorIsThere is PolicySecret of the presence index, or PolicySigned of a token's key, under the label's reference.
func (p plan) operatorIsThere(a label.Approval) (step, error) {
	n, err := p.entity(a.Operator)
	if err != nil {
		return step{}, err
	}
	if _, ok := a.Operator.Token(); ok {
		return step{offline: tpm2.PolicySigned{AuthObject: tpm2.NamedHandle{Name: n}, PolicyRef: operatorRef(a.Label)}}, nil
	}
	return step{offline: tpm2.PolicySecret{AuthHandle: tpm2.NamedHandle{Name: n}, PolicyRef: operatorRef(a.Label)}}, nil
}

const (
	ccPolicyTicket = 0x00000172 // TPM 2.0 part 2, 6.5.2
	noSessions     = 0x8001
)

// repeat is TPM2_PolicyTicket (TPM 2.0 part 3, 23.5), which go-tpm does not have.
func (w *word) repeat(d *Device, s tpm2.Session) error {
	b := binary.BigEndian.AppendUint16(nil, noSessions)
	b = binary.BigEndian.AppendUint32(b, 0) // size, below
	b = binary.BigEndian.AppendUint32(b, ccPolicyTicket)
	b = binary.BigEndian.AppendUint32(b, uint32(s.Handle()))
	for _, x := range [][]byte{w.timeout, nil, w.ref[:], w.entity.Buffer} {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(x))), x...)
	}
	b = append(b, tpm2.Marshal(w.ticket)...)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	answer, err := d.Send(b)
	if err != nil {
		return err
	}
	if rc := tpm2.TPMRC(binary.BigEndian.Uint32(answer[6:])); rc != tpm2.TPMRCSuccess {
		return fmt.Errorf("operator's presence: %w", rc)
	}
	return nil
}

func seconds(d time.Duration) (uint32, error) {
	if d < time.Second || d > label.MaxPresence {
		return 0, wire.Refused{Reason: fmt.Sprintf("an operator is present for 1 second to %v", label.MaxPresence)}
	}
	return uint32(d / time.Second), nil
}

// attendable gives the SRK, if the box has the label and an approval of it wants an operator.
func (a *Agent) attendable(l label.ID, wants func(label.Operator) bool) (object, error) {
	srk, err := a.ready()
	if err != nil {
		return object{}, err
	}
	if _, ok := a.enrolment.Of(l); !ok {
		return object{}, noLabel(l)
	}
	for _, p := range a.approvals {
		if p.Label == l && p.Kind == label.Sign && p.Operator != label.NoOperator && wants(p.Operator) {
			return srk, nil
		}
	}
	return object{}, wire.Refused{Reason: fmt.Sprintf("no approval of label %q wants an operator in this way", l)}
}

// Present takes the word of an operator who knows the passphrase of the presence index, for a label and at most label.MaxPresence.
func (a *Agent) Present(ctx context.Context, l label.ID, passphrase []byte, during time.Duration) error {
	secs, err := seconds(during)
	if err != nil {
		return err
	}
	leave, err := a.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	srk, err := a.attendable(l, func(o label.Operator) bool { return o == label.Presence })
	if err != nil {
		return err
	}
	w, err := a.secretWord(srk, l, passphrase, secs)
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return wire.Refused{Reason: "this is not the box's presence passphrase"}
	}
	if err != nil {
		return refuse(err)
	}
	a.words[l] = w
	return nil
}

func (a *Agent) secretWord(srk object, l label.ID, passphrase []byte, secs uint32) (*word, error) {
	x := a.presence()
	n, err := x.name(unwritten)
	if err != nil {
		return nil, err
	}
	auth := presenceAuth(passphrase, srk.name.Buffer)
	defer clear(auth)
	s, end, err := srk.policySession(a.device)
	if err != nil {
		return nil, fmt.Errorf("start policy session: %w", err)
	}
	defer func() { _ = end() }()
	r, err := tpm2.PolicySecret{AuthHandle: tpm2.AuthHandle{Handle: x.handle, Name: n, Auth: srk.hmac(tpm2.Auth(auth))}, PolicySession: s.Handle(),
		NonceTPM: s.NonceTPM(), PolicyRef: operatorRef(l), Expiration: -int32(secs)}.Execute(a.device)
	if err != nil {
		return nil, fmt.Errorf("operator's presence: %w", err)
	}
	return &word{label.Presence, n, label.OperatorRef(l), r.Timeout.Buffer, r.PolicyTicket}, nil
}

// OperatorChallenge is what an operator's token is to sign. The time that he counts as present begins now, not with the answer. A newer
// challenge makes it void.
func (a *Agent) OperatorChallenge(ctx context.Context, l label.ID, during time.Duration) ([]byte, error) {
	secs, err := seconds(during)
	if err != nil {
		return nil, err
	}
	leave, err := a.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	srk, err := a.attendable(l, func(o label.Operator) bool { return o != label.Presence })
	if err != nil {
		return nil, err
	}
	a.forget()
	s, end, err := srk.policySession(a.device)
	if err != nil {
		return nil, fmt.Errorf("start policy session: %w", err)
	}
	a.asked = &asked{label.OperatorChallenge{Domain: a.domain.Name, Box: a.enrolment.Box.Name, Label: l, Nonce: s.NonceTPM().Buffer, Seconds: secs}, s, end}
	return a.asked.PEM(), nil
}

// forget voids the challenge that waits for an answer.
func (a *Agent) forget() {
	if a.asked != nil {
		_ = a.asked.end()
		a.asked = nil
	}
}

// OperatorAnswer takes a token's answer to the last challenge. An answer that does not count voids it too.
func (a *Agent) OperatorAnswer(ctx context.Context, text []byte) error {
	answer, err := label.ParseOperatorAnswer(text)
	if err != nil {
		return wire.Refused{Reason: err.Error()}
	}
	leave, err := a.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if a.asked == nil || a.asked.Label != answer.Label {
		return wire.Refused{Reason: fmt.Sprintf("no operator of label %q was asked: make a challenge first", answer.Label)}
	}
	defer a.forget()
	for _, p := range a.approvals {
		k, ok := p.Operator.Token()
		if !ok || p.Label != answer.Label || !a.asked.Verify(k, answer) {
			continue
		}
		w, err := a.signedWord(k, answer)
		if err != nil {
			return refuse(err)
		}
		a.words[answer.Label] = w
		return nil
	}
	return wire.Refused{Reason: fmt.Sprintf("the answer is not signed by a token that is approved as operator of label %q, or to another challenge", answer.Label)}
}

func (a *Agent) signedWord(k label.Key, answer label.OperatorAnswer) (*word, error) {
	pub, err := tpm2.Unmarshal[tpm2.TPMTPublic](k.Public())
	if err != nil {
		return nil, fmt.Errorf("load operator's key: %w", err)
	}
	ext, err := tpm2.LoadExternal{Hierarchy: tpm2.TPMRHOwner, InPublic: tpm2.New2B(*pub)}.Execute(a.device)
	if err != nil {
		return nil, fmt.Errorf("load operator's key: %w", err)
	}
	defer a.device.flush(ext.ObjectHandle)
	n := name2B(k.Name())
	r, err := tpm2.PolicySigned{AuthObject: tpm2.NamedHandle{Handle: ext.ObjectHandle, Name: n}, PolicySession: a.asked.session.Handle(),
		NonceTPM: tpm2.TPM2BNonce{Buffer: a.asked.Nonce}, PolicyRef: operatorRef(answer.Label), Expiration: a.asked.Expiration(),
		Auth: ecdsaSignature(answer.Signature)}.Execute(a.device)
	if err != nil {
		return nil, fmt.Errorf("operator's answer: %w", err)
	}
	return &word{label.ByToken(k), n, label.OperatorRef(answer.Label), r.Timeout.Buffer, r.PolicyTicket}, nil
}

// Absent ends an operator's presence for a label.
func (a *Agent) Absent(ctx context.Context, l label.ID) error {
	leave, err := a.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	delete(a.words, l)
	if a.asked != nil && a.asked.Label == l {
		a.forget()
	}
	return nil
}
