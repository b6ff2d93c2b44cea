package block_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
)

// TestFormatDocument holds FORMAT.md to the constants.
func TestFormatDocument(t *testing.T) {
	raw, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(raw)), " ")
	id := block.KeyID{1}
	context := string(block.Info(id)[:len(block.Info(id))-len(id)-1])
	for _, want := range []string{
		fmt.Sprintf("the %d bytes `%s`, one zero byte, the %d bytes of the key id", len(context), context, len(id)),
		fmt.Sprintf("%d,%03d bytes for an agent", block.MaxHeader/1000, block.MaxHeader%1000),
		fmt.Sprintf("%d,%03d stanzas", block.MaxStanzas/1000, block.MaxStanzas%1000),
		fmt.Sprintf("%d stanzas of known suites", block.MaxWraps),
		fmt.Sprintf("%d words in a line", block.MaxArguments),
		fmt.Sprintf("**file key**: %d bytes", block.FileKeySize),
		"| `" + block.SuiteP256.String() + "` |", "| `" + block.SuiteRSAOAEP.String() + "` |",
		"| `" + block.SuiteHybrid.String() + "` |", "| `" + block.SuiteOAEP.String() + "` |", "| `" + block.SuiteOAEPSHA1.String() + "` |",
		"| `" + block.SuiteECDHX963.String() + "` |", "| `" + block.SuiteECDHX963SHA1.String() + "` |", "| `" + block.SuiteECDHES.String() + "` |",
		"| `" + block.SuiteP384.String() + "` |", "`" + block.SuiteECDHX963P384.String() + "`, `" + block.SuiteECDHX963SHA1P384.String() + "`, `" + block.SuiteECDHESP384.String() + "` |",
		"| `" + block.SuiteECDHX963SHA384.String() + "` |",
		"-> " + block.SuiteP256Tag.String() + " TAG ENC", "-> " + block.SuiteHybridTag.String() + " TAG ENC",
		fmt.Sprintf("at most %d keys be named by tags (`MaxTagged`)", block.MaxTagged),
		fmt.Sprintf("the first %d tags (`MaxTags`)", block.MaxTags),
		fmt.Sprintf("shared info of the key derivation, at most %d,%03d bytes", block.MaxContext/1000, block.MaxContext%1000),
		fmt.Sprintf("subject key identifier, at most %d bytes", block.MaxSKI),
		fmt.Sprintf("%d,%03d bytes: ML-KEM ciphertext, uncompressed point", block.MaxEnc/1000, block.MaxEnc%1000),
		"-> " + block.StanzaType + " SUITE KEY-ID [ENC]",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("FORMAT.md does not say %q", want)
		}
	}
	if block.Suite(0).String() == block.SuiteP256.String() || block.Info(id)[len(context)] != 0 {
		t.Error("the zero suite has a name, or the context no end")
	}
}
