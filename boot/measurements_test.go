package boot

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/label"
)

// rowsOf returns the cells of each table row of MEASUREMENTS.md whose first cell matches.
func rowsOf(t *testing.T, first string) [][]string {
	t.Helper()
	b, err := os.ReadFile("MEASUREMENTS.md")
	must(t, err)
	re := regexp.MustCompile("^(" + first + ")$")
	var rows [][]string
	for line := range strings.Lines(string(b)) {
		line, ok := strings.CutPrefix(strings.TrimSpace(line), "| ")
		if !ok {
			continue
		}
		cells := strings.Split(strings.TrimSuffix(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if re.MatchString(cells[0]) {
			rows = append(rows, cells)
		}
	}
	return rows
}

// TestMeasurements holds MEASUREMENTS.md to the approved registers, the stages and their values.
func TestMeasurements(t *testing.T) {
	var approved []int
	rows := rowsOf(t, "[0-9]+")
	for i, r := range rows {
		pcr, err := strconv.Atoi(r[0])
		if err != nil || pcr != i {
			t.Errorf("row %d is of PCR %q", i, r[0])
		}
		if strings.HasPrefix(r[3], "yes") {
			approved = append(approved, pcr)
		}
	}
	if len(rows) != label.MaxPCR+1 {
		t.Errorf("%d registers; want %d", len(rows), label.MaxPCR+1)
	}
	if !slices.Equal(approved, label.ApprovedPCRs()) {
		t.Errorf("approved are %v; want %v", approved, label.ApprovedPCRs())
	}
	if r := rows[label.StagePCR]; !strings.HasPrefix(r[1], "process 1") {
		t.Errorf("PCR %d is extended by %q", label.StagePCR, r[1])
	}
}

func TestMeasurementsOfStages(t *testing.T) {
	var documented []string
	for _, r := range rowsOf(t, "`[a-z]+`") {
		if len(r) == 4 {
			documented = append(documented, strings.Trim(r[0], "`"))
		}
	}
	var want []string
	for s := label.Open; s <= label.Locked; s++ {
		want = append(want, s.String())
	}
	if !slices.Equal(documented, want) {
		t.Errorf("stages are %v; want %v", documented, want)
	}
	values := map[string]label.Digest{
		"`open`": label.At(label.Open), "`open`, `running`": label.At(label.Open, label.Running),
		"`maintenance`": label.At(label.Maintenance), "`locked`": label.At(label.Locked),
	}
	found := 0
	for _, r := range rowsOf(t, "`[a-z`, ]+`") {
		if len(r) != 2 {
			continue
		}
		found++
		if v := values[r[0]]; r[1] != fmt.Sprintf("`%x`", v[:4]) {
			t.Errorf("PCR 14 after %s is %s; want %x", r[0], r[1], v[:4])
		}
	}
	if found != len(values) {
		t.Errorf("%d values; want %d", found, len(values))
	}
	if label.StageValue(label.Seal) != values["`open`"] || label.StageValue(label.Sign) != values["`open`, `running`"] {
		t.Error("the kinds of approval want other stages")
	}
}
