package console

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		line, command, agent string
		parts                []viewPart
	}{
		{"key list", "key list", "key list", nil},
		{"key list | json", "key list ", "key list | json", nil},
		{"key list | include legal | count", "key list ", "key list", []viewPart{{viewInclude, "legal"}, {viewCount, ""}}},
		{`key list | exclude "two words" |  more `, "key list ", "key list", []viewPart{{viewExclude, "two words"}, {viewMore, ""}}},
		{`access add x "a | json"`, `access add x "a | json"`, `access add x "a | json"`, nil},
		{"rule add x is a || b", "rule add x is a || b", "rule add x is a || b", nil},
		{"rule list | include a | json", "rule list ", "rule list | json", []viewPart{{viewInclude, "a"}}},
	} {
		command, v, err := Split(c.line)
		if err != nil || command != c.command || !slices.Equal(v.parts, c.parts) || v.agentLine(command) != c.agent {
			t.Errorf("Split(%q) = %q, %+v, %v; for the agent %q", c.line, command, v, err, v.agentLine(command))
		}
	}
	for line, want := range map[string]string{
		"key list |":                 "unknown view",
		"key list | jsom":            "unknown view",
		"key list | include":         "include wants a word",
		"key list | include | count": "include wants a word",
		"key list | count x":         "unknown word",
		"key list" + strings.Repeat(" | count", maxViewParts+1): "at most 8 parts",
	} {
		_, _, err := Split(line)
		var mistake *SyntaxError
		if !errors.As(err, &mistake) || !strings.Contains(mistake.Text, want) || mistake.Pos > len(line) {
			t.Errorf("Split(%q) = %v; want %q", line, err, want)
		}
		if _, err := Parse(line); err == nil {
			t.Errorf("the agent takes %q", line)
		}
	}
}

func TestShown(t *testing.T) {
	text := "KEY  OF\nab   Legal\ncd   board\nef   legal\n"
	for line, want := range map[string]string{
		"x | include legal":           "ab   Legal\nef   legal\n",
		"x | exclude legal":           "KEY  OF\ncd   board\n",
		"x | count":                   "4\n",
		"x | include legal | count":   "2\n",
		"x | include none":            "",
		"x | include none | count":    "0\n",
		"x | more":                    text,
		"x | include 2 | exclude KEY": "",
	} {
		_, v, err := Split(line)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.shown(text); got != want || err != nil {
			t.Errorf("%s shows %q, %v; want %q", line, got, err, want)
		}
	}
}

func TestViewOffered(t *testing.T) {
	for line, want := range map[string]string{
		"key list | ":             "key list | ",
		"key list | inc":          "key list | include ",
		"key list | count | j":    "key list | count | json ",
		"key list | include a | ": "key list | include a | ",
	} {
		if got, _ := Complete(line, Enrolled, names); got != want {
			t.Errorf("Complete(%q) = %q; want %q", line, got, want)
		}
	}
	for line, want := range map[string]string{"key list ": "show it in another way", "key list | ": "without a word", "key list | include ": "WORD", "key list | json ": "run the command"} {
		if got := Explain(line, Enrolled); !strings.Contains(got, want) {
			t.Errorf("Explain(%q) = %q; want %q", line, got, want)
		}
	}
}

// A person reads a page, a line, and ends it; the key that ends it is no part of the next line.
func TestPages(t *testing.T) {
	l := &listener{mode: Enrolled, long: make(chan struct{})}
	p, _ := sit(t, l, time.Minute)
	p.login()
	p.send("key list | include FIFTY | count\r")
	p.expect("\r\n50\r\n")
	p.send("key list | more\r")
	p.expect("Key 21 of fifty\r\n" + morePrompt)
	p.send("\r\n")
	p.expect("Key 22 of fifty\r\n" + morePrompt)
	p.send(" ")
	p.expect("Key 45 of fifty\r\n" + morePrompt)
	p.send("q")
	p.expect("box1> ")
	if strings.Contains(p.text(), "Key 46") {
		t.Error("q shows more")
	}
	p.send("status | json\r")
	p.expect("did status | json")
	p.send("log export | count\r")
	p.expect("too much for a view")
	p.expect("box1> ")
	p.send("key list | frob\r")
	p.expect("expected: count, exclude, include, json, more, qr, qr-paper")
	if strings.Contains(l.noted(), "frob") {
		t.Error("the agent was asked")
	}
}
