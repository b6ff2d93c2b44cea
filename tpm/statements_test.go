package tpm

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/label"
)

// The page of formats names the handles, sizes and registers that the code uses.
func TestStatementsPage(t *testing.T) {
	page, err := os.ReadFile("../kra/label/STATEMENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range (plan{newAuthority(t, "example").domain, label.KeyRelease}).indexes() {
		if row := fmt.Sprintf("| %s | `%08x`, %d bytes |", x.what, uint32(x.handle), x.size); !strings.Contains(string(page), row) {
			t.Errorf("STATEMENTS.md lacks %s", row)
		}
	}
	if srk := fmt.Sprintf("`%08x`", uint32(srkHandle)); !strings.Contains(string(page), srk) {
		t.Errorf("STATEMENTS.md lacks the SRK's handle %s", srk)
	}
	list := strings.Trim(strings.ReplaceAll(fmt.Sprint(label.ApprovedPCRs()), " ", ", "), "[]")
	if !strings.Contains(string(page), "PolicyPCR(SHA-256: "+list+")") {
		t.Errorf("STATEMENTS.md lacks the registers %s", list)
	}
}
