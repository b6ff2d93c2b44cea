package receipt

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestFormatDocument holds FORMAT.md to what the program uses.
func TestFormatDocument(t *testing.T) {
	data, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	words := append([]string{recordContext, privateContext, chainContext, chainHeadContext, linkContext, ExportFormat, originPrefix + "BOX",
		timeExample, fmt.Sprintf("the newest %d of them", MaxLives)}, kindNames[1:]...)
	for _, w := range words {
		if !strings.Contains(string(data), w) {
			t.Errorf("FORMAT.md does not mention %q", w)
		}
	}
}

// timeExample is a time in the one form, as the document shows it.
const timeExample = "2026-01-02T03:04:05.006Z"
