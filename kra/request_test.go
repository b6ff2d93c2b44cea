package kra

import (
	"bytes"
	"encoding/base64"
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

// TestRequestPresentedVector is the wire form of what a decryptor sends along, and of a delivery that is not over the channel.
func TestRequestPresentedVector(t *testing.T) {
	for _, file := range []string{"request-certificate.json", "request-key.json"} {
		want, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := ParseRequest(want)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if got := r.Encode(); !bytes.Equal(got, want) {
			t.Errorf("%s: %s", file, got)
		}
		p := r.Presented()
		if len(p.Certificates) != 1 || !p.Certificates[0].Equal(testCert) || len(p.Attributes) != 2 || len(p.Tokens) != 1 || p.Tokens[0] != "eyJh.e30.c2ln" {
			t.Errorf("%s: presented %v", file, p)
		}
		made, err := NewRequest(r.Headers(), "")
		if err == nil {
			made, err = made.Present(p)
		}
		if err == nil {
			made, err = made.Deliver(r.Delivery())
		}
		if err != nil || !bytes.Equal(made.Encode(), want) {
			t.Errorf("%s: made %s, %v", file, made.Encode(), err)
		}
		if file == "request-key.json" {
			if err := r.Delivery().VerifyKey("example", "box1", testCert, r.Headers()); r.Delivery().To() != ToKey || err != nil {
				t.Errorf("%s: %v, %v", file, r.Delivery().To(), err)
			}
		} else if r.Delivery().To() != ToCertificate {
			t.Errorf("%s: %v", file, r.Delivery().To())
		}
	}
}

// TestRequestInside: who takes keys that were sealed within the HSM says so, in one way.
func TestRequestInside(t *testing.T) {
	for body, want := range map[string]bool{
		`{"headers":["AAAA"],"deliver":{"to":"certificate"}}`:               false,
		`{"headers":["AAAA"],"deliver":{"to":"certificate","inside":true}}`: true,
	} {
		r, err := ParseRequest([]byte(body))
		if err != nil || r.Delivery().Inside() != want || string(r.Encode()) != body {
			t.Errorf("%s: inside %v, %v, written %s", body, r.Delivery().Inside(), err, r.Encode())
		}
	}
	if d := NewInside(); d.To() != ToCertificate || !d.Inside() {
		t.Errorf("NewInside() is %v, %v", d.To(), d.Inside())
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

		"no certificate":         `{"headers":["AAAA"],"certificates":[]}`,
		"not a certificate":      `{"headers":["AAAA"],"certificates":["AAAA"]}`,
		"certificate and more":   `{"headers":["AAAA"],"certificates":["` + base64.StdEncoding.EncodeToString(append(bytes.Clone(testCert.Raw), 0)) + `"]}`,
		"9 certificates":         `{"headers":["AAAA"],"certificates":["` + strings.Repeat(base64.StdEncoding.EncodeToString(testCert.Raw)+`","`, 8) + base64.StdEncoding.EncodeToString(testCert.Raw) + `"]}`,
		"certificates twice":     `{"headers":["AAAA"],"certificates":["` + base64.StdEncoding.EncodeToString(testCert.Raw) + `"],"certificates":["` + base64.StdEncoding.EncodeToString(testCert.Raw) + `"]}`,
		"no attribute":           `{"headers":["AAAA"],"attributes":[]}`,
		"empty attribute":        `{"headers":["AAAA"],"attributes":[""]}`,
		"9 attributes":           `{"headers":["AAAA"],"attributes":["` + strings.Repeat(`AAAA","`, 8) + `AAAA"]}`,
		"long attribute":         `{"headers":["AAAA"],"attributes":["` + strings.Repeat("AAAA", 16<<10) + `"]}`,
		"no token":               `{"headers":["AAAA"],"tokens":[]}`,
		"empty token":            `{"headers":["AAAA"],"tokens":[""]}`,
		"5 tokens":               `{"headers":["AAAA"],"tokens":["a","a","a","a","a"]}`,
		"token with a space":     `{"headers":["AAAA"],"tokens":["a b"]}`,
		"long token":             `{"headers":["AAAA"],"tokens":["` + strings.Repeat("a", 16<<10+1) + `"]}`,
		"deliver nothing":        `{"headers":["AAAA"],"deliver":{}}`,
		"deliver word":           `{"headers":["AAAA"],"deliver":"certificate"}`,
		"deliver nowhere":        `{"headers":["AAAA"],"deliver":{"to":""}}`,
		"deliver elsewhere":      `{"headers":["AAAA"],"deliver":{"to":"Key"}}`,
		"deliver twice":          `{"headers":["AAAA"],"deliver":{"to":"certificate","to":"channel"}}`,
		"deliver to no key":      `{"headers":["AAAA"],"deliver":{"to":"key"}}`,
		"deliver unsigned":       `{"headers":["AAAA"],"deliver":{"to":"key","key":"` + testSPKI + `"}}`,
		"deliver signed":         `{"headers":["AAAA"],"deliver":{"to":"certificate","signature":"AAAA"}}`,
		"key is not used":        `{"headers":["AAAA"],"deliver":{"to":"channel","key":"` + testSPKI + `"}}`,
		"key and more":           `{"headers":["AAAA"],"deliver":{"to":"key","key":"` + testSPKI + `AAAA","signature":"AAAA"}}`,
		"key on another curve":   `{"headers":["AAAA"],"deliver":{"to":"key","key":"` + otherSPKI + `","signature":"AAAA"}}`,
		"long signature":         `{"headers":["AAAA"],"deliver":{"to":"key","key":"` + testSPKI + `","signature":"` + strings.Repeat("AAAA", 400) + `"}}`,
		"inside not":             `{"headers":["AAAA"],"deliver":{"to":"certificate","inside":false}}`,
		"inside a word":          `{"headers":["AAAA"],"deliver":{"to":"certificate","inside":"true"}}`,
		"inside twice":           `{"headers":["AAAA"],"deliver":{"to":"certificate","inside":true,"inside":true}}`,
		"inside and more":        `{"headers":["AAAA"],"deliver":{"to":"certificate","inside":true1}}`,
		"inside of nothing":      `{"headers":["AAAA"],"deliver":{"inside":true}}`,
		"inside a channel":       `{"headers":["AAAA"],"deliver":{"to":"channel","inside":true}}`,
		"inside a key":           `{"headers":["AAAA"],"deliver":{"to":"key","key":"` + testSPKI + `","signature":"AAAA","inside":true}}`,
		"policy in the deliver":  `{"headers":["AAAA"],"deliver":{"to":"certificate","rule":"true"}}`,
		"group of one's own":     `{"headers":["AAAA"],"groups":["board"]}`,
		"clearance of one's own": `{"headers":["AAAA"],"clearance":"secret"}`,
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
		if err != nil || !bytes.Equal(again.Encode(), r.Encode()) || again.Claim() != r.Claim() || again.Delivery().To() != r.Delivery().To() {
			t.Errorf("%q: %v, again %v, %v", body, r, again, err)
		}
		if len(again.Headers()) != len(r.Headers()) || len(again.Presented().Certificates) != len(r.Presented().Certificates) {
			t.Errorf("%q has two encodings", body)
		}
	})
}
