package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What firmware says of its machine is bounded and plain, and may be missing.
func TestMachineNames(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"sys_vendor": "QEMU\n", "product_name": " Standard PC\x1b[2J\xff (Q35) \n", "product_serial": strings.Repeat("9", 200)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	model, serial := machineNames(dir)
	if model != "QEMU Standard PC[2J (Q35)" || serial != strings.Repeat("9", maxSysText) {
		t.Errorf("machineNames() = %q, %q", model, serial)
	}
	if model, serial := machineNames(t.TempDir()); model != "" || serial != "" {
		t.Errorf("machineNames() of a machine that says nothing = %q, %q", model, serial)
	}
}
