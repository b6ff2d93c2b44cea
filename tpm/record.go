package tpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// Record reads the NV record, under the Name that the domain fixed.
func (a *Agent) Record(ctx context.Context) (label.Record, error) {
	leave, err := a.enter(ctx)
	if err != nil {
		return label.Record{}, err
	}
	defer leave()
	srk, err := a.ready()
	if err != nil {
		return label.Record{}, err
	}
	r, err := a.readRecord(srk)
	return r, refuse(err)
}

func (a *Agent) readRecord(srk object) (label.Record, error) {
	b, err := a.device.readPlain(srk, a.record())
	if err != nil {
		return label.Record{}, err
	}
	return label.ParseRecord(b)
}

// WriteRecord returns when the TPM holds the record. The first one completes an enrolment.
func (a *Agent) WriteRecord(ctx context.Context, r label.Record) error {
	leave, err := a.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	srk, err := a.ready()
	if err != nil {
		return err
	}
	before, err := a.beforeRecord(srk, r)
	if err != nil {
		return refuse(err)
	}
	a.last = nil // after an error nobody knows which one is there
	err = a.signing(label.KeyRelease, func(approval granted) error {
		return a.device.write(srk, a.record(), before, approval, r.Bytes())
	})
	if err == nil {
		a.last = &r
	}
	return err
}

// beforeRecord says whether the record was ever written, and refuses to go back.
func (a *Agent) beforeRecord(srk object, next label.Record) (wasWritten, error) {
	if a.last != nil {
		return written, forward(*a.last, next)
	}
	switch c, err := a.device.condition(a.record()); {
	case err != nil:
		return 0, err
	case c == defined:
		return unwritten, nil
	case c != holding:
		return 0, wire.Refused{Reason: "the TPM holds no record index of this domain"}
	}
	now, err := a.readRecord(srk)
	if err != nil {
		return 0, err
	}
	return written, forward(now, next)
}

func forward(now, next label.Record) error {
	if next.Generation < now.Generation || next.LogSize < now.LogSize {
		return wire.Refused{Reason: fmt.Sprintf("record would go back: generation %d to %d, log size %d to %d",
			now.Generation, next.Generation, now.LogSize, next.LogSize)}
	}
	return nil
}

// signing does something that needs a sign approval of a label. The one that last worked is tried first, because registers do not
// go back; when the TPM refuses it, the registers are looked at again. An operator's word is asked for each time.
func (a *Agent) signing(l label.ID, do func(granted) error) error {
	if g, ok := a.chosen[l]; ok {
		err := do(g)
		var rc tpm2.TPMRC
		if err == nil || !errors.As(err, &rc) { // what was asked and not answered may have been done
			return err
		}
		delete(a.chosen, l)
	}
	g, err := a.approvalNow(l, label.Sign)
	if err != nil {
		return err
	}
	if err := do(g); err != nil {
		if errors.Is(err, tpm2.TPMRCExpired) || errors.Is(err, tpm2.TPMRCTicket) {
			delete(a.words, l) // it is of no more use
		}
		return refuse(err)
	}
	if g.Operator == label.NoOperator {
		a.chosen[l] = g
	}
	return nil
}
