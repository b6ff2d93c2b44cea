package tpm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// Config is what an Agent works with.
type Config struct {
	Device   string       // see OpenDevice
	Folder   string       // its part of the state partition
	Domain   label.Domain // from the image
	Software string       // what the image says it is
	Model    string       // what the machine's firmware says it is; empty: it says nothing
	Serial   string       // the machine's number, likewise
	EventLog func() ([]byte, error)
	Now      func() time.Time
	Pool     string // the kernel's random generator, which gets some of the TPM's bytes; empty: it gets none
}

// An Agent is the box's side of the TPM and its only user. Its methods are what the wire offers; they may be called
// concurrently and are done one after the other. A TPM command cannot be cancelled: contexts are looked at before.
type Agent struct {
	plan
	cfg    Config
	folder folder

	confirming sync.Mutex // held while a challenge is answered or waits for mu: there is one at most

	mu        sync.Mutex // guards what follows: one TPM operation at a time
	device    *Device
	srk       *object             // nil on a TPM that was never prepared
	fault     string              // why the TPM cannot be this box's; "" if it can
	approvals []label.Approval    // checked; of the folder
	values    []label.SignedValue // checked; of the folder
	defined   []label.Definition  // labels beside the built-in ones; checked; of the folder
	enrolment *label.Enrolment    // checked; nil before an enrolment
	sequence  uint64              // of the bundle that the enrolment is from
	spoilt    error               // why the enrolment on the disk cannot be used; nil if it can, or there is none
	serial    uint64              // of the last advert or retraction of this process
	last      *label.Record       // what the record index holds; nil: ask it. Only this process writes it.

	chosen map[label.ID]granted // the sign approval of each label that worked in this boot: registers never go back
	words  map[label.ID]*word   // operators who are present
	asked  *asked               // the operator's token that was asked; nil: none
}

// Open takes the TPM: flushes what is stale, closes the platform hierarchy that the firmware may have left open, and
// reads what the folder holds.
func Open(cfg Config) (*Agent, error) {
	f, err := openFolder(cfg.Folder)
	if err != nil {
		return nil, err
	}
	d, err := OpenDevice(cfg.Device)
	if err != nil {
		return nil, err
	}
	a := &Agent{plan: plan{cfg.Domain, label.KeyRelease}, cfg: cfg, folder: f, device: d, words: map[label.ID]*word{}}
	if err := a.start(); err != nil {
		_ = d.Close()
		return nil, err
	}
	return a, nil
}

// stir holds the TPM's generator, of which its keys and its part of the state secret are made, to health tests, and mixes what it gave into
// the kernel's, of which all other keys come. The kernel does not count that (random(4)): a TPM that lies makes nothing worse.
func (a *Agent) stir() error {
	b, err := a.device.fit()
	if err != nil {
		return fmt.Errorf("test TPM: %w", err)
	}
	defer clear(b)
	if a.cfg.Pool == "" {
		return nil
	}
	f, err := os.OpenFile(a.cfg.Pool, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.Write(b)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("seed random generator: %w", err)
	}
	return nil
}

func (a *Agent) start() error {
	if err := a.stir(); err != nil {
		return err
	}
	switch srk, err := a.device.persistentSRK(); {
	case err == nil:
		a.srk = &srk
	case errors.Is(err, errOtherKey):
		a.fault = err.Error() + "; clear the TPM in the firmware's set-up and begin again"
	case !errors.Is(err, tpm2.TPMRCHandle):
		return err
	}
	if err := a.reload(); err != nil {
		return err
	}
	if a.enrolment != nil && !a.isPassportSRK() {
		return nil // nothing here is ours, and nothing is told to it
	}
	return a.closePlatform()
}

// isPassportSRK says that the TPM has the SRK that the domain found in it. Otherwise this is another TPM, or someone between it and
// us who offers a key of his own: it is forgotten, so that no session is ever salted to it.
func (a *Agent) isPassportSRK() bool {
	switch {
	case a.srk == nil:
		return false
	case string(a.srk.name.Buffer) == string(a.enrolment.Passport.SRK[:]):
		return true
	}
	a.fault = fmt.Sprintf("the disk was enrolled with another TPM: its passport names storage root key %s, this TPM has %x",
		a.enrolment.Passport.SRK.Short(), a.srk.name.Buffer[2:10])
	a.srk = nil
	return false
}

// Close lets go of the TPM.
func (a *Agent) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.device.Close()
}

// Broken is closed when the TPM can no longer be talked to: only a new process can.
func (a *Agent) Broken() <-chan struct{} { return a.device.broken }

// enter begins an operation; the caller defers what it returns.
func (a *Agent) enter(ctx context.Context) (func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	return a.mu.Unlock, nil
}

// closePlatform sets a random platformAuth if it is empty: with it empty anyone could undefine the record. It is gone
// at the next reset, when it is the firmware's turn again.
func (a *Agent) closePlatform() error {
	salt, done, err := a.saltKey()
	if err != nil {
		return err
	}
	defer done()
	auth := randomAuth()
	defer clear(auth)
	err = a.device.changeAuth(salt, tpm2.TPMRHPlatform, auth)
	if err == nil || errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCHierarchy) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return nil // ours now, or closed before
	}
	return fmt.Errorf("close platform hierarchy: %w", err)
}

// changeAuth gives a hierarchy whose authorization is empty another one, which crosses the bus encrypted. (The session
// that encrypts is not the one that authorizes: the TPM would answer the latter under the new value already.)
func (d *Device) changeAuth(salt object, h tpm2.TPMHandle, auth []byte) error {
	_, err := tpm2.HierarchyChangeAuth{AuthHandle: tpm2.AuthHandle{Handle: h, Auth: tpm2.PasswordAuth(nil)},
		NewAuth: tpm2.TPM2BAuth{Buffer: auth}}.Execute(d, salt.hmac(encryptIn))
	return err
}

// saltKey is the SRK, or on a TPM without one the same key for this once.
func (a *Agent) saltKey() (object, func(), error) {
	if a.srk != nil {
		return *a.srk, func() {}, nil
	}
	o, err := a.device.primarySRK(tpm2.TPMRHNull)
	if err != nil {
		return object{}, nil, err
	}
	return o, func() { a.device.flush(o.handle) }, nil
}

// Random gives up to 64 bytes of the TPM's generator.
func (a *Agent) Random(ctx context.Context, n int) ([]byte, error) {
	leave, err := a.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if n < 1 || n > 64 {
		return nil, wire.Refused{Reason: "random: 1 to 64 bytes"}
	}
	return a.device.Random(n)
}

// ready gives the SRK of an enrolled box, whose Name the domain signed.
func (a *Agent) ready() (object, error) {
	switch {
	case a.fault != "":
		return object{}, wire.Refused{Reason: a.fault}
	case a.spoilt != nil:
		return object{}, wire.Refused{Reason: "the enrolment on the disk is damaged: " + a.spoilt.Error()}
	case a.srk == nil:
		return object{}, wire.Refused{Reason: "this TPM holds no storage root key of this box: it is another TPM, or it was cleared"}
	case a.enrolment == nil:
		return object{}, wire.Refused{Reason: "the box is not enrolled"}
	}
	return *a.srk, nil
}
