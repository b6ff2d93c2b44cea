package kra

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestRequestVector is the wire form of a key release request: headers and, if given, the decryptor identifier.
func TestRequestVector(t *testing.T) {
	for claim, file := range map[string]string{"": "request.json", "corp:CN=alice,O=Example": "request-decryptor.json"} {
		want, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewRequest([][]byte{[]byte("age-encryption.org/v1\n-> kra p256\n--- x\n"), {0, 0xff, 0xfe}}, claim)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Encode(); !bytes.Equal(got, want) {
			t.Errorf("%s: %s\nwant %s", file, got, want)
		}
		back, err := ParseRequest(want)
		if err != nil || back.Claim() != claim || len(back.Headers()) != 2 || !bytes.Equal(back.Headers()[1], []byte{0, 0xff, 0xfe}) {
			t.Errorf("%s: parsed %+v, %v", file, back, err)
		}
	}
}

func TestRequestRefused(t *testing.T) {
	for name, body := range map[string]string{
		"empty":             ``,
		"no object":         `[]`,
		"no headers":        `{}`,
		"empty list":        `{"headers":[]}`,
		"empty header":      `{"headers":[""]}`,
		"unknown field":     `{"headers":["AAAA"],"policy":"true"}`,
		"repeated headers":  `{"headers":["AAAA"],"headers":["AAAA"]}`,
		"repeated claim":    `{"decryptor":"a","headers":["AAAA"],"decryptor":"b"}`,
		"miscased headers":  `{"Headers":["AAAA"]}`,
		"miscased claim":    `{"headers":["AAAA"],"Decryptor":"b"}`,
		"escaped name":      `{"\u0068eaders":["AAAA"]}`,
		"escaped base64":    `{"headers":["\u0041AAA"]}`,
		"empty claim":       `{"headers":["AAAA"],"decryptor":""}`,
		"null claim":        `{"headers":["AAAA"],"decryptor":null}`,
		"number claim":      `{"headers":["AAAA"],"decryptor":1}`,
		"not UTF-8":         "{\"headers\":[\"AAAA\"],\"decryptor\":\"\xff\"}",
		"control character": "{\"headers\":[\"AAAA\"],\"decryptor\":\"a\nb\"}",
		"string for a list": `{"headers":"AAAA"}`,
		"number in list":    `{"headers":[1]}`,
		"no comma":          `{"headers":["AAAA""AAAA"]}`,
		"comma at the end":  `{"headers":["AAAA",]}`,
		"comma first":       `{,"headers":["AAAA"]}`,
		"no colon":          `{"headers"["AAAA"]}`,
		"cut":               `{"headers":["AAAA"]`,
		"cut string":        `{"headers":["AAAA`,
		"something after":   `{"headers":["AAAA"]}x`,
		"two":               `{"headers":["AAAA"]}{"headers":["AAAA"]}`,
		"unpadded":          `{"headers":["AAA"]}`,
		"padding bits":      `{"headers":["AAB="]}`,
		"base64url":         `{"headers":["-_-_"]}`,
		"newline in base64": "{\"headers\":[\"AA\nAA\"]}",
		"too many":          `{"headers":["` + strings.Repeat(`AAAA","`, MaxHeaders) + `AAAA"]}`,
		"too long":          `{"headers":["` + strings.Repeat("A", MaxBody) + `"]}`,
		"long claim":        `{"headers":["AAAA"],"decryptor":"` + strings.Repeat("x", MaxName+MaxID+2) + `"}`,
		"BOM":               "\ufeff" + `{"headers":["AAAA"]}`,
	} {
		if r, err := ParseRequest([]byte(body)); err == nil {
			t.Errorf("%s: accepted as %+v", name, r)
		} else if len(err.Error()) > 300 {
			t.Errorf("%s: error of %d bytes", name, len(err.Error()))
		}
	}
	if _, err := ParseRequest([]byte(" {\t\"headers\" :\r\n[ \"AAAA\" , \"AAAA\"] , \"decryptor\" : \"a\\u0062\" } ")); err != nil {
		t.Errorf("white space between tokens: %v", err)
	}
}

// seeded fails when the fuzz target has lost its seeds.
func seeded(f *testing.F) {
	f.Helper()
	if seeds, err := os.ReadDir("testdata/fuzz/" + f.Name()); err != nil || len(seeds) < 3 {
		f.Fatalf("%d seeds, %v", len(seeds), err)
	}
}

func FuzzRequest(f *testing.F) { // what is accepted has one meaning: written and read again, it is the same
	seeded(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseRequest(body)
		if err != nil {
			return
		}
		again, err := ParseRequest(r.Encode())
		if err != nil || fmt.Sprint(again) != fmt.Sprint(r) {
			t.Errorf("%q: %v, again %v, %v", body, r, again, err)
		}
		if !bytes.Equal(again.Encode(), r.Encode()) {
			t.Errorf("%q has two encodings", body)
		}
	})
}
