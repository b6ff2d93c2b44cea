package jwe_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/jwe"
)

// TestFormatDocument holds FORMAT.md to the constants.
func TestFormatDocument(t *testing.T) {
	raw, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(raw)), " ")
	comma := func(n int) string {
		if n >= 1_000_000 {
			return fmt.Sprintf("%d,%03d,%03d", n/1_000_000, n/1000%1000, n%1000)
		}
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	}
	for _, want := range []string{
		fmt.Sprintf("at most %s bytes, %s as a message, %d recipients", comma(jwe.MaxPayload), comma(jwe.MaxMessage), jwe.MaxRecipients),
		fmt.Sprintf("objects and arrays at most %d in each other", jwe.MaxDepth),
		"At most " + comma(jwe.MaxHead) + " bytes",
		"`" + block.SuiteOAEP.String() + "` |", "`" + block.SuiteOAEPSHA1.String() + "` |", "`" + block.SuiteECDHES.String() + "` |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("FORMAT.md does not say %q", want)
		}
	}
}
