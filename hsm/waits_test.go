package hsm_test

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"github.com/keyrelease/krabox/hsm/wire"
)

// TestWrappingKeyMovedWhileKeysChange: a change of keys looks up a wrapping key that moved, and does not wait for itself.
func TestWrappingKeyMovedWhileKeysChange(t *testing.T) {
	c, token := newVault(t, 0)
	for _, custody := range []wire.Custody{wire.Bound, wire.Replicable} {
		k := vaultKey(t, c, token, wire.P256, custody)
		loaded := make(chan error, 1)
		go func() { loaded <- c.LoadAlone(k.ID) }()
		for all := make([]byte, 1<<20); ; {
			select {
			case err := <-loaded:
				if err != nil {
					t.Errorf("%v: %v", custody, err)
				}
			default:
				for g := range bytes.SplitSeq(all[:runtime.Stack(all, true)], []byte("\n\n")) {
					if bytes.Contains(g, []byte("findTrusted")) && bytes.Contains(g, []byte("[sync.RWMutex.RLock")) {
						panic("a change of keys waits for itself") // so would the end of the test
					}
				}
				time.Sleep(time.Millisecond)
				continue
			}
			break
		}
	}
}
