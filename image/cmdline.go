package image

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// CommandLine is the kernel's command line. It is measured into PCR 11.
//
//	quiet                      the serial line belongs to the console, not to the kernel
//	panic=1 oops=panic         a broken kernel reboots instead of going on
//	module.sig_enforce=1       only modules that Debian signed
//	lockdown=confidentiality   not even root reads kernel memory, hibernates or kexecs
//	random.trust_cpu=on        the TPM is mixed in by user space
//	init_on_alloc, init_on_free  freed memory holds no secrets
//	slab_nomerge, vsyscall     cheap hardening
const CommandLine = "console=ttyS0,115200 quiet panic=1 oops=panic" +
	" module.sig_enforce=1 lockdown=confidentiality" +
	" random.trust_cpu=on init_on_alloc=1 init_on_free=1 slab_nomerge vsyscall=none"

// Bauds are the speeds that the serial line can have; the last is that of CommandLine.
var Bauds = []int{9600, 19200, 38400, 57600, 115200}

// serialWord is followed by the speed, in the word that says where the kernel's console is: process 1 takes the speed from there.
const serialWord = "console=ttyS0,"

// healthWord is what process 1 takes the address of its health listener from.
const healthWord = "kra.health="

// commandLine is the kernel's command line of this image.
func (s Spec) commandLine() string {
	line := CommandLine
	if s.Baud != 0 {
		_, rest, _ := strings.Cut(CommandLine, " ")
		line = serialWord + strconv.Itoa(s.Baud) + " " + rest
	}
	if s.Health != "" {
		line += " " + healthWord + s.Health
	}
	return line
}

// checkBaud takes no speed, which is the usual one, or one that the line can have.
func (s Spec) checkBaud() error {
	if s.Baud != 0 && !slices.Contains(Bauds, s.Baud) {
		return fmt.Errorf("no serial line of %d baud: want one of %v", s.Baud, Bauds)
	}
	return nil
}

// checkHealth takes a port, with or without an address: what is in the command line is words.
func (s Spec) checkHealth() error {
	if s.Health == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(s.Health)
	if err == nil && host != "" {
		_, err = netip.ParseAddr(host)
	}
	if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("no address for health %.80q: want a port such as :9443, or ADDRESS:PORT", s.Health)
	}
	return nil
}
