package boot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// decide starts the TPM's daemon and takes the one path through the stages:
//
//	factory:   running
//	enrolled:  open, unseal, running
//	enrolled, and nothing that was measured is approved, or an officer asked for it: maintenance
//	otherwise: locked
//
// Whatever goes wrong on the way ends in locked. The mode is set when it returns, unless ctx has ended.
func (b *box) decide(ctx context.Context) {
	err := b.keep(b.tpmdSpec()).await(ctx)
	if err != nil {
		b.drop("tpmd", errKill) // the next step need not wait for it
	}
	switch {
	case b.o.Fault != "":
		b.refuse(ctx, b.o.Fault)
		return
	case err != nil:
		b.refuse(ctx, fmt.Sprintf("the TPM does not answer: %v", err))
		return
	}
	b.offerPreloaded(ctx)
	if err := b.measureAndOpen(ctx); err != nil {
		b.refuse(ctx, err.Error())
	}
}

func (b *box) measureAndOpen(ctx context.Context) error {
	var s wire.Status
	err := b.tpm(ctx, func(l *wire.Init) (err error) { s, err = l.Status(ctx); return err })
	if err != nil {
		return fmt.Errorf("ask the TPM: %w", err)
	}
	switch s.State {
	case wire.Factory:
		if err := b.extend(ctx, label.Running); err != nil {
			return err
		}
		b.setMode(modeFactory, "")
		b.say("not enrolled; stage running")
		return nil
	case wire.Enrolled:
		if s.Box != nil {
			b.name = s.Box.Name
		}
		switch asked, err := maintenanceAsked(b.o.State); {
		case err != nil:
			return b.maintain(ctx, err.Error())
		case asked:
			return b.maintain(ctx, "an officer asked for it; the next restart is an ordinary one")
		case s.Unapproved != "":
			return b.maintain(ctx, s.Unapproved)
		}
		return b.open(ctx)
	}
	return fmt.Errorf("enrolment is inconsistent: %s", s.Reason)
}

// open unseals between the two stages. The keys are in the vault before the box is called enrolled, and the stage has left open by then:
// nothing unseals twice in a boot.
func (b *box) open(ctx context.Context) error {
	if err := b.extend(ctx, label.Open); err != nil {
		return err
	}
	b.say("measured, stage open")
	var opened wire.Opened
	err := b.tpm(ctx, func(l *wire.Init) (err error) { opened, _, err = l.Unseal(ctx); return err })
	if err != nil {
		return err // says what was found and what was expected
	}
	b.vault.fill(opened)
	if err := b.extend(ctx, label.Running); err != nil {
		return err
	}
	b.setMode(modeEnrolled, "")
	b.say("opened, stage running")
	return nil
}

// extend makes the step to a stage in PCR 14. It is tried once: after a failure nobody knows whether it happened.
func (b *box) extend(ctx context.Context, s label.Stage) error {
	if err := b.tpm(ctx, func(l *wire.Init) error { return l.Extend(ctx, s) }); err != nil {
		return fmt.Errorf("extend stage %s: %w", s, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stage = s
	return nil
}

var errNoTPMD = errors.New("the TPM's daemon does not run")

// tpm lends the connection to the tpmd that runs now, after waiting for one.
func (b *box) tpm(ctx context.Context, use func(*wire.Init) error) error {
	until := time.Now().Add(b.ground.pace.tpmd)
	for {
		b.mu.Lock()
		l, kept := b.link, b.units["tpmd"] != nil
		b.mu.Unlock()
		if l != nil {
			return use(l)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !kept || time.Now().After(until) {
			return errNoTPMD
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// setLink notes the connection to a tpmd that starts, or nil when it has ended.
func (b *box) setLink(l *wire.Init) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.link = l
}
