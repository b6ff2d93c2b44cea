package operator

import "testing"

// A prompt behind an alarm is drawn again, and ends no command's output; any other does.
func TestAlarmEndsNoOutput(t *testing.T) {
	const alarm = "sta\a\x1b[9D\x1b[K*** 2026-11-23 11:44:05 UTC health: the disk is full: nothing is\r\n    released\r\n"
	for shown, want := range map[string]bool{
		alarm: true,
		"*** 2026-11-23 11:44:05 UTC health: good\r\n": true,
		alarm + "box1> status\r\nhealth  good\r\n":     false,
		"health  good\r\n":                             false,
		"":                                             false,
	} {
		if got := alarmed.MatchString(plain(shown)); got != want {
			t.Errorf("alarmed(%q) = %t", shown, got)
		}
	}
}
