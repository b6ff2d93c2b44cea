// Package hsm is custody of key-release keys in a hardware security module, over PKCS#11, with a record of every use.
package hsm

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/receipt"
)

// Config says which module to use and where its token lies.
type Config struct {
	Module     string // path of the PKCS#11 library
	Parameters string // for C_Initialize, if the module takes some there
	Dir        string // folder, best a tmpfs, for SoftHSM's token; empty for a module that keeps its own
	Label      string // of the token
	Loaded     int    // keys in vault mode that may be loaded at a time; 0: as many as is usual
	Destroyed  int    // objects, after which Spent; 0: never

	Domain label.Domain // whose boxes may be given copies of keys; the zero Domain: none may
	Box    string       // this box's name in it
}

// A Custodian owns the PKCS#11 library of this process. There can be one at a time.
//
//	closed --Open--> open --Open with another token--> open
//	  ^               |
//	  +-----Close-----+        a fatal error of the module closes Failed; only a new process helps
type Custodian struct {
	config    Config
	chain     *chain
	sealer    sealer    // of token files, on their way out and in
	transport transport // to which other boxes seal
	failed    chan struct{}
	fail      sync.Once
	spent     chan struct{}
	spend     sync.Once

	newest atomic.Uint64         // the highest number of a backup key that this process has seen
	change sync.Mutex            // held by what opens, closes or changes the token
	token  atomic.Pointer[token] // nil while closed
}

// New returns a closed custodian. Its chain of unwraps is authenticated with key, and its token files are sealed with a
// key derived from it.
func New(config Config, key [32]byte) (*Custodian, error) {
	var instance receipt.Instance
	if _, err := rand.Read(instance[:]); err != nil {
		return nil, fmt.Errorf("draw instance: %w", err)
	}
	s, err := newSealer(key)
	if err != nil {
		return nil, err
	}
	t, err := newTransport(key)
	if err != nil {
		return nil, err
	}
	return &Custodian{config: config, chain: newChain(key, instance), sealer: s, transport: t, failed: make(chan struct{}),
		spent: make(chan struct{})}, nil
}

// Failed is closed when the module is beyond help in this process.
func (c *Custodian) Failed() <-chan struct{} { return c.failed }

// Spent is closed when so many objects were destroyed that the memory which SoftHSM keeps of each is to be given back, which a new process does.
func (c *Custodian) Spent() <-chan struct{} { return c.spent }

// giveUp closes Failed.
func (c *Custodian) giveUp() { c.fail.Do(func() { close(c.failed) }) }

// Open opens the token t: see wire.Client.Open. Files that are not as they left are refused before anything changes.
func (c *Custodian) Open(t wire.Token) (wire.Instance, error) {
	files, err := c.sealer.open(t.Files)
	if err != nil {
		return wire.Instance{}, err
	}
	var vault []*entry
	if t.Files, vault, err = splitVault(files); err != nil {
		return wire.Instance{}, err
	}
	c.change.Lock()
	defer c.change.Unlock()
	if open := c.token.Load(); open != nil {
		if open.same(t, vault) {
			return wire.Instance{ID: c.chain.instance, Report: open.report}, nil
		}
		if err := c.shut(open); err != nil {
			return wire.Instance{}, err
		}
	}
	open, made, err := openToken(c.config, t, vault, c.giveUp, func() { c.spend.Do(func() { close(c.spent) }) })
	if err != nil {
		return wire.Instance{}, err
	}
	c.token.Store(open)
	if _, err := c.during(func(s *session) error { _, err := c.backupTransfers(s); return err }); err != nil {
		return wire.Instance{}, errors.Join(err, c.shut(open))
	}
	return wire.Instance{ID: c.chain.instance, Files: c.sealer.seal(made), Report: open.report}, nil
}

// Close finishes what is under way and unloads the token.
func (c *Custodian) Close() error {
	c.change.Lock()
	defer c.change.Unlock()
	if open := c.token.Load(); open != nil {
		return c.shut(open)
	}
	return nil
}

func (c *Custodian) shut(open *token) error {
	c.token.Store(nil)
	if err := open.close(); err != nil {
		c.giveUp()
		return fmt.Errorf("close token: %w", err)
	}
	return nil
}

// Status returns the open instance.
func (c *Custodian) Status() (wire.Instance, error) {
	open := c.token.Load()
	if open == nil {
		return wire.Instance{}, wire.ErrClosed
	}
	report := open.report
	report.Keys, report.ImportKeys = uint32(open.index.size()), open.imports.Load()
	return wire.Instance{ID: c.chain.instance, Report: report}, nil
}

