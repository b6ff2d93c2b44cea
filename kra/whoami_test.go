package kra

import (
	"bytes"
	"strings"
	"testing"
)

func TestWhoAmIRefused(t *testing.T) {
	for name, body := range map[string]string{
		"nobody":        `{"decryptor":"","access":[]}`,
		"no name":       `{"access":[]}`,
		"no access":     `{"decryptor":"corp:CN=a"}`,
		"null access":   `{"decryptor":"corp:CN=a","access":null}`,
		"bad access":    `{"decryptor":"corp:CN=a","access":["Legal team"]}`,
		"unknown field": `{"decryptor":"corp:CN=a","access":[],"groups":[]}`,
		"repeated":      `{"decryptor":"corp:CN=a","decryptor":"corp:CN=b","access":[]}`,
		"white space":   `{"decryptor":"corp:CN=a", "access":[]}`,
		"after":         `{"decryptor":"corp:CN=a","access":[]}x`,
		"bad time":      `{"decryptor":"corp:CN=a","access":[],"information":[{"kind":"role","name":"x","authority":"a","via":"token","until":"tomorrow"}]}`,
		"too long":      `{"decryptor":"corp:CN=a","access":["` + strings.Repeat("a", MaxResponse) + `"]}`,
	} {
		if w, err := ParseWhoAmI([]byte(body)); err == nil {
			t.Errorf("%s: accepted as %v", name, w)
		}
	}
}

func FuzzWhoAmI(f *testing.F) { // one encoding
	seeded(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		w, err := ParseWhoAmI(body)
		if err != nil {
			return
		}
		if again, err := w.Encode(); err != nil || !bytes.Equal(again, body) {
			t.Errorf("%q\nencodes as %q, %v", body, again, err)
		}
	})
}
