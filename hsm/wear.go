package hsm

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// SoftHSM 2.6.1 forgets a session object when it is destroyed, but for 250 bytes, which it keeps until C_Finalize. Each ECDH makes such an
// object, and each opening of a key in vault mode. So hsmd ends after so many, between two requests, and its supervisor starts it again.
const (
	keptBytes = 250              // of each destroyed object
	keptShare = 8                // of the machine's memory may be kept so
	leastWear = 1 << 18          // destroyed objects, however little memory there is: 64 MiB
	mostWear  = 1 << 30          // that may be asked for
	leastLife = 70 * time.Second // for a supervisor that lets one wait which ended within a minute

	labelledWear = 4           // times as much, while keys bound to a label are loaded
	lookAgain    = time.Second // whether they are
)

var errSpent = errors.New("so many objects were destroyed that the memory kept of them is given back: to be started again")

// usualDestroyed is Config.Destroyed of an hsmd that is not told.
func usualDestroyed() int {
	var m unix.Sysinfo_t
	if unix.Sysinfo(&m) != nil {
		return leastWear
	}
	return int(min(max(m.Totalram*uint64(m.Unit)/keptShare/keptBytes, leastWear), mostWear))
}

// wear counts a destroyed object.
func (k *token) wear() {
	if k.worn.Add(1) == k.wearOf {
		k.spent()
	}
}

// mayEnd is whether c, which is spent, may end: not while keys bound to a label are loaded, which perhaps nobody can load again today, until it has
// worn several times as much.
func (c *Custodian) mayEnd() bool {
	k := c.token.Load()
	return k == nil || k.index.loaded() == 0 || k.worn.Load() >= labelledWear*k.wearOf
}

// enough is closed when c is spent, has lived as long as it is to live at the least, and may end.
func enough(ctx context.Context, c *Custodian, life time.Duration) <-chan struct{} {
	old, end := time.After(life), make(chan struct{})
	go func() {
		select {
		case <-c.Spent():
		case <-ctx.Done():
			return
		}
		select {
		case <-old:
		case <-ctx.Done():
			return
		}
		for look := time.Tick(lookAgain); !c.mayEnd(); {
			select {
			case <-look:
			case <-ctx.Done():
				return
			}
		}
		close(end)
	}()
	return end
}
