package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/keyrelease/krabox/kra/label"
)

// wrapContext is that of the key that wraps a file's data key, and of the associated data.
const wrapContext = "kra/store-wrap/v1"

// A Lock says what it takes beside the TPM's key to open a state: so many of these shares of an unlock secret. It lies in the clear in the
// file, so that the shares can be asked for and each be judged; who alters it there gets a file that does not open.
type Lock struct {
	Name      string         `json:"name"`      // that the shares carry
	Threshold int            `json:"threshold"` // how many it takes
	Shares    []label.Digest `json:"shares"`    // commitments, by index; their number is how many there are
}

// Attended is why a whole and undamaged file does not open: the key given is without the unlock secret, or with a wrong one.
type Attended struct{ Locks []Lock }

func (a *Attended) Error() string {
	return fmt.Sprintf("the state waits for %d of %d unlock shares", a.Locks[0].Threshold, len(a.Locks[0].Shares))
}

// A dataKey encrypts the records of one file. Every file has a fresh one.
type dataKey [32]byte

// A wrap is a data key under a key that somebody can have: of the TPM, or of the TPM and of an unlock secret.
//
//	key   nonce 12 | AES-256-GCM under HKDF-SHA256(store key, wrapContext) of the data key | tag 16,
//	      associated data wrapContext ‖ 0 ‖ JSON of the wrap without it
//
// A file has one. It has two from when it is written under a fresh data key until the key of before no longer exists.
type wrap struct {
	Lock *Lock  `json:"lock"`
	Gone int    `json:"gone"` // how many keys had been destroyed when no copy from before could be opened any more
	Key  []byte `json:"key,omitempty"`
}

// A holder wraps and unwraps under a store key.
type holder struct{ aead cipher.AEAD }

func newHolder(store [32]byte) (holder, error) {
	k, err := hkdf.Key(sha256.New, store[:], nil, wrapContext, 32)
	if err != nil {
		return holder{}, fmt.Errorf("derive wrapping key: %w", err)
	}
	defer clear(k)
	b, err := aes.NewCipher(k)
	if err != nil {
		return holder{}, fmt.Errorf("derive wrapping key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(b)
	if err != nil {
		return holder{}, fmt.Errorf("derive wrapping key: %w", err)
	}
	return holder{aead}, nil
}

func (h holder) wrap(k dataKey, l *Lock, gone int) (wrap, error) {
	w := wrap{Lock: l, Gone: gone}
	aad, err := w.aad()
	if err != nil {
		return wrap{}, err
	}
	w.Key = h.aead.Seal(nil, nil, k[:], aad)
	return w, nil
}

func (h holder) unwrap(w wrap) (k dataKey, ok bool) {
	aad, err := w.aad()
	if err != nil {
		return k, false
	}
	plain, err := h.aead.Open(nil, nil, w.Key, aad)
	if err != nil || len(plain) != len(k) {
		return k, false
	}
	defer clear(plain)
	return dataKey(plain), true
}

func (w wrap) aad() ([]byte, error) {
	w.Key = nil
	b, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encode wrap: %w", err)
	}
	return append([]byte(wrapContext+"\x00"), b...), nil
}

// maxWraps is how many a file has at most.
const maxWraps = 2

var errWraps = fmt.Errorf("%w: it does not say how its key is wrapped", ErrDamaged)

func readWraps(b []byte) (all []wrap, err error) {
	if err := json.Unmarshal(b, &all); err != nil || len(all) == 0 || len(all) > maxWraps {
		return nil, errWraps
	}
	for _, w := range all {
		if l := w.Lock; l != nil && (l.Threshold < 1 || l.Threshold > len(l.Shares) || len(l.Shares) > label.MaxShares) {
			return nil, errWraps
		}
	}
	return all, nil
}

// unwrapAny gives the data key and the wrap that it was in. It is an *Attended if none opens and one of them has a lock.
func (h holder) unwrapAny(all []wrap) (dataKey, wrap, error) {
	var locked Attended
	for _, w := range all {
		if k, ok := h.unwrap(w); ok {
			return k, w, nil
		}
		if w.Lock != nil {
			locked.Locks = append(locked.Locks, *w.Lock)
		}
	}
	if len(locked.Locks) > 0 {
		return dataKey{}, wrap{}, &locked
	}
	return dataKey{}, wrap{}, fmt.Errorf("%w: its key does not open: it is of another box, or was edited", ErrDamaged)
}

func newDataKey() (k dataKey) {
	rand.Read(k[:])
	return k
}

// A Turn has the TPM and process 1 go over to the next store key. Until it returns nil either key may be the one that the next start has.
type Turn func() error

// Rekey writes the whole state anew under a fresh data key, wrapped by the key in force and by next, with the lock that next is to have (nil:
// none); then it has turn done, and drops the first wrap. What older copies of the file hold is then under keys that nobody has. An error of turn
// closes the store.
func (s *Store) Rekey(next [32]byte, lock *Lock, turn Turn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil {
		return fmt.Errorf("renew state key: %w", s.closed)
	}
	h, err := newHolder(next)
	if err != nil {
		return err
	}
	gone := len(s.State().Destroyed())
	f, err := s.file.rekeyed(h, lock, gone)
	if errors.Is(err, errPlaced) {
		err = s.fail(err)
	}
	if err != nil {
		return fmt.Errorf("renew state key: %w", err)
	}
	err = s.file.close()
	s.file = f
	if err == nil {
		err = turn()
	}
	if err == nil {
		f.holder, f.lock, f.gone = h, lock, gone
		err = f.settle()
	}
	if err != nil {
		return fmt.Errorf("renew state key: %w", s.fail(err))
	}
	return nil
}

// Lock is what it takes beside the TPM's key to open the state; nil: nothing.
func (s *Store) Lock() *Lock {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file.lock == nil {
		return nil
	}
	l := *s.file.lock
	l.Shares = slices.Clone(l.Shares)
	return &l
}

// Owed says that keys were destroyed since the state was last written under a fresh key: copies from before, which have them, still open.
func (s *Store) Owed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.State().Destroyed()) > s.file.gone
}

// Secret derives a key from a secret that the state has had since it was created, and that no renewal changes.
func (a *Accepted) Secret(context string) ([32]byte, error) {
	if a.file.secret == [32]byte{} {
		return [32]byte{}, errors.New("derive from state: it has no secret")
	}
	k, err := hkdf.Key(sha256.New, a.file.secret[:], nil, context, 32)
	if err != nil {
		return [32]byte{}, fmt.Errorf("derive from state: %w", err)
	}
	defer clear(k)
	return [32]byte(k), nil
}
