package hsm

import (
	"crypto"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
)

// A token is an open token: logged in, indexed, with its sessions.
type token struct {
	lib    *p11.Ctx
	slot   uint
	anchor p11.SessionHandle // idle; while it lives, so does the log-in
	folder *folder
	pin    [32]byte // pinHash
	report wire.Report
	giveUp func()
	der    bool                      // the module wants a peer's point as a DER octet string
	kek    p11.ObjectHandle          // wraps replicable keys
	vault  p11.ObjectHandle          // wraps bound keys in vault mode
	oaep   map[crypto.Hash]p11.Error // how the module refuses a wrap, for each hash of OAEP that it can do both ways
	noSeed error                     // why no seed can be sealed here, or nil
	uses   atomic.Uint64             // private-key operations that the module was asked for
	loads  atomic.Uint64             // keys in vault mode, and keys over their seeds, that it was asked to unwrap

	imports atomic.Uint32 // import keys in the token: none or one

	worn   atomic.Uint64 // objects that were destroyed
	wearOf uint64        // how many of them are enough; 0: no number
	spent  func()        // called when they are enough

	vaultChanges wire.Files // files of keys in vault mode that are not reported yet; guarded by Custodian.change

	// objects is held for writing while objects of the token come or go and for reading while they are searched:
	// SoftHSM fails keygens otherwise. Operations with a key need no lock.
	objects sync.RWMutex
	index   *index
	cache   *cache
	pool    *pool
}

const sessionFlags = p11.CKF_SERIAL_SESSION | p11.CKF_RW_SESSION

// openToken restores or makes the token and opens it. It returns the files of a new one.
func openToken(c Config, t wire.Token, vault []*entry, giveUp, spent func()) (_ *token, made wire.Files, err error) {
	if c.Dir != "" && len(t.Files) == 0 && len(vault) > 0 {
		return nil, nil, wire.Refused{Reason: "open token files: there are keys in vault mode, and no token that wrapped them"}
	}
	f, err := newFolder(c, t.Files)
	if err != nil {
		return nil, nil, err
	}
	lib, err := load(c)
	if err != nil {
		return nil, nil, err
	}
	k := &token{lib: lib, folder: f, pin: pinHash(t.PIN), giveUp: giveUp, index: newIndex(), cache: newCache(c.Loaded), vaultChanges: wire.Files{},
		wearOf: uint64(c.Destroyed), spent: spent}
	if err := k.start(c, t, vault); err != nil {
		return nil, nil, errors.Join(err, k.unload())
	}
	files, err := f.changes()
	if err != nil {
		return nil, nil, errors.Join(err, k.close())
	}
	if len(t.Files) == 0 {
		made = files
	}
	return k, made, nil
}

// start brings an initialized library to an open token.
func (k *token) start(c Config, t wire.Token, vault []*entry) (err error) {
	if k.folder.path != "" && len(t.Files) == 0 {
		if err := k.make(c.Label, t); err != nil {
			return fmt.Errorf("make token: %w", err)
		}
	}
	s, err := k.enter(c.Label, t.PIN)
	if err != nil {
		return err
	}
	if k.report, err = s.probe(); err != nil {
		return fmt.Errorf("probe module: %w", err)
	}
	k.report.Module = k.describe()
	if k.index, err = s.scan(); err != nil {
		return fmt.Errorf("index keys: %w", err)
	}
	if _, err := s.importObjects(); err != nil {
		return err
	}
	if err := k.addVault(vault); err != nil {
		return err
	}
	k.report.Keys = uint32(k.index.size())
	k.pool, err = newPool(k)
	return err
}

// enter finds the token and logs in.
func (k *token) enter(label string, pin []byte) (_ *session, err error) {
	if k.slot, err = k.find(label); err != nil {
		return nil, err
	}
	if k.anchor, err = k.openSession(); err != nil {
		return nil, fmt.Errorf("open anchor session: %w", err)
	}
	return &session{token: k, lib: k.lib, handle: k.anchor}, k.login(k.anchor, p11.CKU_USER, pin)
}

// addVault indexes the keys in vault mode.
func (k *token) addVault(keys []*entry) error {
	for _, e := range keys {
		if k.index.get(e.key.ID) != nil {
			return fmt.Errorf("key %v is in the token and in the vault", e.key.ID)
		}
		if k.vaultKey(e.key.Custody) == 0 {
			return wire.Refused{Reason: fmt.Sprintf("open token files: key %v is in vault mode, and the token has lost what wraps it", e.key.ID)}
		}
		k.index.put(e)
	}
	return nil
}

// find returns the slot of the token with this label.
func (k *token) find(label string) (uint, error) {
	slots, err := k.lib.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("list slots: %w", err)
	}
	for _, slot := range slots {
		info, err := k.lib.GetTokenInfo(slot)
		if err == nil && strings.TrimRight(info.Label, " \x00") == label {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("find token: none of %d is labelled %q", len(slots), label)
}

func (k *token) openSession() (p11.SessionHandle, error) {
	return k.lib.OpenSession(k.slot, sessionFlags)
}

// login reports a wrong PIN as wire.ErrPIN.
func (k *token) login(s p11.SessionHandle, user uint, pin []byte) error {
	err := k.lib.Login(s, user, lend(pin))
	if isCode(err, p11.CKR_PIN_INCORRECT, p11.CKR_PIN_LEN_RANGE, p11.CKR_PIN_INVALID) {
		return wire.ErrPIN
	}
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	return nil
}

func (k *token) describe() string {
	info, err := k.lib.GetInfo()
	if err != nil {
		return "unknown module"
	}
	return fmt.Sprintf("%s: %s %d.%d", strings.TrimSpace(info.ManufacturerID), strings.TrimSpace(info.LibraryDescription), info.LibraryVersion.Major, info.LibraryVersion.Minor)
}

// same reports whether t would open as what is open now.
func (k *token) same(t wire.Token, vault []*entry) bool {
	return equalHash(k.pin, pinHash(t.PIN)) && k.folder.same(t.Files) && k.index.sameVault(vault)
}

// close finishes what is under way, then unloads.
func (k *token) close() error {
	if k.pool != nil {
		k.pool.close()
	}
	return k.unload()
}

func (k *token) unload() error {
	err := k.lib.Finalize()
	k.lib.Destroy()
	return errors.Join(err, k.folder.clear())
}

// lend returns a string that is pin itself, not a copy: the module gets one and pin is cleared afterwards.
func lend(pin []byte) string { return unsafe.String(unsafe.SliceData(pin), len(pin)) }
