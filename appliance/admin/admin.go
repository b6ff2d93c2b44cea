// Package admin executes the console's commands inside the agent.
//
// Each line is parsed again: the program on the serial line is not trusted to have done it. A command is in the audit log
// before anything of it happens and before anything of its answer is shown; what came of a change is logged before the
// officer hears of it.
package admin

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/selftest"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
	tpm "github.com/keyrelease/krabox/tpm/wire"
)

// A platform is the TPM's process.
type platform interface {
	Status(ctx context.Context) (tpm.Status, error)
	Holdings(ctx context.Context) ([]tpm.Holding, error)
	Events(ctx context.Context) (tpm.Events, error)
	EnrolRequest(ctx context.Context) ([]byte, error)
	EnrolInstall(ctx context.Context, bundle []byte) (tpm.Installed, error)
	LeafKeyRelease(ctx context.Context, spki []byte, access string, u tpm.Usage) ([][]byte, error)
	LeafReplica(ctx context.Context, spki []byte, statement label.Digest) ([][]byte, error)
	LeafImport(ctx context.Context, spki []byte) ([][]byte, error)
	Zeroize(ctx context.Context) error

	operators
}

// A module is the process of the hardware security module. Files that a call returns must be in the store before the key
// is shown to anybody.
type module interface {
	Generate(ctx context.Context, s hsm.Suite, c hsm.Custody, m hsm.Mode) (hsm.Key, hsm.Files, error)
	Import(ctx context.Context, pkcs8 []byte, c hsm.Custody, m hsm.Mode) (hsm.Key, hsm.Files, error)
	ImportKey(ctx context.Context) (spki []byte, changed hsm.Files, err error)
	NewImportKey(ctx context.Context) (spki []byte, changed hsm.Files, err error)
	ImportWrapped(ctx context.Context, to block.KeyID, wrapped []byte, c hsm.Custody, m hsm.Mode) (hsm.Key, hsm.Files, error)
	Destroy(ctx context.Context, id block.KeyID) (hsm.Files, error)
	CheckHead(ctx context.Context, head receipt.ChainHead) error
	Status(ctx context.Context) (hsm.Instance, error)
	// Refresh has the process open the token as it is in the store.
	Refresh(ctx context.Context) error

	replicator
}

// An auditLog is the release log. Append returns when the records are durable.
type auditLog interface {
	Append(ctx context.Context, entries ...audit.Entry) (audit.Committed, error)
	Head() audit.Head
	Health() error
	// Records calls f for each record from up to, but without, to.
	Records(from, to int64, f func(index int64, r receipt.Record) error) error
	// Export writes the batches that hold the records from up to, but without, to, as receipt.VerifyExport reads them.
	Export(w io.Writer, from, to int64) error
	// RootAt returns the root of the first size records.
	RootAt(size int64) (tlog.Hash, error)
	// Exported takes somebody's word about an export; Removable says what Prune would remove upon it, and Prune removes that.
	Exported(size int64, root [32]byte) (audit.Exported, error)
	Removable(e audit.Exported, before int64) (audit.Removal, error)
	Prune(e audit.Exported, before int64) (audit.Removal, error)
	// Removed returns the first record that is there, and when those before it were removed.
	Removed() (below int64, at time.Time)
}

// A keeper is the sealed store. Commit returns when the change is durable; a *store.Invalid or a store.ErrFull means that nothing
// happened. Room returns an error while the disk has no room for a change.
type keeper interface {
	State() *store.State
	Commit(ctx context.Context, changes ...store.Change) (*store.State, error)
	Room() error
}

// A body is process 1.
type body interface {
	Status(ctx context.Context) (machine.Status, error)
	Reboot(ctx context.Context) error
	Maintenance(ctx context.Context) error
	PowerOff(ctx context.Context) error
	SetClock(ctx context.Context, t time.Time) error
	SetNetwork(ctx context.Context, n machine.Network) error
	Disks(ctx context.Context) ([]machine.Disk, error)
	WriteDisk(ctx context.Context, d machine.Disk, t machine.Title, text []byte) error
	ReadDisk(ctx context.Context, d machine.Disk) (string, error)
}

