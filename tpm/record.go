package tpm

import (
	"context"
	"fmt"

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
	err = a.signing(func(approval label.Approval) error {
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

// signing does something that needs a sign approval. The one that last worked is tried first, because registers do not
// go back; when the TPM refuses it, the registers are looked at again.
func (a *Agent) signing(do func(label.Approval) error) error {
	if a.chosen != nil {
		if err := do(*a.chosen); err == nil {
			return nil
		}
		a.chosen = nil
	}
	approval, err := a.approvalNow(label.Sign)
	if err != nil {
		return err
	}
	if err := do(approval); err != nil {
		return refuse(err)
	}
	a.chosen = &approval
	return nil
}
