package selftest

import (
	"encoding/hex"
	"strings"
	"testing"
)

// Every test passes, and none would pass with another answer: a failure is said, and stays.
func TestKnownAnswers(t *testing.T) {
	s := New()
	if err := s.Health(); err == nil {
		t.Error("an untested suite is good")
	}
	r := s.Run()
	t.Logf("%d tests in %s", len(r.Passed), r.Took)
	if len(r.Failed) > 0 || len(r.Passed) != len(known) || len(known) < 17 || s.Health() != nil {
		t.Fatalf("%+v, %v", r, s.Health())
	}
	for i := range known {
		t.Run(known[i].name, func(t *testing.T) {
			one := known[i]
			answer, err := hex.DecodeString(one.answer)
			if err != nil || len(answer) == 0 {
				t.Fatalf("answer %q: %v", one.answer, err)
			}
			answer[len(answer)/2] ^= 1
			one.answer = hex.EncodeToString(answer)
			s := &Suite{tests: []test{known[0], one, known[1]}}
			r := s.Run()
			if len(r.Failed) != 1 || len(r.Passed) != 2 || !strings.Contains(r.Failed[0].Error(), one.name) {
				t.Fatalf("with another answer: %+v", r)
			}
			if err := s.Health(); err == nil || !strings.Contains(err.Error(), "state error") || !strings.Contains(err.Error(), one.name) {
				t.Errorf("health: %v", err)
			}
			s.tests = known[:1]
			if r := s.Run(); len(r.Failed) > 0 || s.Health() == nil {
				t.Errorf("an error is forgotten: %+v, %v", r, s.Health())
			}
		})
	}
	broken := &Suite{tests: []test{{"panics", "00", func([]byte) error { panic("x") }}}}
	if r := broken.Run(); len(r.Failed) != 1 || broken.Health() == nil {
		t.Errorf("a panic is good: %+v", r)
	}
}
