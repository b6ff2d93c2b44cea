package boxtest_test

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestPrunedFullDisk: what MANUAL.md says of a log that fills the disk, on a box that was restarted since: an auditor and an officer make
// room, and the box goes on by itself, and after a restart by the TPM's record of its log.
func TestPrunedFullDisk(t *testing.T) { inNameSpace(t, prunedFullDisk) }

func prunedFullDisk(t *testing.T) {
	s := newSmall(t, "6m")
	const given, own = "what olga typed for anna", "an auditor of her own"
	s.Do("officer add anna as auditor", given, given)
	full := func() bool {
		s.release(5 * time.Second)
		return strings.Contains(words(s.Do("log health")), "the disk is full")
	}
	s.until("full", full)
	s.Reset()
	s.Login()
	s.until("full again", full)
	if _, failure := s.Try("access add another"); !strings.Contains(failure, "othing was done: the disk is full") {
		t.Errorf("a change on a full disk: %q", failure)
	}
	s.LoginAs("anna", given) // full or not, somebody else has chosen it
	s.Do("officer passphrase", given, own, own)
	s.LoginAs("anna", own)
	shown := regexp.MustCompile(`records ([0-9]+) root ([0-9a-f]{64})`).FindStringSubmatch(words(s.Do("log size")))
	if shown == nil {
		t.Fatal("log size shows no root")
	}
	s.Do("log exported "+shown[1]+" "+shown[2], "yes")
	s.Login()
	if told := words(s.Do("log prune before "+shown[1], "yes")); !strings.Contains(told, "were removed; ") {
		t.Errorf("log prune says %s", told)
	}
	s.until("in service", func() bool {
		return strings.Contains(words(s.Do("status")), "health good") && s.release(time.Minute) == nil
	})
	s.Do("access add another")
	for range 2 {
		if told := words(s.Do("log verify")); !strings.Contains(told, "the log is whole.") || !strings.Contains(told, "removed records below") {
			t.Errorf("log verify says %s", told)
		}
		s.Reset()
		s.Login()
		if err := s.release(time.Minute); err != nil {
			t.Errorf("after a restart: %v", err)
		}
	}
}
