package boot

import (
	"path/filepath"
	"strings"
)

// machineNames are the model and the number of the machine, as its firmware says (SMBIOS 3.7, 7.2): claims. Empty: it does not say.
func machineNames(dmi string) (model, serial string) {
	return strings.TrimSpace(machineName(dmi, "sys_vendor") + " " + machineName(dmi, "product_name")), machineName(dmi, "product_serial")
}

func machineName(dmi, file string) string {
	text, err := sysText(filepath.Join(dmi, file))
	if err != nil {
		return ""
	}
	return text
}
