package admin

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/appliance/selftest"
)

// TestZeroize: the question names what will be lost, a second officer has to agree, the TPM's half goes before the disk, and what cannot
// be done then is said.
func TestZeroize(t *testing.T) {
	w := paired(t)
	w.do("access add legal-team")
	w.body.asked = nil
	w.do("key generate p256 bound for legal-team")
	if _, o := w.try("zeroize", "no"); !strings.Contains(o.Error, "nothing was done") {
		t.Errorf("not confirmed: %+v", o)
	}
	shown := w.do("zeroize", "yes")
	if len(w.body.asked) > 0 || !strings.Contains(shown, "waits") {
		t.Fatalf("one officer's word: process 1 was asked for %q\n%s", w.body.asked, shown)
	}
	if _, o := w.try("approve 1", "yes"); !strings.Contains(o.Error, "another") || len(w.body.asked) > 0 {
		t.Errorf("approved by who asked: %+v, %q", o, w.body.asked)
	}
	w.session = w.loginAs(paul, paulPass)
	_, o := w.try("approve 1")
	for _, want := range []string{"Destroy all that box1 holds: 1 key, of which 1 exist nowhere else", "to legal-team opens here no more"} {
		if o.Ask == nil || !strings.Contains(o.Ask.Prompt, want) {
			t.Errorf("approve asks %+v; want %q", o.Ask, want)
		}
	}
	w.body.refuse = errors.New("the line is broken")
	_, o = w.try("approve 1", "yes")
	if said := strings.Join(strings.Fields(o.Error), " "); !strings.Contains(said, "Nothing opens on this box any more, but what lies on its disk is still there") {
		t.Errorf("not erased: %q", said)
	}
	if st, err := w.tpmd.Client.Status(t.Context()); err != nil || !strings.Contains(st.Reason, "it was zeroized") {
		t.Errorf("the TPM's process says %+v, %v", st, err)
	}
	if len(w.body.asked) > 0 {
		t.Errorf("process 1 was asked for %q", w.body.asked)
	}
}

// TestZeroizeOfABoxInError: what ends a box is approved also when the box can do nothing else: in the state error, on a full disk, without a log.
func TestZeroizeOfABoxInError(t *testing.T) {
	for name, spoil := range map[string]func(w *world){
		"state error": func(w *world) {
			w.c.SelfTest = func(context.Context) (selftest.Report, error) { return selftest.Report{}, nil }
			w.c.Failed = func() error { return errors.New("state error, nothing is released: self-test of AES-256-GCM") }
		},
		"full disk": func(w *world) { w.c.Store = tight{w.store} },
		"no log":    func(w *world) { w.c.Log = brimming{w.log, true} },
	} {
		t.Run(name, func(t *testing.T) {
			w := paired(t)
			w.do("zeroize", "yes")
			w.session = w.loginAs(paul, paulPass)
			w.body.asked = nil
			spoil(w)
			if _, o := w.try("access add r-d"); o.Error == "" {
				t.Fatal("nothing is spoilt")
			}
			w.try("approve 1", "yes")
			if st, err := w.tpmd.Client.Status(t.Context()); err != nil || !strings.Contains(st.Reason, "it was zeroized") {
				t.Errorf("the TPM's process says %+v, %v", st, err)
			}
		})
	}
}
