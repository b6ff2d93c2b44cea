package boot

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

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

// A vault keeps the keys derived from the opened secrets for daemons that start again, in a page that is neither swapped nor dumped.
// What was unsealed itself is not kept.
type vault struct {
	mu   sync.Mutex
	page []byte // store key, chain key; nil when closed
	full bool
}

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
	o.Wipe()
	copy(v.page, store[:])
	copy(v.page[secretSize:], chain[:])
	clear(store[:])
	clear(chain[:])
	v.full = true
}

// pipe returns the reading end of a pipe that holds one key and then ends.
func (v *vault) pipe(which secretName) (*os.File, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.full {
		return nil, errors.New("hand over a key: nothing was opened")
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer w.Close()
	at := (int(which) - 1) * secretSize
	if _, err := w.Write(v.page[at : at+secretSize]); err != nil {
		r.Close()
		return nil, fmt.Errorf("hand over a key: %w", err)
	}
	return r, nil
}

// wipe forgets the keys.
func (v *vault) wipe() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.page)
	v.full = false
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
