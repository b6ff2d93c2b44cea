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
	"sync"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
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
	EnrolRequest(ctx context.Context) ([]byte, error)
	EnrolInstall(ctx context.Context, bundle []byte) (tpm.Installed, error)
	LeafKeyRelease(ctx context.Context, spki []byte, access string, u tpm.Usage) ([][]byte, error)
	LeafReplica(ctx context.Context, spki []byte, statement label.Digest) ([][]byte, error)
}

// A module is the process of the hardware security module. Files that a call returns must be in the store before the key
// is shown to anybody.
type module interface {
	Generate(ctx context.Context, s hsm.Suite, c hsm.Custody) (hsm.Key, hsm.Files, error)
	Import(ctx context.Context, pkcs8 []byte, c hsm.Custody) (hsm.Key, hsm.Files, error)
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
}

// A keeper is the sealed store. Commit returns when the change is durable; a *store.Invalid means that nothing happened.
type keeper interface {
	State() *store.State
	Commit(ctx context.Context, changes ...store.Change) (*store.State, error)
}

// A body is process 1.
type body interface {
	Status(ctx context.Context) (machine.Status, error)
	Reboot(ctx context.Context) error
	PowerOff(ctx context.Context) error
	SetClock(ctx context.Context, t time.Time) error
	SetNetwork(ctx context.Context, n machine.Network) error
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

	// Health says in words what is wrong with the agent and what to do, or nothing.
	Health func() []string
	// Unlogged has somebody write down what the module did and the log did not take. Nil: the next start does.
	Unlogged func()
	// Clock says whether the clock is trusted, and on whose word. Enrolled mode only.
	Clock func() (trusted bool, word string)
	// Book is the book that decides now. Enrolled mode only.
	Book func() *policy.Book
	// Feed says what became of a source that is read in the background, or nothing. Nil: no source is.
	Feed func(alias kra.Anchor) string
	// Prepare makes what is to serve once next is the state: book, directory, client authorities. What is new in the
	// book is in the log when it returns. Its error refuses the
	// change before it is committed. use puts it to work afterwards. Changes are prepared one at a time. Enrolled mode only.
	Prepare func(next *store.State) (use func(), err error)
	// Install makes the store of a box that was just enrolled and completes the enrolment. Factory mode only.
	Install func(ctx context.Context, i tpm.Installed) error
}

// An Agent executes commands. It is the wire.Executor of krad.
type Agent struct {
	c        Config
	door     *door
	sessions *sessions
	nobody   string // a hash to check when nobody is known by a name

	change sync.Mutex // held from the preparation of a change to its end
}

var _ wire.Executor = (*Agent)(nil)

// New returns an agent, or an error if c lacks what its mode needs.
func New(c Config) (*Agent, error) {
	switch {
	case c.TPM == nil || c.Health == nil:
		return nil, errors.New("start administration: no TPM or no health")
	case c.Mode == console.Enrolled && (c.Store == nil || c.HSM == nil || c.Log == nil || c.Clock == nil || c.Book == nil || c.Prepare == nil):
		return nil, errors.New("start administration: an enrolled box needs store, module, log, clock and book")
	case c.Mode == console.Factory && c.Install == nil:
		return nil, errors.New("start administration: a factory box needs a way to install")
	}
	return &Agent{c: c, door: newDoor(), sessions: newSessions(), nobody: nobodysHash()}, nil
}
