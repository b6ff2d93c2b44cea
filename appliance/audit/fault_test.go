package audit

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyrelease/krabox/kra/receipt"
)

// A fault makes one call to the disk fail, before the deed or after it.
type fault struct {
	call string // create, write, sync, keep or remove; several make each of them fail
	done bool   // the deed was done all the same
}

var errFault = errors.New("injected")

// faulty is the real disk until the fault is armed.
type faulty struct {
	osDisk
	armed atomic.Pointer[fault]
	held  atomic.Pointer[chan struct{}] // Sync waits for it
}

func (d *faulty) strikes(call string) (*fault, bool) {
	f := d.armed.Load()
	return f, f != nil && strings.Contains(f.call, call)
}

func (d *faulty) create(path string, size int64, header []byte) (file, error) {
	if f, hit := d.strikes("create"); hit {
		if f.done {
			if made, err := d.osDisk.create(path, size, header); err == nil {
				made.Close()
			}
		}
		return nil, errFault
	}
	f, err := d.osDisk.create(path, size, header)
	return faultyFile{f, d}, err
}

func (d *faulty) open(path string) (file, error) {
	f, err := d.osDisk.open(path)
	return faultyFile{f, d}, err
}

func (d *faulty) keep(path string, data []byte) error {
	if f, hit := d.strikes("keep"); hit {
		if f.done {
			d.osDisk.keep(path, data)
		}
		return errFault
	}
	return d.osDisk.keep(path, data)
}

// remove fails with all done, or with all but the first file: nothing says in which order a cut leaves them.
func (d *faulty) remove(dir string, names ...string) error {
	if f, hit := d.strikes("remove"); hit {
		if !f.done {
			names = names[1:]
		}
		d.osDisk.remove(dir, names...)
		return errFault
	}
	return d.osDisk.remove(dir, names...)
}

type faultyFile struct {
	file
	d *faulty
}

func (f faultyFile) WriteAt(b []byte, at int64) (int, error) {
	if x, hit := f.d.strikes("write"); hit {
		if x.done {
			f.file.WriteAt(b, at)
		}
		return 0, errFault
	}
	return f.file.WriteAt(b, at)
}

func (f faultyFile) Sync() error {
	if held := f.d.held.Load(); held != nil {
		<-*held
	}
	if x, hit := f.d.strikes("sync"); hit {
		if x.done {
			f.file.Sync()
		}
		return errFault
	}
	return f.file.Sync()
}

// TestFaultClosesLog injects each failure twice. Whatever happened on the disk: no receipt, no later append, red
// health; and after a restart the log opens, holds every record that was acknowledged, and goes on.
func TestFaultClosesLog(t *testing.T) {
	for _, f := range []fault{{"write", false}, {"write", true}, {"sync", false}, {"sync", true}, {"create", false}, {"create", true}} {
		name := f.call + " not done"
		if f.done {
			name = f.call + " but done"
		}
		t.Run(name, func(t *testing.T) { faultCloses(t, f) })
	}
}

func faultCloses(t *testing.T, f fault) {
	b := newBench(t)
	d := &faulty{}
	b.opts.disk = d
	l := b.boot(t)
	acknowledged := mustAppend(t, l, b.hsm.unwrap())
	size := l.Head().Size

	d.armed.Store(&f)
	if f.call == "create" { // the next segment
		for i := 0; l.Health() == nil && i < 1000; i++ {
			c, err := l.Append(context.Background(), b.hsm.unwrap(), Entry{Kind: receipt.Command, Private: string(make([]byte, 10_000))})
			if err == nil {
				acknowledged, size = c, l.Head().Size
			}
		}
	} else if c, err := l.Append(context.Background(), b.hsm.unwrap()); !errors.Is(err, errFault) || len(c.Receipts()) != 0 {
		t.Fatalf("Append = %v receipts, %v; want none, the injected error", len(c.Receipts()), err)
	}
	if err := l.Health(); !errors.Is(err, ErrClosed) || !errors.Is(err, errFault) {
		t.Errorf("Health() = %v; want closed and why", err)
	}
	d.armed.Store(nil)
	for range 3 {
		if _, err := l.Append(context.Background(), b.hsm.unwrap()); !errors.Is(err, ErrClosed) {
			t.Errorf("a later Append = %v; want ErrClosed", err)
		}
	}
	l.Close()

	l = b.boot(t)
	if got := l.Head().Size; got < size+1 { // what was acknowledged, and the new receipt key
		t.Fatalf("after a restart %d records; want at least %d", got, size+1)
	}
	last := acknowledged.Receipts()[len(acknowledged.Receipts())-1]
	err := l.Records(last.Index, last.Index+1, func(_ int64, r receipt.Record) error {
		if r.Leaf() != receipt.Leaf(last.Public, last.Commitment) {
			t.Error("the last acknowledged record is another one")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if l.Health() != nil {
		t.Errorf("after a restart Health() = %v", l.Health())
	}
}

// TestAppendWaitsForSync holds the disk's sync back: nobody gets a receipt before it has returned.
func TestAppendWaitsForSync(t *testing.T) {
	b := newBench(t)
	d := &faulty{}
	b.opts.disk = d
	l := b.boot(t)
	held := make(chan struct{})
	d.held.Store(&held)
	var answered atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		e := b.hsm.unwrap()
		wg.Go(func() {
			if _, err := l.Append(context.Background(), e); err != nil {
				t.Error(err)
			}
			answered.Add(1)
		})
	}
	time.Sleep(50 * time.Millisecond)
	if n := answered.Load(); n != 0 {
		t.Errorf("%d appends returned before the disk had", n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if c, err := l.Append(ctx, b.hsm.unwrap()); !errors.Is(err, context.DeadlineExceeded) || len(c.Receipts()) != 0 {
		t.Errorf("Append on a disk that hangs = %v; want the deadline", err)
	}
	close(held)
	wg.Wait()
	if n := answered.Load(); n != 8 {
		t.Errorf("%d appends returned; want 8", n)
	}
}

func TestStalledDiskIsUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Log
		if err := l.Health(); err != nil {
			t.Errorf("at rest: %v", err)
		}
		l.writing.Store(time.Now().UnixNano())
		time.Sleep(stallTimeout - time.Second)
		if err := l.Health(); err != nil {
			t.Errorf("a slow write: %v", err)
		}
		time.Sleep(2 * time.Second)
		if err := l.Health(); err == nil {
			t.Error("a write that hangs leaves the log healthy")
		}
	})
}

func TestCloseRefusesWaiting(t *testing.T) {
	b := newBench(t)
	d := &faulty{}
	b.opts.disk = d
	l := b.boot(t)
	held := make(chan struct{})
	d.held.Store(&held)
	var wg sync.WaitGroup
	var refused atomic.Int32
	for range 50 {
		e := b.hsm.unwrap()
		wg.Go(func() {
			if _, err := l.Append(context.Background(), e); errors.Is(err, ErrClosed) {
				refused.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
		time.Sleep(100 * time.Microsecond)
	}
	go func() {
		defer close(held)
		for end := time.Now().Add(time.Minute); l.Health() == nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
	}()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if refused.Load() == 0 {
		t.Error("no waiting append was refused")
	}
}
