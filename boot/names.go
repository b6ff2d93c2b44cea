package boot

import (
	"os"
	"path/filepath"
	"strings"
)

// maxMachineName bounds what firmware calls its machine.
const maxMachineName = 60

// machineNames are the model and the number of the machine, as its firmware says (SMBIOS 3.7, 7.2): claims. Empty: it does not say.
func machineNames(dmi string) (model, serial string) {
	return strings.TrimSpace(machineName(dmi, "sys_vendor") + " " + machineName(dmi, "product_name")), machineName(dmi, "product_serial")
}

func machineName(dmi, file string) string {
	b, err := os.ReadFile(filepath.Join(dmi, file))
	if err != nil {
		return ""
	}
	plain := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, string(b[:min(len(b), maxMachineName)]))
	return strings.TrimSpace(plain)
}
