// Package transcript reads the sessions that MANUAL.md shows and plays them: what the manual says is typed is what is typed.
//
// A transcript follows a line <!-- transcript: NAME --> as an indented block. Each of its lines is a prompt, what is typed there, and
// behind three spaces or more what there is to it:
//
//	factory> enrol request                 keep request.pem and FINGERPRINT
//	desk$ domain enrol -dir domain -request request.pem -first-seen FINGERPRINT \
//	      > bundle.pem
//	factory> enrol install                 paste bundle.pem; restarts
//	box1> trust add corp                   paste people.pem; shows SHA-256
//
// A prompt that ends in $ is a person at another machine, who types a command of the operating system. NOW is the time at which its line is
// typed.
package transcript

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// A Step is one line of a transcript.
type Step struct {
	Who     string   // what stands before the > or $: factory, box1; desk, alice
	Console bool     // typed at the console of a box
	Line    string   // what is typed, with its names in capitals as they stand there
	Keep    []string // what to keep of what is shown: files, and names in capitals
	Answers []Answer // to its questions, in their order
	Shows   []string // what it must show
	Refused bool     // it is not done
	Restart bool     // the box restarts
}

// An Answer is a word that is typed, or a file that is pasted.
type Answer struct{ Word, File string }

var stepLine = regexp.MustCompile(`^    ([a-z][a-z0-9-]*)([>$]) (\S.*?)(?:   +(\S.*))?$`)

// continued is where a line goes on in the next one.
var continued = regexp.MustCompile(` *\\\n +`)

// Parse returns the transcript of that name in a document.
func Parse(document, name string) (steps []Step, err error) {
	_, text, ok := strings.Cut(document, "<!-- transcript: "+name+" -->\n\n")
	if !ok {
		return nil, fmt.Errorf("there is no transcript %q", name)
	}
	text, _, _ = strings.Cut(text, "\n\n")
	for line := range strings.Lines(continued.ReplaceAllString(text, " ")) {
		m := stepLine.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			return nil, fmt.Errorf("transcript %s: no step: %q", name, line)
		}
		s := Step{Who: m[1], Console: m[2] == ">", Line: m[3]}
		if err := s.note(m[4]); err != nil {
			return nil, fmt.Errorf("transcript %s: %s: %w", name, s.Line, err)
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// note reads what stands behind a line: every word of it means something.
func (s *Step) note(text string) error {
	if text == "" {
		return nil
	}
	for part := range strings.SplitSeq(text, "; ") {
		verb, rest, _ := strings.Cut(part, " ")
		switch {
		case verb == "keep" && rest != "":
			s.Keep = append(s.Keep, strings.Split(rest, " and ")...)
		case verb == "paste" && rest != "":
			s.Answers = append(s.Answers, Answer{File: rest})
		case part == "yes":
			s.Answers = append(s.Answers, Answer{Word: "yes"})
		case verb == "shows" && rest != "":
			s.Shows = append(s.Shows, rest)
		case part == "refused":
			s.Refused = true
		case part == "restarts":
			s.Restart = true
		default:
			return fmt.Errorf("what is %q?", part)
		}
	}
	return nil
}

// A Stage is where a transcript is played.
type Stage interface {
	// At types a line at the console whose prompt is who> and answers its questions. It returns what is shown. A line that restarts
	// the box is followed by a log-in where there are officers.
	At(who, line string, restarts bool, answers []string) (string, error)
	// Run runs a command line of the operating system as who, in the folder with the files. It returns what it wrote; ErrRefused
	// says that it was refused what it asked for.
	Run(who, line string) (string, error)
	// Read and Write are of the files that the transcript names.
	Read(file string) (string, error)
	Write(file, text string) error
}

// ErrRefused says that a command was refused what it asked for.
var ErrRefused = errors.New("refused")

var (
	fingerprint = regexp.MustCompile(`[Ff]ingerprint is\s+([0-9a-f-]{39})`)
	share       = regexp.MustCompile(`(?m)^[1-5]: .*$`)
)

// Play plays steps. names are the values of the names in capitals so far; Play adds to them.
func Play(steps []Step, on Stage, names map[string]string) error {
	for _, s := range steps {
		if err := s.play(on, names); err != nil {
			return fmt.Errorf("%s: %s: %w", s.Who, s.Line, err)
		}
	}
	return nil
}

func (s Step) play(on Stage, names map[string]string) error {
	named := func(text string) string {
		for name, value := range names {
			text = strings.ReplaceAll(text, name, value)
		}
		return text
	}
	line := named(strings.ReplaceAll(s.Line, "NOW", time.Now().UTC().Format(time.RFC3339)))
	var answers []string
	for _, a := range s.Answers {
		word := a.Word
		if a.File != "" {
			text, err := on.Read(a.File)
			if err != nil {
				return err
			}
			word = text
		}
		answers = append(answers, word)
	}
	var shown string
	var err error
	if s.Console {
		shown, err = on.At(s.Who, line, s.Restart, answers)
	} else {
		shown, err = on.Run(s.Who, line)
	}
	if s.Refused {
		if !errors.Is(err, ErrRefused) {
			return fmt.Errorf("is not refused: %v\n%s", err, shown)
		}
		return nil
	}
	if err != nil {
		return err
	}
	plain := strings.Join(strings.Fields(shown), " ")
	for _, want := range s.Shows {
		if want = named(want); !strings.Contains(plain, want) {
			return fmt.Errorf("does not show %q:\n%s", want, shown)
		}
	}
	for _, what := range s.Keep {
		if err := keep(what, shown, on, names); err != nil {
			return err
		}
	}
	return nil
}

// keep keeps a part of what was shown: a fingerprint under its name, else in a file: a PEM block, or a share.
func keep(what, shown string, on Stage, names map[string]string) error {
	if what == strings.ToUpper(what) {
		m := fingerprint.FindStringSubmatch(shown)
		if m == nil {
			return fmt.Errorf("shows no fingerprint:\n%s", shown)
		}
		names[what] = m[1]
		return nil
	}
	if strings.HasPrefix(what, "share") {
		lines := share.FindAllString(shown, -1)
		if len(lines) == 0 {
			return fmt.Errorf("shows no share:\n%s", shown)
		}
		return on.Write(what, strings.Join(lines, "\n"))
	}
	i, j := strings.Index(shown, "-----BEGIN "), strings.LastIndex(shown, "-----\n")
	if i < 0 || j < i {
		return fmt.Errorf("shows no PEM block:\n%s", shown)
	}
	return on.Write(what, shown[i:j+len("-----\n")])
}
