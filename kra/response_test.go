package kra

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
)

func released(t testing.TB, access AccessID, receipt string) Result {
	t.Helper()
	k, err := block.NewFileKey(bytes.Repeat([]byte{0xab}, block.FileKeySize))
	if err != nil {
		t.Fatal(err)
	}
	return Released(k, access, []byte(receipt))
}

func TestResponseRoundTrip(t *testing.T) {
	r := Response{[]Result{released(t, "legal-team", `{"index":1}`), {}, released(t, "board", `{"x":"<&>"}`)},
		"kra/log/box1\n3\nAAAA\n\n— kra/log/box1 AAAA\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}
	b, err := r.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	back, err := ParseResponse(b, 3)
	if err != nil {
		t.Fatal(err)
	}
	if back.Checkpoint != r.Checkpoint || back.Chain != r.Chain || !back.Results[1].Refused() || back.Results[0].Refused() ||
		back.Results[0].Access() != "legal-team" || string(back.Results[2].Receipt()) != `{"x":"<&>"}` {
		t.Errorf("parsed %v", back)
	}
	if !bytes.Equal(b, make([]byte, len(b))) {
		t.Error("the body with the keys was not cleared")
	}
	again, err := back.Append(nil)
	if err != nil || string(again) != text {
		t.Errorf("again: %s\nfirst: %s, %v", again, text, err)
	}
	if _, err := back.Append(nil); err == nil {
		t.Error("a key was sent twice")
	}
}

func TestResponseNeedsReceipt(t *testing.T) {
	if b, err := (Response{Results: []Result{released(t, "a", "")}}).Append(nil); err == nil {
		t.Errorf("a key without a receipt was encoded: %s", b)
	}
}

func TestResponseRefused(t *testing.T) {
	key := `"key":"AAECAwQFBgcICQoLDA0ODw=="`
	for name, body := range map[string]string{
		"two results":       `{"results":[{"refused":true},{"refused":true}]}`,
		"no results":        `{"results":[]}`,
		"not refused":       `{"results":[{"refused":false}]}`,
		"nothing":           `{"results":[{}]}`,
		"refused with key":  `{"results":[{"refused":true,` + key + `}]}`,
		"no receipt":        `{"results":[{` + key + `,"access":"a"}]}`,
		"receipt no object": `{"results":[{` + key + `,"access":"a","receipt":1}]}`,
		"no access":         `{"results":[{` + key + `,"receipt":{}}]}`,
		"bad access":        `{"results":[{` + key + `,"access":"A","receipt":{}}]}`,
		"short key":         `{"results":[{"key":"AAECAw==","access":"a","receipt":{}}]}`,
		"order":             `{"results":[{"access":"a",` + key + `,"receipt":{}}]}`,
		"repeated":          `{"results":[{"refused":true}],"results":[{"refused":true}]}`,
		"miscased":          `{"Results":[{"refused":true}]}`,
		"unknown":           `{"results":[{"refused":true}],"why":"x"}`,
		"white space":       `{"results": [{"refused":true}]}`,
		"after":             `{"results":[{"refused":true}]}x`,
		"newline":           `{"results":[{"refused":true}]}` + "\n",
	} {
		if r, err := ParseResponse([]byte(body), 1); err == nil {
			t.Errorf("%s: accepted as %v", name, r)
		}
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	r := Response{Results: []Result{released(t, "a", "{}")}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		out := fmt.Sprintf(verb, r)
		if strings.Contains(out, "abab") || strings.Contains(out, "171") || strings.Contains(out, "q6ur") {
			t.Errorf("%s prints the key: %s", verb, out)
		}
	}
}

func TestAppendString(t *testing.T) { // the fast way writes what encoding/json writes
	for _, s := range []string{"", "a", "\n", "a\nb\n", "—", "é", "\"\\", "\x00", "\u2028", "<&>", "\x7f", "\xff", "\xe2\x80", "a\xe2\x80\x94b", "\x80\x94", "\xe2", "tab\t", "-----BEGIN CERTIFICATE-----\n"} {
		want, err := encodeCanonical(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendString(nil, s); !bytes.Equal(got, want) {
			t.Errorf("appendString(%q) = %q; want %q", s, got, want)
		}
	}
}

func FuzzResponse(f *testing.F) { // one encoding: what is accepted is what Append writes
	seeded(f)
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		was := bytes.Clone(body)
		r, err := ParseResponse(body, n%4)
		if err != nil {
			return
		}
		again, err := r.Append(nil)
		if err != nil || !bytes.Equal(again, was) {
			t.Errorf("%q\nencodes as %q, %v", was, again, err)
		}
	})
}