// List returns every key, ordered by id.
func (c *Custodian) List() ([]wire.Key, error) {
	open := c.token.Load()
	if open == nil {
		return nil, wire.ErrClosed
	}
	return open.index.list(), nil
}

// Generate makes a key in the token and returns the token files that changed, sealed.
func (c *Custodian) Generate(s wire.Suite, custody wire.Custody, m wire.Mode) (key wire.Key, changed wire.Files, err error) {
	changed, err = c.mutate(func(w *session) error { key, err = w.generate(s, custody, m); return err })
	return key, changed, err
}

// Import takes a private key in PKCS#8 DER into the token.
func (c *Custodian) Import(pkcs8 []byte, custody wire.Custody, m wire.Mode) (key wire.Key, changed wire.Files, err error) {
	changed, err = c.mutate(func(w *session) error { key, err = w.importKey(pkcs8, custody, m); return err })
	return key, changed, err
}

// Destroy removes a key from the token. After an error it may be called again until it returns the files.
func (c *Custodian) Destroy(id block.KeyID) (wire.Files, error) {
	if err := c.Unload(id); !errors.Is(err, wire.ErrNoKey) {
		return nil, err // it was never in the token
	}
	if changed, err := c.expunge(id); !errors.Is(err, wire.ErrNoKey) {
		return changed, err
	}
	var open *token
	changed, err := c.mutate(func(w *session) error { open = w.token; return w.destroy(id) })
	if err == nil {
		open.index.left(id)
	}
	return changed, err
}

// mutate runs f alone, on a session of its own, and returns the files that it changed, sealed. An answer is files or an
// error: what a failed change did to files counts as unreported, and the next that succeeds returns it too.
func (c *Custodian) mutate(f func(*session) error) (wire.Files, error) {
	c.change.Lock()
	defer c.change.Unlock()
	open, err := c.during(f)
	if err != nil {
		return nil, err
	}
	return c.changed(open)
}

// onToken is mutate for what changes no file.
func (c *Custodian) onToken(f func(*session) error) error {
	c.change.Lock()
	defer c.change.Unlock()
	_, err := c.during(f)
	return err
}

// during runs f alone, on a session of its own. The caller holds c.change.
func (c *Custodian) during(f func(*session) error) (open *token, err error) {
	if open = c.token.Load(); open == nil {
		return nil, wire.ErrClosed
	}
	ran := make(chan struct{})
	if !open.pool.submit(call(func(s *session) {
		defer close(ran)
		open.objects.Lock()
		s.alone = true
		defer func() { s.alone = false; open.objects.Unlock() }()
		if err = s.revive(); err == nil {
			err = f(s)
		}
	}), 1) {
		return nil, wire.ErrClosed
	}
	<-ran
	return open, err
}

// changed returns the files that changed since it was last asked, sealed.
func (c *Custodian) changed(open *token) (wire.Files, error) {
	changed, err := open.folder.changes()
	if err != nil {
		return nil, err
	}
	if len(open.vaultChanges) > 0 {
		if changed == nil {
			changed = wire.Files{}
		}
		maps.Copy(changed, open.vaultChanges)
		clear(open.vaultChanges)
	}
	return c.sealer.seal(changed), nil
}

// Since returns the chain items after the n-th.
func (c *Custodian) Since(n uint64) ([]receipt.Item, receipt.ChainHead, error) {
	return c.chain.since(n)
}

// Check verifies that this or an earlier custodian with the same key made head.
func (c *Custodian) Check(head receipt.ChainHead) error { return c.chain.check(head) }

// Service returns the custodian's side of the protocol.
func (c *Custodian) Service() wire.Service {
	return wire.Service{
		Open: c.Open, Generate: c.Generate, Import: c.Import, Destroy: c.Destroy, List: c.List,
		Since: c.Since, Check: c.Check, Status: c.Status, Unwrap: c.Unwrap, Transcrypt: c.Transcrypt,
		Replication: wire.Replication{Transport: c.Transport, Admit: c.Admit, Pack: c.Pack, Receive: c.Receive, Dismiss: c.Dismiss},
		Importing:   wire.Importing{ImportKey: c.ImportKey, NewImportKey: c.NewImportKey, ImportWrapped: c.ImportWrapped},
		Labelling:   wire.Labelling{Enclose: c.Enclose, Load: c.Load, Unload: c.Unload, Loaded: c.Loaded},
	}
}

// pinHash lets an open token recognise its PIN without keeping it.
func pinHash(pin []byte) [32]byte { return sha256.Sum256(pin) }

func equalHash(a, b [32]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }
