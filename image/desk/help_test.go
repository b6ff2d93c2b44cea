package desk

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	flagWord   = regexp.MustCompile(`(?:^|[\s[])-([a-z][a-z0-9-]*)`)
	flagsBegin = regexp.MustCompile(`flags\("([a-z]+)", talk\)`)
	flagMade   = regexp.MustCompile(`f\.(?:String|Bool|Int|Uint64|Duration)(?:Var)?\((?:&[\w.]+, )?"([a-z0-9-]+)"`)
)

// The help is exact: each verb's names every flag that it takes, and none that it does not.
func TestHelp(t *testing.T) {
	taken := flagsInSource(t)
	var all bytes.Buffer
	if err := Command([]string{"help"}, &all, &all); err != nil {
		t.Fatal(err)
	}
	for _, v := range verbs() {
		var own bytes.Buffer
		if err := Command([]string{v.name, "-h"}, &own, &own); err != nil {
			t.Errorf("domain %s -h: %v", v.name, err)
		}
		if !strings.Contains(own.String(), "domain "+v.name+" ") || strings.Count(own.String(), "\n  domain ") != strings.Count("\n"+strings.Join(v.how, "\n"), "\n")-continued(v.how) {
			t.Errorf("domain %s -h says %s", v.name, own.String())
		}
		if !strings.Contains(all.String(), "domain "+v.name+" "+v.how[0]) || v.what == "" {
			t.Errorf("domain help lacks %s", v.name)
		}
		named := map[string]bool{}
		for _, m := range flagWord.FindAllStringSubmatch(strings.Join(v.how, " "), -1) {
			named[m[1]] = true
			if !taken[v.name][m[1]] {
				t.Errorf("the help of %s names -%s, which it does not take", v.name, m[1])
			}
		}
		for f := range taken[v.name] {
			if !named[f] {
				t.Errorf("the help of %s lacks -%s", v.name, f)
			}
		}
		delete(taken, v.name)
	}
	if len(taken) > 0 {
		t.Errorf("verbs without help: %v", taken)
	}
	for _, f := range []string{flagPassphrase, flagIdentity, flagPIN, flagHelper, flagYes} {
		if !strings.Contains(all.String(), "\n  -"+f+" ") {
			t.Errorf("domain help lacks -%s", f)
		}
	}
}

func continued(how []string) (n int) {
	for _, h := range how[1:] {
		if strings.HasPrefix(h, "[") {
			n++
		}
	}
	return n
}

// flagsInSource are the flags of each verb, read from the code: the command line is made when it runs.
func flagsInSource(t *testing.T) map[string]map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	verbsGo, err := os.ReadFile("verbs.go")
	if err != nil {
		t.Fatal(err)
	}
	body := func(file []byte, of string) string {
		_, text, ok := strings.Cut(string(file), of)
		if !ok {
			t.Fatalf("no %s", of)
		}
		text, _, _ = strings.Cut(text, "\n}\n")
		return text
	}
	forFleet := body(verbsGo, "func (o *order) forFleet(")
	fleetGo, err := os.ReadFile("fleet.go")
	if err != nil {
		t.Fatal(err)
	}
	declare := body(fleetGo, "func (o *joinOrder) declare(")
	standingGo, err := os.ReadFile("standing_verbs.go")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		begin := flagsBegin.FindAllSubmatchIndex(text, -1)
		for i, at := range begin {
			end := len(text)
			if i+1 < len(begin) {
				end = begin[i+1][0]
			}
			own, span := map[string]bool{}, string(text[at[0]:end])
			if strings.Contains(span, "o.forFleet(f)") {
				span += forFleet
			}
			if strings.Contains(span, "o.declare(f)") {
				span += declare
			}
			for _, m := range flagMade.FindAllStringSubmatch(span, -1) {
				own[m[1]] = true
			}
			out[string(text[at[2]:at[3]])] = own
		}
	}
	for _, name := range []string{"revoke", "grant", "restore"} { // one function does all three
		out[name] = map[string]bool{}
		for _, m := range flagMade.FindAllStringSubmatch(body(standingGo, "func (s *standing) parse("), -1) {
			out[name][m[1]] = true
		}
	}
	if len(out) < 10 {
		t.Fatalf("found %d verbs", len(out))
	}
	return out
}
