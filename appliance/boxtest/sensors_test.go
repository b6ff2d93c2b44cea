package boxtest_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra/block"
)

// TestHotBoxReleases: what the machine's sensors say is in status, and what is beyond its limit in health too; keys are released all the same.
func TestHotBoxReleases(t *testing.T) {
	b := boxtest.Start(t)
	shows := func(line string, parts ...string) {
		t.Helper()
		for until := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
			text := strings.Join(strings.Fields(b.Do(line)), " ")
			missing := ""
			for _, p := range parts {
				if !strings.Contains(text, p) {
					missing = p
				}
			}
			if missing == "" {
				return
			}
			if time.Now().After(until) {
				t.Fatalf("%s lacks %q:\n%s", line, missing, text)
			}
		}
	}
	shows("status", "sensors this machine tells of none", "health good")
	chip := filepath.Join(b.Sensors, "hwmon", "hwmon0")
	if err := os.MkdirAll(chip, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(chip, file), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("name", "coretemp")
	write("temp1_label", "Package id 0")
	write("temp1_crit", "100000")
	write("temp1_input", "45000")
	shows("status", "sensor coretemp Package id 0: 45 °C, limit 100 °C", "health good")
	legalTeam(b)
	bob := b.Person("bob")
	h, _ := header(t, b.Agent(&bob), "x")

	write("temp1_input", "101000")
	shows("status", "SENSOR coretemp Package id 0: 101 °C, limit 100 °C", "health sensor coretemp Package id 0: 101 °C, limit 100 °C")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := b.Agent(&bob).Release(ctx, []block.Header{h}); err != nil {
		t.Errorf("a hot box does not release: %v", err)
	}
	resp, err := http.Get("http://" + b.Up().Health.String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz of a hot box is %d", resp.StatusCode)
	}
	write("temp1_input", "45000")
	shows("status", "health good")
}
