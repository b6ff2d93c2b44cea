package qemu_test

import (
	"regexp"
	"strings"
	"testing"
)

var shareLine = regexp.MustCompile(`(?m)^[1-5]: .*$`)

// TestBoxWaits makes a box that opens by itself attended, over its serial line. It starts again measured and closed, answers nobody on its port
// and lets nobody in, until two of the three who have shares have typed them; then it releases with the state and the key that it had.
func TestBoxWaits(t *testing.T) {
	g, s := copyOf(t)
	if err := g.up("enrolled"); err != nil {
		t.Fatal(err)
	}
	if err := g.decrypt(s); err != nil {
		t.Fatalf("unattended: %v", err)
	}
	if err := g.login(); err != nil {
		t.Fatal(err)
	}
	if err := g.operator.Must("3 shares were made", "boot attended 2 of 3", "yes"); err != nil {
		t.Fatal(err)
	}
	var shares []string
	for _, want := range []string{"2 more have", "1 more has", "This box is attended"} {
		shown, err := g.operator.Do("boot next")
		if err != nil {
			t.Fatal(err)
		}
		lines := shareLine.FindAllString(strings.ReplaceAll(shown, "\r", ""), -1)
		if len(lines) != 5 {
			t.Fatalf("a share of %d lines:\n%s", len(lines), shown)
		}
		share := strings.Join(lines, "\n")
		if err := g.operator.Must(want, "boot share", share); err != nil {
			t.Fatal(err)
		}
		shares = append(shares, share)
	}
	if err := g.decrypt(s); err != nil {
		t.Errorf("attended, and not yet started again: %v", err)
	}
	if err := g.operator.Leave("reboot", "yes"); err != nil {
		t.Fatal(err)
	}
	if err := g.restarted(); err != nil {
		t.Fatal(err)
	}
	if err := g.mode("attended"); err != nil {
		t.Fatal(err)
	}
	if g.serves() {
		t.Error("a box that waits answers on its port")
	}
	for _, c := range []struct {
		want, command string
		answers       []string
	}{
		{"This box waits", "key list", nil},
		{"stage running", "status", nil},
		{"1 more is needed", "unlock", shares[2:]},
		{"was typed before", "unlock", shares[2:]},
	} {
		if err := g.operator.Must(c.want, c.command, c.answers...); err != nil {
			t.Error(err)
		}
	}
	if g.serves() {
		t.Error("one share of two opens the port")
	}
	if err := g.operator.Leave("unlock", shares[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := g.operator.UpAs("enrolled"); err != nil {
		t.Fatal(err)
	}
	if err := g.decrypt(s); err != nil {
		t.Errorf("unlocked: %v", err)
	}
	if err := g.login(); err != nil {
		t.Fatal(err)
	}
	if shown, err := g.operator.Do("log show 20"); err != nil || !strings.Contains(strings.Join(strings.Fields(shown), " "), "unlocked with shares ") {
		t.Errorf("the log does not tell which shares opened the state: %v\n%s", err, shown)
	}
}
