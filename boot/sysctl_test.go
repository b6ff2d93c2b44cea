package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSysctlsAreSetAndReadBack(t *testing.T) {
	root := t.TempDir()
	for _, s := range sysctls {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, s.name)), 0o755))
		must(t, os.WriteFile(filepath.Join(root, s.name), nil, 0o644))
	}
	must(t, setSysctls(root, sysctls[:]...))
	for _, s := range sysctls {
		if b, err := os.ReadFile(filepath.Join(root, s.name)); err != nil || string(b) != s.value {
			t.Errorf("%s = %q, %v; want %q", s.name, b, err, s.value)
		}
	}
}

func TestSysctlThatDoesNotTakeIsAnError(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(root+"/kernel", 0o755))
	if err := setSysctls(root, sysctl{"kernel/sysrq", "0"}); err == nil || !strings.Contains(err.Error(), "kernel/sysrq") {
		t.Errorf("missing setting: %v", err)
	}
	if err := setSysctls(root, sysctl{"kernel/yama/ptrace_scope", "3"}); err != nil {
		t.Errorf("setting of a feature that this kernel lacks: %v", err)
	}
	must(t, os.Symlink("/dev/null", root+"/kernel/sysrq")) // takes every value and keeps none
	if err := setSysctls(root, sysctl{"kernel/sysrq", "0"}); err == nil || !strings.Contains(err.Error(), `is ""; want "0"`) {
		t.Errorf("setting that does not keep its value: %v", err)
	}
}

// TestSysctlsThatTheBoxPromises names those that other documents rely on.
func TestSysctlsThatTheBoxPromises(t *testing.T) {
	have := map[string]string{}
	for _, s := range append(sysctls[:], noMoreModules) {
		have[s.name] = s.value
	}
	for name, want := range map[string]string{
		"kernel/sysrq": "0", "kernel/panic": "1", "kernel/dmesg_restrict": "1", "kernel/kptr_restrict": "2", "kernel/yama/ptrace_scope": "3",
		"kernel/unprivileged_bpf_disabled": "1", "kernel/kexec_load_disabled": "1", "kernel/modules_disabled": "1", "user/max_user_namespaces": "0",
	} {
		if have[name] != want {
			t.Errorf("%s = %q; want %q", name, have[name], want)
		}
	}
}
