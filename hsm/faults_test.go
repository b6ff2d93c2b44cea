package hsm_test

import (
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

func TestStaleHandle(t *testing.T) {
	c, _ := hsmtest.New(t)
	for _, s := range []wire.Suite{wire.P256, wire.RSA2048} {
		k := inProcess(c).key(t, s)
		right := c.Placed(k.ID)
		c.Misplace(k.ID)
		if r, _ := unwrap(t, c, wrapTo(t, k, 3)); !isKey(r[0], 3) {
			t.Errorf("%v: unwrap by a stale handle: %v", s, r[0].Err)
		}
		if c.Placed(k.ID) != right {
			t.Errorf("%v: handle %d after it was found again, want %d", s, c.Placed(k.ID), right)
		}
		c.Bare(k.ID, func(lib *p11.Ctx, sh p11.SessionHandle, h p11.ObjectHandle) {
			if err := lib.DestroyObject(sh, h); err != nil {
				t.Error(err)
			}
		})
		if r, _ := unwrap(t, c, wrapTo(t, k, 3)); r[0].Err == nil {
			t.Errorf("%v: a key that is gone from the token opened", s)
		}
	}
}

func TestLostSession(t *testing.T) {
	c, _ := hsmtest.New(t)
	for _, s := range []wire.Suite{wire.P256, wire.RSA2048} {
		k := inProcess(c).key(t, s)
		for i := range 32 { // every session of the pool, sooner or later
			c.Bare(k.ID, func(lib *p11.Ctx, sh p11.SessionHandle, _ p11.ObjectHandle) {
				_ = lib.CloseSession(sh)
			})
			if i%8 == 0 {
				if _, _, err := c.Generate(wire.P256, wire.Bound, wire.Resident); err != nil {
					t.Fatalf("generate after the session was lost: %v", err)
				}
			}
			if r, _ := unwrap(t, c, wrapTo(t, k, 4), wrapTo(t, k, 5)); !isKey(r[0], 4) || !isKey(r[1], 5) {
				t.Fatalf("%v: unwrap after the session was lost: %v, %v", s, r[0].Err, r[1].Err)
			}
		}
	}
}

// TestStuckCall: a call that does not return is seen, and no other.
func TestStuckCall(t *testing.T) {
	c, _ := hsmtest.New(t)
	for c.Stuck(0) { // a session answers before it rests; one that never rests ends the test by its time limit
		time.Sleep(time.Millisecond)
	}
	inside, leave := make(chan struct{}), make(chan struct{})
	go c.Bare(block.KeyID{}, func(*p11.Ctx, p11.SessionHandle, p11.ObjectHandle) { close(inside); <-leave })
	<-inside
	time.Sleep(2 * time.Millisecond)
	if !c.Stuck(time.Millisecond) || c.Stuck(time.Hour) {
		t.Error("a call of 2 ms is not seen after 1 ms, or is stuck before an hour")
	}
	close(leave)
}

// TestModuleBeyondHelp: when the token has lost our log-in, nothing opens and the process is told to end.
func TestModuleBeyondHelp(t *testing.T) {
	for _, s := range []wire.Suite{wire.P256, wire.RSA2048} {
		c, _ := hsmtest.New(t)
		k := inProcess(c).key(t, s)
		select {
		case <-c.Failed():
			t.Fatal("a healthy module has failed")
		default:
		}
		c.Bare(k.ID, func(lib *p11.Ctx, sh p11.SessionHandle, _ p11.ObjectHandle) {
			if err := lib.Logout(sh); err != nil {
				t.Error(err)
			}
		})
		if r, _ := unwrap(t, c, wrapTo(t, k, 1)); r[0].Err == nil {
			t.Errorf("%v: opened without a log-in", s)
		}
		select {
		case <-c.Failed():
		default:
			t.Errorf("%v: the loss of the log-in is not noticed", s)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
