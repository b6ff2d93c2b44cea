package cms_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/cms"
)

// TestFormatDocument holds FORMAT.md to the constants.
func TestFormatDocument(t *testing.T) {
	raw, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(raw)), " ")
	comma := func(n int) string { return fmt.Sprintf("%d,%03d", n/1000, n%1000) }
	for _, want := range []string{
		"before it at most " + comma(cms.MaxHead) + " bytes may stand, and behind it at most " + comma(cms.MaxTail),
		fmt.Sprintf("At most %s bytes, %s encrypted keys, %d of which an agent takes", comma(cms.MaxHead), comma(cms.MaxRecipients), block.MaxWraps),
		"`" + block.SuiteOAEP.String() + "` |", "`" + block.SuiteOAEPSHA1.String() + "` |", "`" + block.SuiteECDHX963.String() + "` |", "`" + block.SuiteECDHX963SHA1.String() + "` |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("FORMAT.md does not say %q", want)
		}
	}
}
