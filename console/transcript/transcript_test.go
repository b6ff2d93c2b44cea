package transcript

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const document = `# Text

<!-- transcript: one -->

    factory> enrol request          keep request.pem and FINGERPRINT
    desk$ sign -seen FINGERPRINT \
          > bundle.pem
    factory> enrol install          paste bundle.pem; restarts
    box1> log show                  yes; shows a b; shows c
    bob$ open                       refused

More text.
`

// A desk notes what is done and answers by rote.
type desk struct {
	done  []string
	files map[string]string
}

func (d *desk) At(who, line string, restarts bool, answers []string) (string, error) {
	d.done = append(d.done, fmt.Sprintf("%s> %s %v%v", who, line, restarts, answers))
	return map[string]string{"enrol request": "Its fingerprint is\n0123-4567-89ab-cdef-0123-4567-89ab-cdef: say it\n-----BEGIN X-----\nAA\n-----END X-----\nend", "log show": "a  b\n c"}[line], nil
}

func (d *desk) Run(who, line string) (string, error) {
	d.done = append(d.done, who+"$ "+line)
	if who == "bob" {
		return "", fmt.Errorf("no: %w", ErrRefused)
	}
	d.files["bundle.pem"] = "the bundle"
	return "", nil
}

func (d *desk) Read(file string) (string, error) {
	if _, ok := d.files[file]; !ok {
		return "", errors.New("no file " + file)
	}
	return d.files[file], nil
}

func (d *desk) Write(file, text string) error { d.files[file] = text; return nil }

// TestPlay: what stands in the document is what is typed, and what it says is shown has to be.
func TestPlay(t *testing.T) {
	steps, err := Parse(document, "one")
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{files: map[string]string{}}
	if err := Play(steps, d, map[string]string{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"factory> enrol request false[]", "desk$ sign -seen 0123-4567-89ab-cdef-0123-4567-89ab-cdef > bundle.pem", "factory> enrol install true[the bundle]",
		"box1> log show false[yes]", "bob$ open"}
	if !slices.Equal(d.done, want) || d.files["request.pem"] != "-----BEGIN X-----\nAA\n-----END X-----\n" {
		t.Errorf("done %q, files %q", d.done, d.files)
	}
	for was, is := range map[string]string{"shows c": "shows d", "    bob$": "    alice$", "keep request.pem": "keep share1", "paste bundle.pem": "paste other.pem"} {
		steps, err := Parse(strings.Replace(document, was, is, 1), "one")
		if err == nil {
			err = Play(steps, &desk{files: map[string]string{}}, map[string]string{})
		}
		if err == nil {
			t.Errorf("with %q for %q nothing is wrong", is, was)
		}
	}
	for was, is := range map[string]string{"refused": "refusd", "    bob$": "    bob", "one": "two"} {
		if _, err := Parse(strings.Replace(document, was, is, 1), "one"); err == nil {
			t.Errorf("with %q for %q it is read", is, was)
		}
	}
}

// TestManual: the transcripts of MANUAL.md can be read, all of them.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("../MANUAL.md")
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`<!-- transcript: (\w+) -->`).FindAllStringSubmatch(string(text), -1)
	if len(all) == 0 {
		t.Fatal("MANUAL.md has no transcripts")
	}
	for _, name := range all {
		if steps, err := Parse(string(text), name[1]); err != nil || len(steps) < 3 {
			t.Errorf("%s: %d steps, %v", name[1], len(steps), err)
		}
	}
}
