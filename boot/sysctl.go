package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A sysctl is a kernel setting below /proc/sys.
type sysctl struct{ name, value string }

// sysctls are set before any daemon runs. Those in mayLack exist only in kernels that have the feature they restrict.
var sysctls = [...]sysctl{
	{"kernel/sysrq", "0"}, // a BREAK on the serial line would reboot the box
	{"kernel/panic", "1"},
	{"kernel/panic_on_oops", "1"},
	{"kernel/dmesg_restrict", "1"},
	{"kernel/kptr_restrict", "2"},
	{"kernel/core_pattern", "|/bin/false"}, // there is no such file: no core is written anywhere
	{"kernel/ctrl-alt-del", "0"},
	{"fs/suid_dumpable", "0"},
	{"fs/protected_symlinks", "1"},
	{"fs/protected_hardlinks", "1"},
	{"fs/protected_fifos", "2"},
	{"fs/protected_regular", "2"},
	{"kernel/unprivileged_bpf_disabled", "1"},
	{"kernel/kexec_load_disabled", "1"},
	{"kernel/perf_event_paranoid", "3"},
	{"kernel/yama/ptrace_scope", "3"},
	{"kernel/io_uring_disabled", "2"},
	{"user/max_user_namespaces", "0"},
	{"vm/unprivileged_userfaultfd", "0"},
	{"net/core/bpf_jit_harden", "2"},
	{"net/ipv4/tcp_syncookies", "1"},
	{"net/ipv4/conf/all/rp_filter", "1"},
	{"net/ipv4/conf/all/accept_redirects", "0"},
	{"net/ipv4/conf/all/send_redirects", "0"},
	{"net/ipv4/conf/default/accept_redirects", "0"},
	{"net/ipv4/conf/default/send_redirects", "0"},
	{"net/ipv6/conf/all/accept_ra", "0"},
	{"net/ipv6/conf/default/accept_ra", "0"},
	{"net/ipv6/conf/all/accept_redirects", "0"},
	{"net/ipv6/conf/default/accept_redirects", "0"},
}

// noMoreModules is set once all modules are loaded; nothing resets it until the next boot.
var noMoreModules = sysctl{"kernel/modules_disabled", "1"}

// mayLack says whether a kernel may do without a setting: then there is nothing to restrict.
func mayLack(name string) bool {
	for _, prefix := range []string{
		"kernel/unprivileged_bpf_disabled", "kernel/kexec_load_disabled", "kernel/perf_event_paranoid", "kernel/yama/",
		"kernel/io_uring_disabled", "user/", "vm/unprivileged_userfaultfd", "net/core/bpf_jit_harden", "net/ipv6/",
	} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// setSysctls sets the settings below root and reads each back.
func setSysctls(root string, settings ...sysctl) error {
	for _, s := range settings {
		err := s.set(root)
		if errors.Is(err, os.ErrNotExist) && mayLack(s.name) {
			continue
		}
		if err != nil {
			return fmt.Errorf("set %s: %w", s.name, err)
		}
	}
	return nil
}

func (s sysctl) set(root string) error {
	path := filepath.Join(root, s.name)
	f, err := os.OpenFile(path, os.O_WRONLY, 0) // never made: a missing setting is an error
	if err != nil {
		return err
	}
	if _, err := f.WriteString(s.value); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(got)) != s.value {
		return fmt.Errorf("is %q; want %q", strings.TrimSpace(string(got)), s.value)
	}
	return nil
}
