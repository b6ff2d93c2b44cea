package kra

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

// TestProtocolDocument holds PROTOCOL.md to the code: its examples parse and are in the one encoding, its limits and
// error codes are ours.
func TestProtocolDocument(t *testing.T) {
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	if uri := (label.Domain{Name: "DOMAIN"}).KeyReleaseURI("ACCESS-ID"); !strings.Contains(string(text), "`"+uri+"`") {
		t.Errorf("no word of the URI %s", uri)
	}
	seen := 0
	for _, m := range regexp.MustCompile("(?s)```json ([a-z]+)\n(.*?)\n```").FindAllStringSubmatch(string(text), -1) {
		seen++
		if again, err := reencode(m[1], []byte(m[2])); err != nil || again != m[2] {
			t.Errorf("%s: %v\n%s\n%s", m[1], err, m[2], again)
		}
	}
	if seen != 13 {
		t.Errorf("%d examples, want 13", seen)
	}
	for what, n := range map[string]int{"headers in a request": MaxHeaders, "bytes of a header": block.MaxHeader, "`kra` stanzas in a header": block.MaxWraps,
		"bytes of a request": MaxBody, "bytes of a response": MaxResponse, "bytes of a name": MaxName, "certificates in a request": MaxCertificates,
		"attribute certificates in a request": MaxAttributes, "bytes of one of these": MaxCertificate, "tokens in a request": MaxTokens, "bytes of a token": MaxToken} {
		if row := fmt.Sprintf("| %s | %d |", what, n); !strings.Contains(string(text), row) {
			t.Errorf("no row %s", row)
		}
	}
	for _, word := range []string{deliveryKeyContext, sealedContext, sealedP256, sealedRSA, answerContext, block.SuiteOAEP.String(), block.SuiteOAEPSHA1.String(), ToChannel.String(), ToCertificate.String(), ToKey.String(), PathWhoAmI, PathChallenge, label.Exporter, PathPlatform, label.PlatformExporter} {
		if !strings.Contains(string(text), word) {
			t.Errorf("no word of %s", word)
		}
	}
	for _, code := range []string{CodeMalformed, CodeCertificate, CodeRefused, CodePath, CodeMethod, CodeLabel, CodeLength, CodeSize, CodeMedia, CodeBusy, CodeUnavailable} {
		if !strings.Contains(string(text), "| `"+code+"` |") {
			t.Errorf("no row for %s", code)
		}
	}
}

// reencode parses an example and writes it again.
func reencode(kind string, body []byte) (string, error) {
	switch kind {
	case "request":
		r, err := ParseRequest(body)
		return string(r.Encode()), err
	case "response":
		r, err := ParseResponse(body, 2)
		if err != nil {
			return "", err
		}
		b, err := r.Append(nil)
		return string(b), err
	case "directory":
		d, err := ParseDirectory(body)
		if err != nil {
			return "", err
		}
		b, err := d.Encode()
		return string(b), err
	case "whoami":
		w, err := ParseWhoAmI(body)
		if err != nil {
			return "", err
		}
		b, err := w.Encode()
		return string(b), err
	case "status":
		s, err := ParseStatus(body)
		if err != nil {
			return "", err
		}
		b, err := s.Encode()
		return string(b), err
	case "edit":
		e, err := ParseGroupEdit(body)
		if err != nil {
			return "", err
		}
		b, err := e.Encode()
		return string(b), err
	case "group":
		g, err := ParseGroupState(body)
		if err != nil {
			return "", err
		}
		b, err := g.Encode()
		return string(b), err
	case "challenge":
		c, err := label.ParseChallenge(body)
		return string(c.Bytes()), err
	case "shown":
		s, err := label.ParseShown(body)
		return string(s.Bytes()), err
	case "error":
		e, err := ParseError(body)
		return string(e.Encode()), err
	}
	return "", fmt.Errorf("unknown kind of example")
}
