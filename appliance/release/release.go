// Package release is the network key-release port: HTTPS and JSON, described in kra/PROTOCOL.md and kra/openapi.yaml.
//
//	bytes -> decode -> who, and what is known -> policy.Decide -> Grant -> custody.Unwrap -> verify header MAC -> journal.Append -> seal -> answer
//
// Each arrow takes the proof that the one before it gives, so that none can be left out. A release reads one snapshot,
// takes no lock and touches no disk but the log's.
package release

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/board"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// Limits of the port. Those of a request are in package kra, those of a header in package block.
const (
	RefusalDelay = 100 * time.Millisecond // T: no refusal leaves before; above the slowest suite and a slow disk

	maxConns     = 12_288           // open connections, where there is memory for them
	leastConns   = 2048             // of them on any machine
	connBytes    = 48 << 10         // of memory, for one that is idle
	maxConnsOf   = 256              // of them from one source
	maxConnsNear = 1024             // of them from the sources of one IPv6 /48 or IPv4 /24
	maxInFlight  = 1024             // requests at work; a refusal that waits for its time is not at work, but a stranger's
	maxBodies    = 32 << 20         // bytes of all request bodies being read or at work
	maxHeadBytes = 8 << 10          // request line and headers
	headWithin   = 15 * time.Second // TLS handshake; request line and headers: a box under load is slow to read, too
	bodyWithin   = 30 * time.Second // whole request
	answerWithin = 90 * time.Second // whole answer, from when it is ready
	idleWithin   = 2 * time.Minute  // between requests of an authenticated client
	workWithin   = 10 * time.Second // HSM; log
	drainWithin  = 5 * time.Second  // at shutdown

	patienceShare = 8 // a record waits for others for an eighth of what decision and HSM took
)

// An Unwrapped is what became of one Grant in the HSM.
type Unwrapped struct {
	Seq uint64         // of the item in hsmd's chain that records the attempt
	Key kra.MessageKey // if Err is nil
	Err error

	Sealed []byte // instead of Key: as RSA-OAEP by the suite of the wrap, encrypted to the recipient in the HSM
}

// ErrNoKey is the Err of a grant whose key the HSM does not have any more, as when it was destroyed.
var ErrNoKey = errors.New("no such key in the HSM")

// custody holds the private keys.
type custody interface {
	// Unwrap opens the wrap of every grant, in one operation. It returns one result for each, in their order, and
	// hsmd's chain head after the last. A batch may have any number of results with errors; an error of the whole
	// means that no result is known. It is called by many goroutines and may outlast ctx.
	Unwrap(ctx context.Context, grants []policy.Grant) ([]Unwrapped, receipt.ChainHead, error)

	// Transcrypt is Unwrap where keys go on to the RSA key to, of 2048 to 8192 bits. What it can, it seals to that without
	// taking it out of the HSM; what it cannot, it unwraps.
	Transcrypt(ctx context.Context, to *rsa.PublicKey, grants []policy.Grant) ([]Unwrapped, receipt.ChainHead, error)
}

// journal is the release log.
type journal interface {
	// Append returns when all entries are durable, side by side, and fails if that is not known.
	Append(ctx context.Context, entries ...audit.Entry) (audit.Committed, error)
}

// A Snapshot is all that the port knows of the box's state. It does not change; there is a new one after each change.
type Snapshot struct {
	Domain, Box string
	Book        *policy.Book
	Anchors     *Anchors
	Platforms   *Platforms // nil: no platform is a decryptor
	Directory   *Directory
}

// Options are what a server needs. All but World, Groups, Prover, Services, Permits, Documents, Standby, Unlogged and Log are required.
type Options struct {
	Custody     custody
	Journal     journal
	Snapshot    func() *Snapshot                                     // the newest; never nil
	Clock       func() (now time.Time, trusted bool)                 // now is never before the floor
	Health      func() error                                         // nil while keys can be released
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error) // of the box, from its label key
	World       func() World                                         // the newest, or nil; nil: no source of information is configured
	Groups      groups                                               // nil: no group has a maintainer
	Prover      prover                                               // nil: challenges are not answered
	Services    services                                             // nil: none is configured
	Permits     permits                                              // nil: no domain revokes platforms
	Documents   func() map[string]board.Document                     // the box's board, by path, made beforehand; nil: it has none
	Standby     *Standby                                             // nil: the service is always there
	Unlogged    func()                                               // called at once when the log did not take what the HSM did; it must not wait; nil: nobody
	Log         *slog.Logger                                         // for operators; nil: none
}

func (o Options) check() error {
	if o.Custody == nil || o.Journal == nil || o.Snapshot == nil || o.Clock == nil || o.Health == nil || o.Certificate == nil {
		return errors.New("make release port: an option is missing")
	}
	return nil
}
