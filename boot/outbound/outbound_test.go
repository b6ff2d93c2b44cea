package outbound

import (
	"bytes"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

func TestTargets(t *testing.T) {
	for in, want := range map[string]string{
		"ca.example:80":               "ca.example:80",
		"CA.Example.:443":             "ca.example:443",
		"10.0.2.2:8443":               "10.0.2.2:8443",
		"[2001:DB8:0:0::1]:636":       "[2001:db8::1]:636",
		"ldap_1.corp-x.example:65535": "ldap_1.corp-x.example:65535",
	} {
		got, err := parseTarget("tcp", in)
		if err != nil || got.String() != want {
			t.Errorf("parseTarget(%q) = %v, %v; want %s", in, got, err, want)
		}
	}
	for name, in := range map[string]string{
		"no port": "ca.example", "port zero": "ca.example:0", "port too high": "ca.example:65536", "port by name": "ca.example:http", "no host": ":80",
		"two dots at the end": "ca.example..:80", "empty part": "ca..example:80", "zone": "[fe80::1%eth0]:80", "address by a number": "2130706433:80",
		"short address": "127.1:80", "hexadecimal address": "0x7f000001:80", "octal address": "0177.0.0.1:80", "space": "ca .example:80",
		"hyphen first": "-ca.example:80", "not ASCII": "\u212aay.example:80", "long part": strings.Repeat("a", 64) + ".example:80",
		"long": strings.Repeat("a.", 127) + "a:80", "control": "ca\x00.example:80", "slash": "ca/x.example:80",
	} {
		if got, err := parseTarget("tcp", in); err == nil {
			t.Errorf("%s: parseTarget(%q) = %v", name, in, got)
		}
	}
}

// A request has one encoding: what a client would write otherwise, the broker does not read.
func TestRequestsHaveOneForm(t *testing.T) {
	for name, in := range map[string]string{
		"upper case":          "\x01\x0aCA.example\x00\x50",
		"dot at the end":      "\x01\x0bca.example.\x00\x50",
		"address in words":    "\x01\x0f0:0:0:0:0:0:0:1\x00\x50",
		"zone":                "\x01\x0cfe80::1%eth0\x00\x50",
		"other transport":     "\x03\x0aca.example\x00\x50",
		"no host":             "\x01\x00\x00\x50",
		"port zero":           "\x01\x0aca.example\x00\x00",
		"longer than a name":  "\x01\xfe" + strings.Repeat("a", 254) + "\x00\x50",
		"cut in the host":     "\x01\x0aca.ex",
		"cut before the port": "\x01\x0aca.example\x00",
	} {
		if got, err := readTarget(strings.NewReader(in)); err == nil {
			t.Errorf("%s: read as %v", name, got)
		}
	}
	if got, err := readTarget(strings.NewReader("\x02\x0aca.example\x00\x50")); err != nil || got != (target{overUDP, "ca.example", 80}) {
		t.Errorf("over UDP: readTarget = %v, %v", got, err)
	}
	in := strings.NewReader("\x01\x0aca.example\x00\x50more")
	if got, err := readTarget(in); err != nil || got.String() != "ca.example:80" || in.Len() != 4 {
		t.Errorf("readTarget = %v, %v, %d bytes left; want 4", got, err, in.Len())
	}
}

func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"connected":                 {"\x01\x00", ""},
		"connected with a reason":   {"\x01\x01x", "answer begins with 0101"},
		"no reason":                 {"\x02\x00", "answer begins with 0200"},
		"no code":                   {"\x00\x00", "answer begins with 0000"},
		"long":                      {"\x02\xc9" + strings.Repeat("x", 201), "answer begins with 02c9"},
		"cut":                       {"\x02\x05no", "read answer: unexpected EOF"},
		"nothing":                   {"", "read answer: EOF"},
		"control characters":        {"\x02\x03a\x1bb", "answer is not text"},
		"reason":                    {string(appendAnswer(nil, "connection refused")), "connection refused"},
		"reason with all it has":    {string(appendAnswer(nil, "a\x1b\u00e9"+strings.Repeat("x", 300))), "a??" + strings.Repeat("x", 197)},
		"connected and more to say": {"\x01\x00TLS", ""},
	} {
		err := readAnswer(strings.NewReader(c.in))
		if got := textOf(err); got != c.want {
			t.Errorf("%s: %q; want %q", name, got, c.want)
		}
	}
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// FuzzRequest asserts that a request that is read is the one encoding of what it says, and would be asked for so.
func FuzzRequest(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzRequest/*")
	if err != nil || len(seeds) < 8 {
		f.Fatalf("seeds: %d, %v", len(seeds), err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		got, err := readTarget(r)
		if err != nil {
			return
		}
		rest, _ := io.ReadAll(r)
		if again := append(got.append(nil), rest...); !bytes.Equal(again, in) {
			t.Errorf("%x was read, and is written %x", in, again)
		}
		if asked, err := parseTarget(transports[got.over], got.String()); err != nil || asked != got {
			t.Errorf("parseTarget(%q) = %v, %v", got, asked, err)
		}
	})
}

// FuzzAnswer asserts that no answer is taken that the broker would not write, and that reasons are short text.
func FuzzAnswer(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzAnswer/*")
	if err != nil || len(seeds) < 6 {
		f.Fatalf("seeds: %d, %v", len(seeds), err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		err := readAnswer(r)
		why, isAnswer := err.(refused)
		if err != nil && !isAnswer {
			return
		}
		if again := appendAnswer(nil, string(why)); !bytes.Equal(again, in[:len(in)-r.Len()]) {
			t.Errorf("%x was read, and is written %x", in, again)
		}
	})
}

// FuzzServers asserts that the list of name servers has one form.
func FuzzServers(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzServers/*")
	if err != nil || len(seeds) < 6 {
		f.Fatalf("seeds: %d, %v", len(seeds), err)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := parseServers(in)
		if err != nil {
			return
		}
		again := ""
		for _, a := range got {
			again += a.String() + "\n"
		}
		if again != in || len(got) > maxServers {
			t.Errorf("%q was read as %v", in, got)
		}
	})
}
