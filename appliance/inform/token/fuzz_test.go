package token

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever is presented: what is accepted has one encoding, known algorithms, and claims that every reader reads alike.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/fuzz/FuzzParse/*")
	if err != nil || len(files) < 3 {
		f.Fatalf("%d committed seeds; want 3 or more", len(files))
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parse(text)
		if err != nil {
			if p.claims != nil {
				t.Fatal("a refused token is there")
			}
			return
		}
		if len(text) > maxToken || strings.Count(text, ".") != 2 || strings.ContainsAny(text, "=\r\n +/") {
			t.Fatal("not the one encoding")
		}
		again, err := json.Marshal(p.claims)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := object(again); err != nil || len(c) != len(p.claims) {
			t.Fatalf("claims read twice differ: %v", err)
		}
		if from, until, err := p.claims.lifetime(); err == nil && !until.After(from) {
			t.Fatal("a lifetime that is none")
		}
	})
}
