package boxtest_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

var benchScale = flag.String("scale", "", "output of the Scale benchmark of package policy, whose figures go into the table")

// The goals. Ratios are to the bare PKCS#11 operation, at 64 connections.
var goals = map[string]float64{
	"release/p-256/single/c64 to bare":     1.8,
	"release/p-256/batch64/c64 to bare":    1.5,
	"release/rsa-2048/single/c64 to bare":  1.25,
	"release/rsa-2048/batch64/c64 to bare": 1.1,
	"policy/scale first-p50":               decisionGoal,
	"policy/scale cold-p50":                decisionGoal,
	"policy/scale warm-p50":                decisionGoal,
	"policy/scale flushed-p50":             decisionGoal,
}

const (
	manyGoal     = 1.2 // what a release among many keys and subjects may take, to one among few
	decisionGoal = 20  // microseconds of a decision at scale
)

// A measure is a figure of the table. A goal is the most that it may be; without one there is nothing to reach. A goal that
// is missed fails nothing: ratios are the machine's too.
type measure struct {
	Name    string  `json:"measure"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	Goal    float64 `json:"goal,omitempty"`
	Reached *bool   `json:"reached,omitempty"`
}

func (r *report) measure(name string, value float64, unit string) {
	r.against(name, value, unit, goals[name])
}

func (r *report) against(name string, value float64, unit string, goal float64) {
	m := measure{Name: name, Value: value, Unit: unit, Goal: goal}
	if goal > 0 {
		reached := value <= goal
		m.Reached = &reached
	}
	r.measures = append(r.measures, m)
}

// scale takes over what the Scale benchmark of package policy printed: a line of numbers with units, such as 10.6 warm-p50-us.
func (r *report) scale(file string) {
	r.b.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		r.b.Fatal(err)
	}
	before := len(r.measures)
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 4 || !strings.HasPrefix(words[0], "BenchmarkScale") {
			continue
		}
		for i := 2; i+1 < len(words); i += 2 {
			value, err := strconv.ParseFloat(words[i], 64)
			cut := strings.LastIndexByte(words[i+1], '-')
			if err != nil || cut < 0 {
				r.b.Fatalf("%s: %s %s is no figure", file, words[i], words[i+1])
			}
			r.measure("policy/scale "+words[i+1][:cut], value, words[i+1][cut+1:])
		}
	}
	if len(r.measures) == before {
		r.b.Fatalf("%s has no figures of BenchmarkScale", file)
	}
}

// table prints every measure beside its goal.
func (r *report) table() {
	fmt.Fprintf(os.Stderr, "\n%-52s %12s  %8s  %s\n", "figure", "", "goal", "reached")
	for _, m := range r.measures {
		goal, reached := "-", "-"
		if m.Reached != nil {
			goal, reached = fmt.Sprintf("%.2f", m.Goal), map[bool]string{true: "yes", false: "no"}[*m.Reached]
		}
		fmt.Fprintf(os.Stderr, "%-52s %12.2f %-5s %8s  %s\n", m.Name, m.Value, m.Unit, goal, reached)
	}
}

// write writes figures, distributions and measures as JSON lines.
func (r *report) write(file string) {
	r.b.Helper()
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	for _, f := range r.figures {
		if err := e.Encode(f); err != nil {
			r.b.Fatal(err)
		}
	}
	for _, d := range r.times {
		if err := e.Encode(d); err != nil {
			r.b.Fatal(err)
		}
	}
	for _, m := range r.measures {
		if err := e.Encode(m); err != nil {
			r.b.Fatal(err)
		}
	}
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		r.b.Fatal(err)
	}
}

// TestScaleLine reads what go test prints of the Scale benchmark.
func TestScaleLine(t *testing.T) {
	file := t.TempDir() + "/scale.txt"
	line := "BenchmarkScale-2   \t       1\t        61.49 book-MB\t        10.60 cold-p50-us\t        21.5 warm-p50-us\n"
	if err := os.WriteFile(file, []byte("goos: linux\n"+line+"PASS\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &report{b: t}
	r.scale(file)
	j, err := json.Marshal(r.measures)
	want := `[{"measure":"policy/scale book","value":61.49,"unit":"MB"},{"measure":"policy/scale cold-p50","value":10.6,"unit":"us","goal":20,"reached":true},` +
		`{"measure":"policy/scale warm-p50","value":21.5,"unit":"us","goal":20,"reached":false}]`
	if err != nil || string(j) != want {
		t.Errorf("%s, %v; want %s", j, err, want)
	}
}
