package account

import (
	"bytes"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	pass := []byte("correct horse battery")
	phc := Hash(pass)
	if !Check(phc, pass) {
		t.Errorf("Check(%q, right passphrase) = false", phc)
	}
	if other := Hash(pass); other == phc {
		t.Errorf("two hashes of one passphrase are equal: %q", phc)
	}
	for name, c := range map[string]struct {
		phc  string
		pass []byte
	}{
		"wrong passphrase": {phc, []byte("correct horse batterz")},
		"empty passphrase": {phc, nil},
		"too long":         {phc, bytes.Repeat([]byte("a"), MaxPassphrase+1)},
		"empty hash":       {"", nil},
		"cheaper cost":     {strings.Replace(phc, "m=19456", "m=8", 1), pass},
		"no salt":          {prefix + "$" + phc[strings.LastIndex(phc, "$")+1:], pass},
		"trailing byte":    {phc + "A", pass},
	} {
		if Check(c.phc, c.pass) {
			t.Errorf("%s: Check(%q, %q) = true", name, c.phc, c.pass)
		}
	}
}

func TestAcceptable(t *testing.T) {
	for _, c := range []struct {
		pass string
		want string
	}{
		{"short", "too short"},
		{"twelve bytes", ""},
		{strings.Repeat("a", MaxPassphrase+1), "too long"},
		{"not text: \xff\xfe", "not UTF-8"},
	} {
		err := Acceptable([]byte(c.pass))
		if got := err != nil && strings.Contains(err.Error(), c.want); (c.want == "") != (err == nil) || err != nil && !got {
			t.Errorf("Acceptable(%q) = %v; want %q", c.pass, err, c.want)
		}
	}
}
