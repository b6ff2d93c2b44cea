package image

import (
	"strings"
	"testing"
)

// TestSerialSpeed: the speed of the serial line is a word of the measured command line, and nothing else of it changes. An image that is built
// without one, or with the usual one, has the command line that it always had.
func TestSerialSpeed(t *testing.T) {
	const always = "console=ttyS0,115200 quiet panic=1 oops=panic module.sig_enforce=1 lockdown=confidentiality" +
		" random.trust_cpu=on init_on_alloc=1 init_on_free=1 slab_nomerge vsyscall=none"
	for _, s := range []Spec{{}, {Baud: 115200}} {
		if got := s.commandLine(); got != always {
			t.Errorf("%+v: %q, want %q", s, got, always)
		}
	}
	seen := map[[32]byte]bool{}
	for _, n := range Bauds {
		word := map[int]string{9600: "9600", 19200: "19200", 38400: "38400", 57600: "57600", 115200: "115200"}[n]
		want := strings.Replace(always, "115200", word, 1)
		s := Spec{Baud: n}
		if got := s.commandLine(); word == "" || got != want || s.checkBaud() != nil {
			t.Errorf("%d baud: %q, want %q; %v", n, got, want, s.checkBaud())
		}
		s.Health = ":9443"
		if got := s.commandLine(); got != want+" kra.health=:9443" {
			t.Errorf("%d baud and health: %q", n, got)
		}
		uki, err := s.unify(debian{stub: read(t, debianStub), kernel: []byte("kernel")}, []byte("initramfs"))
		if err != nil {
			t.Fatal(err)
		}
		pcr11, err := PredictPCR11(uki)
		if err != nil {
			t.Fatal(err)
		}
		seen[pcr11] = true
	}
	for _, n := range []int{-9600, 1, 960, 4800, 9601, 230400} {
		if (Spec{Baud: n}).checkBaud() == nil {
			t.Errorf("%d baud is taken", n)
		}
	}
	if len(seen) != 5 {
		t.Errorf("5 speeds make %d values of PCR 11", len(seen))
	}
}
