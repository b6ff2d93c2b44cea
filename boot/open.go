package boot

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/tpm/wire"
)

// secretSize is the size of each key.
const secretSize = 32

// secretName names a key of the vault.
type secretName uint8

const (
	storeKey secretName = iota + 1 // krad's
	chainKey                       // hsmd's
)

// Where secrets lie in the vault's page. What was unsealed itself is not kept.
const (
	atStore  = iota * secretSize // that krad is started with
	atChain                      // that hsmd is started with
	atBase                       // of which every store key is made
	atPlain                      // the store key of the TPM alone
	atUnlock                     // the unlock secret of an attended box
	atHalf                       // drawn, and not yet in the TPM
	atNext                       // what takes the place of atStore then
	atNextPlain
	atNextUnlock
	atEnd
)

// A vault keeps the keys derived from the opened secrets for daemons that start again, in a page that is neither swapped nor dumped.
type vault struct {
	mu       sync.Mutex
	page     []byte // nil when closed
	full     bool
	attended bool // there is an unlock secret

	drawn        bool // there is a half that the TPM does not have yet
	nextAttended bool
}

var errEmpty = errors.New("nothing was opened")

func newVault() (*vault, error) {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map memory for secrets: %w", err)
	}
	if err := errors.Join(unix.Mlock(page), unix.Madvise(page, unix.MADV_DONTDUMP), unix.Madvise(page, unix.MADV_WIPEONFORK)); err != nil {
		unix.Munmap(page)
		return nil, fmt.Errorf("lock memory for secrets: %w", err)
	}
	return &vault{page: page}, nil
}

// fill keeps the keys and clears what they came from.
func (v *vault) fill(o wire.Opened) {
	v.mu.Lock()
	defer v.mu.Unlock()
	store, chain := wire.Derive(o)
	base := wire.Base(o)
	o.Wipe()
	v.put(atStore, store)
	v.put(atPlain, store)
	v.put(atChain, chain)
	v.put(atBase, base)
	clear(store[:])
	clear(chain[:])
	clear(base[:])
	v.full = true
}

func (v *vault) put(at int, k [secretSize]byte) { copy(v.page[at:at+secretSize], k[:]) }
func (v *vault) get(at int) [secretSize]byte    { return [secretSize]byte(v.page[at : at+secretSize]) }

// pipe returns the reading end of a pipe that holds one key and then ends.
func (v *vault) pipe(which secretName) (*os.File, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.full {
		return nil, fmt.Errorf("hand over a key: %w", errEmpty)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer w.Close()
	at := atStore
	if which == chainKey {
		at = atChain
	}
	if _, err := w.Write(v.page[at : at+secretSize]); err != nil {
		r.Close()
		return nil, fmt.Errorf("hand over a key: %w", err)
	}
	return r, nil
}

// unlock takes the unlock secret of an attended box, as somebody says who cannot be wrong for long, and gives the store's key with it.
func (v *vault) unlock(secret [secretSize]byte) (key [secretSize]byte, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.full {
		return key, errEmpty
	}
	v.attended = true
	v.put(atUnlock, secret)
	key = wire.WithUnlock(v.get(atPlain), secret)
	v.put(atStore, key)
	return key, nil
}

// renew draws a half and gives the store's key that there will be with it.
func (v *vault) renew(how machine.Opening, secret [secretSize]byte) (key [secretSize]byte, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.full {
		return key, errEmpty
	}
	half := v.page[atHalf : atHalf+secretSize]
	rand.Read(half)
	key = wire.StoreKey(v.get(atBase), half)
	v.put(atNextPlain, key)
	if how == machine.AsBefore {
		secret = v.get(atUnlock)
	}
	v.nextAttended = how == machine.WithSecret || how == machine.AsBefore && v.attended
	if !v.nextAttended {
		clear(secret[:])
	} else {
		key = wire.WithUnlock(key, secret)
	}
	v.put(atNextUnlock, secret)
	v.put(atNext, key)
	v.drawn = true
	return key, nil
}

// turn has the half that was drawn written and goes over to the keys that are made of it. When nobody knows whether it was written, nobody is
// started with either key any more, and sure is false.
func (v *vault) turn(write func(half []byte) error) (sure bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.full || !v.drawn {
		return true, errors.New("no fresh half was drawn")
	}
	err = write(v.page[atHalf : atHalf+secretSize])
	v.drawn = false
	var refused wire.Refused
	switch {
	case err == nil:
		v.put(atStore, v.get(atNext))
		v.put(atPlain, v.get(atNextPlain))
		v.put(atUnlock, v.get(atNextUnlock))
		v.attended = v.nextAttended
	case !errors.As(err, &refused):
		v.empty()
		return false, err
	}
	clear(v.page[atHalf:atEnd])
	return true, err
}

// wipe forgets the keys.
func (v *vault) wipe() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.empty()
}

func (v *vault) empty() {
	clear(v.page)
	v.full, v.attended, v.drawn, v.nextAttended = false, false, false, false
}

func (v *vault) close() {
	v.wipe()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.page != nil {
		unix.Munmap(v.page)
		v.page = nil
	}
}