// A Config is what an Agent works with. What is marked so is nil outside of enrolled mode.
type Config struct {
	Mode    console.Mode
	Reason  string       // why it is locked
	Domain  label.Domain // of the image
	Version string       // of the software
	Roots   *x509.CertPool
	Started time.Time

	TPM     platform
	Machine body     // nil on an ordinary host
	Store   keeper   // enrolled
	HSM     module   // enrolled
	Log     auditLog // enrolled
	Labels  labeller // nil: no key is bound to a label

	// Health says in words what is wrong with the agent and what to do, or nothing.
	Health func() []string
	// SelfTest holds the agent's algorithms to their known answers, and the programs of the box to the image's list.
	SelfTest func(context.Context) (selftest.Report, error)
	// Failed says why the agent is in the state error, in which only what mends is done, or nil. Nil: it never is.
	Failed func() error
	// Unlogged has somebody write down what the module did and the log did not take. Nil: the next start does.
	Unlogged func()
	// TLS says whether there is a TLS key now. Nil: there is none.
	TLS func() bool
	// There says whether the service is instantiated. Nil: it is not, but where it always is.
	There func() bool
	// Clock says whether the clock is trusted, and on whose word, or why it is not any more. Enrolled mode only.
	Clock func() (trusted bool, word string)
	// Trust takes an officer's word about the clock, once that is committed. Enrolled mode only.
	Trust func(store.Clock)
	// Possible refuses a time at which this box could not be: it would lock itself at its next start. Nil: any is.
	Possible func(time.Time) error
	// Times says what became of asking the sources of time, and why the clock does not follow them, if it does not. Nil: none is asked.
	Times func() ([]TimeSource, error)
	// Book is the book that decides now. Enrolled mode only.
	Book func() *policy.Book
	// Feed says what became of a source that is read in the background, or nothing. Nil: no source is.
	Feed func(alias kra.Anchor) string
	// Standing says what the box advertises and what its domain permits it at present. Nil: nothing is known.
	Standing func() []string
	// Forwarded says how far the syslog server is behind the log, first in one line; nothing if there is none. Nil: nothing is known.
	Forwarded func() []string
	// Delivered is the first record that the syslog server is not known to have, where there is one. Nil: nothing is known.
	Delivered func() int64
	// Now is the time by which permissions are held to be current. Nil: this host's.
	Now func() time.Time
	// Prepare makes what is to serve once next is the state: book, directory, client authorities. What is new in the
	// book is in the log when it returns. Its error refuses the
	// change before it is committed. use puts it to work afterwards. Changes are prepared one at a time. Enrolled mode only.
	Prepare func(next *store.State) (use func(), err error)
	// Try says why a state could not be prepared, and prepares nothing. Enrolled mode only.
	Try func(next *store.State) error
	// Erase removes what the agent has on the disk, after which it must not go on. Enrolled and locked mode only.
	Erase func() error
	// Lock is what it takes beside the TPM to open the state, nil: nothing. Renew has the state's key renewed, and from then on wanted with what
	// lock says; Owed says that it is due, since a key was destroyed. Renew is nil on an ordinary host. Enrolled mode only.
	Lock  func() *store.Lock
	Owed  func() bool
	Renew func(ctx context.Context, how machine.Opening, secret [32]byte, lock *store.Lock) error
	// Waits is what a state that waits may be opened with, and Unlock opens it. Attended mode only.
	Waits  []store.Lock
	Unlock func(ctx context.Context, secret [32]byte, by Typed) error
	// Install makes the store of a box that was just enrolled and completes the enrolment. Factory mode only.
	Install func(ctx context.Context, i tpm.Installed) error
	// Port is where a factory box meets its desk when the console says so. Nil: there is none.
	Port net.Listener
}

// An Agent executes commands. It is the wire.Executor of krad.
type Agent struct {
	c        Config
	door     *door
	sessions *sessions
	find     func(console.Command) (action, bool)
	nobody   string                 // a hash to check when nobody is known by a name
	named    atomic.Pointer[string] // what the TPM says the box is called; nil: it was not asked yet
	noCodes  store.Codes            // to check when there is no second factor

	began   time.Time
	tallies map[string]*tally   // of accounts, by those inside the door
	spent   map[string]spending // codes that were used, by those inside the door
	offers  map[string]offer    // second factors that officers were shown, by name; guarded by change

	trial     trial // of a network configuration
	listening place // of who meets the desk over the port

	making  *making  // a backup key whose shares are being written down; guarded by change
	opening *awaited // a backup that waits for shares; guarded by change

	shown [32]byte // of whom was asked about a disk last, and what was on it; guarded by change

	minting   *minting     // an unlock secret whose shares are being written down; guarded by change
	gathering gathering    // shares of a box that waits; guarded by change
	certs     certificates // guarded by change
	renewed   time.Time    // when a renewal that was owed was tried last; guarded by change

	change sync.Mutex               // held from the preparation of a change to its end
	failed map[store.Task]time.Time // what Tend could not do, and when it tried; guarded by change
}

var _ wire.Executor = (*Agent)(nil)

// New returns an agent, or an error if c lacks what its mode needs.
func New(c Config) (*Agent, error) {
	switch {
	case c.TPM == nil || c.Health == nil:
		return nil, errors.New("start administration: no TPM or no health")
	case c.Mode == console.Enrolled && (c.Store == nil || c.HSM == nil || c.Log == nil || c.Clock == nil || c.Trust == nil || c.Book == nil || c.Prepare == nil || c.Try == nil):
		return nil, errors.New("start administration: an enrolled box needs store, module, log, clock and book")
	case c.Mode == console.Attended && (len(c.Waits) == 0 || c.Unlock == nil):
		return nil, errors.New("start administration: an attended box needs what it waits for")
	case c.Mode == console.Factory && c.Install == nil:
		return nil, errors.New("start administration: a factory box needs a way to install")
	}
	a := &Agent{c: c, door: newDoor(), sessions: newSessions(), find: actionOf, nobody: nobodysHash(), noCodes: nobodysCodes(), spent: map[string]spending{}, offers: map[string]offer{}, listening: newPlace(), trial: trial{lasts: trialTime}, began: time.Now(), tallies: map[string]*tally{}, failed: map[store.Task]time.Time{}}
	if c.Mode == console.Enrolled {
		a.door.failures = c.Store.State().ConsoleFailures()
	}
	return a, nil
}
