package appliance

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/receipt"
	"github.com/keyrelease/krabox/tpm/wire"
)

// logContext derives the key of the log's records at rest from the state's secret.
const logContext = "kra/log-records/v1"

// A contradiction is evidence against what lies on the disk: the box must be locked.
type contradiction struct{ reason string }

func (c contradiction) Error() string { return c.reason }

// opened are the two things that the TPM's record is about, accepted and in service.
type opened struct {
	store *store.Store
	log   *audit.Log
	clock *clock

	resets uint64 // of the TPM: which boot this is

	started func() // to be called when what is served from has been made
}

// open accepts store and log by the TPM's record and puts them into service under a fresh state and a fresh receipt key.
func (a *agent) open(ctx context.Context) (o opened, err error) {
	o.started = inHaste()
	defer func() {
		if err != nil {
			o.started()
		}
	}()
	nv, err := a.tpm.Record(ctx)
	if err != nil {
		return o, fmt.Errorf("read NV record: %w", err)
	}
	accepted, err := store.Open(a.storeFile(), a.in.store, nv)
	if err != nil {
		return o, judge(err)
	}
	o.clock = newClock(accepted.State().Clock().Time)
	box := accepted.State().Box().Name
	key, err := accepted.Secret(logContext)
	if err != nil {
		return o, errors.Join(err, accepted.Close())
	}
	if o.log, err = a.openLog(box, o.clock, key, nv, accepted.State().Exported().Size); err != nil {
		return o, errors.Join(err, accepted.Close())
	}
	st, err := a.tpm.Status(ctx)
	if err != nil {
		return o, errors.Join(fmt.Errorf("ask for TPM's resets: %w", err), o.log.Close(), accepted.Close())
	}
	o.resets = uint64(st.Resets)
	o.log.SetState(accepted.State().Generation(), o.resets)
	links, err := a.rekey(ctx, o.log)
	if err != nil {
		return o, errors.Join(judge(err), o.log.Close(), accepted.Close())
	}
	if err := o.clock.within(links.Chain); err != nil {
		return o, errors.Join(err, o.log.Close(), accepted.Close())
	}
	if _, err := o.log.Append(ctx, audit.Entry{Kind: receipt.Boot, Private: bootRecord{a.version, nv.Generation, o.resets, a.passed, a.unlocked.String()}}); err != nil {
		return o, errors.Join(fmt.Errorf("log boot: %w", err), o.log.Close(), accepted.Close())
	}
	o.store, err = accepted.Boot(ctx, a.tpm, o.position, links)
	if err != nil {
		return o, errors.Join(err, o.log.Close())
	}
	o.log.SetState(o.store.State().Generation(), o.resets)
	return o, nil
}

type bootRecord struct {
	Software   string `json:"software"`
	Generation uint64 `json:"generation"` // of the TPM's record that state and log were accepted by
	Resets     uint64 `json:"resets"`     // starts of the TPM; those between two records opened nothing, or ended before this one
	Tests      int    `json:"tests"`      // self-tests that passed before this; none failed

	Detail string `json:"detail,omitempty"` // what opened a box that waited
}

func (o opened) position() (uint64, [32]byte) {
	h := o.log.Head()
	return uint64(h.Size), h.Root
}

// judge tells what the disk's owner did from what may pass by itself.
func judge(err error) error {
	var back *store.Rollback
	var refused wire.Refused // by the TPM: asking again does not help
	if errors.As(err, &back) || errors.As(err, &refused) || errors.Is(err, store.ErrDamaged) || errors.Is(err, audit.ErrEdited) {
		return contradiction{err.Error()}
	}
	return err
}

// openLog accepts a log that is at least as long as the TPM's record says and whose prefix has the record's root, and of which nothing is
// gone beyond the first exported records.
func (a *agent) openLog(box string, c *clock, key [32]byte, nv label.Record, exported int64) (*audit.Log, error) {
	l, err := audit.Open(a.logDir(), audit.Options{Key: key, Box: box, Now: c.time})
	if err != nil {
		return nil, judge(err)
	}
	if err := l.Accept(nv.LogSize, nv.LogRoot, exported); err != nil {
		return nil, errors.Join(judge(err), l.Close())
	}
	return l, nil
}

// rekey makes the receipt key of this boot: certified by the label key, introduced into the log by the key before it.
func (a *agent) rekey(ctx context.Context, l *audit.Log) (store.ReceiptKeyAdd, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return store.ReceiptKeyAdd{}, fmt.Errorf("make receipt key: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return store.ReceiptKeyAdd{}, fmt.Errorf("make receipt key: %w", err)
	}
	chain, err := a.tpm.LeafReceipt(ctx, spki)
	if err != nil {
		return store.ReceiptKeyAdd{}, fmt.Errorf("certify receipt key: %w", err)
	}
	path, err := receipt.NewPath(chain)
	if err != nil {
		return store.ReceiptKeyAdd{}, fmt.Errorf("certify receipt key: %w", err)
	}
	at := l.Head().Size
	if _, err := l.Rekey(ctx, key, path); err != nil {
		return store.ReceiptKeyAdd{}, fmt.Errorf("introduce receipt key: %w", err)
	}
	return store.ReceiptKeyAdd{Index: at, Chain: chain}, nil
}
