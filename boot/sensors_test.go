package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/boot/machine"
)

// classWith makes a folder such as /sys/class, of files by their paths.
func classWith(t *testing.T, files map[string]string) string {
	t.Helper()
	class := t.TempDir()
	for file, text := range files {
		path := filepath.Join(class, file)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return class
}

func words(all []machine.Sensor) (out []string) {
	for _, s := range all {
		text := s.String()
		if s.State != "" {
			text += " (" + string(s.State) + ")"
		}
		out = append(out, text)
	}
	return out
}

func TestSensors(t *testing.T) {
	const chip, zone = "hwmon/hwmon0/", "thermal/thermal_zone0/"
	of := func(name string, files ...string) map[string]string {
		m := map[string]string{chip + "name": name + "\n"}
		for i := 0; i < len(files); i += 2 {
			m[chip+files[i]] = files[i+1] + "\n"
		}
		return m
	}
	for what, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"none":             {},
		"sound":            {of("coretemp", "temp1_label", "Package id 0", "temp1_input", "45000", "temp1_crit", "100000", "temp1_crit_alarm", "0"), []string{"coretemp Package id 0: 45 °C, limit 100 °C"}},
		"hot":              {of("coretemp", "temp1_label", "Package id 0", "temp1_input", "101000", "temp1_crit", "100000"), []string{"coretemp Package id 0: 101 °C, limit 100 °C (beyond its limit)"}},
		"at the limit":     {of("k10temp", "temp1_input", "100000", "temp1_crit", "100000"), []string{"k10temp temp1: 100 °C, limit 100 °C (beyond its limit)"}},
		"no limit":         {of("k10temp", "temp1_input", "150000"), []string{"k10temp temp1: 150 °C"}},
		"alarm":            {of("x", "temp1_input", "45000", "temp1_max_alarm", "1"), []string{"x temp1: 45 °C, alarm (alarm)"}},
		"alarm of before":  {of("coretemp", "temp1_input", "45000", "temp1_crit", "100000", "temp1_crit_alarm", "1"), []string{"coretemp temp1: 45 °C, limit 100 °C"}},
		"alarm, no limit":  {of("x", "temp1_input", "45000", "temp1_crit_alarm", "1"), []string{"x temp1: 45 °C, alarm (alarm)"}},
		"broken":           {of("x", "temp1_input", "45000", "temp1_fault", "1"), []string{"x temp1: broken (broken)"}},
		"broken, no value": {of("x", "temp1_fault", "1"), []string{"x temp1: broken (broken)"}},
		"fans":             {of("x", "fan1_input", "900", "fan1_min", "1000", "fan2_input", "1200", "fan2_min", "1000"), []string{"x fan1: 900 rpm, at least 1000 rpm (beyond its limit)", "x fan2: 1200 rpm, at least 1000 rpm"}},
		"voltages":         {of("x", "in0_input", "12034", "in0_crit", "13200", "in0_lcrit", "10800", "in1_input", "4000", "in1_lcrit", "4500"), []string{"x in1: 4.00 V, at least 4.50 V (beyond its limit)", "x in0: 12.03 V, limit 13.20 V, at least 10.80 V"}},
		"a power supply":   {of("pmbus", "power1_label", "pin", "power1_input", "230500000", "power1_alarm", "1", "curr1_input", "1002"), []string{"pmbus pin: 230.5 W, alarm (alarm)", "pmbus curr1: 1.00 A"}},
		"numbers":          {of("x", "temp2_input", "2000", "temp10_input", "10000", "temp1_input", "1000"), []string{"x temp1: 1 °C", "x temp2: 2 °C", "x temp10: 10 °C"}},
		"what fails":       {of("x", "temp1_input", "", "temp2_input", "hot", "temp3_input", "99999999999999999999", "temp4_input", "4000", "temp4_crit", "?", "temp5_crit", "1"), []string{"x temp4: 4 °C"}},
		"steers":           {of("a\x1b[2Jb", "temp1_label", "l\u202e\n\nx", "temp1_input", "1000"), []string{"a[2Jb lx: 1 °C"}},
		"long":             {of(strings.Repeat("n", 5000), "temp1_label", strings.Repeat("l", 5000), "temp1_input", "1000"), []string{strings.Repeat("n", maxSysText) + " " + strings.Repeat("l", maxSysText) + ": 1 °C"}},
		"a zone": {map[string]string{zone + "type": "x86_pkg_temp\n", zone + "temp": "96000\n", zone + "trip_point_0_type": "passive\n", zone + "trip_point_0_temp": "80000\n",
			zone + "trip_point_1_type": "critical\n", zone + "trip_point_1_temp": "95000\n"}, []string{"x86_pkg_temp: 96 °C, limit 95 °C (beyond its limit)"}},
		"a zone that is a chip": {map[string]string{zone + "type": "acpi-tz", zone + "temp": "30000", chip + "name": "acpi_tz", chip + "temp1_input": "30000"}, []string{"acpi_tz temp1: 30 °C"}},
	} {
		t.Run(what, func(t *testing.T) {
			s := sensors{class: classWith(t, c.files)}
			if got := words(s.all()); !slices.Equal(got, c.want) {
				t.Errorf("%q; want %q", got, c.want)
			}
		})
	}
}

// all waits for as long as it takes.
func (s *sensors) all() []machine.Sensor {
	for _, done := range s.ask() {
		<-done
	}
	return s.said()
}

// However many there are, so many are told, of each chip some, and first those that something is wrong with.
func TestManySensors(t *testing.T) {
	files := map[string]string{}
	for chip := range 6 {
		for i := range 300 {
			files[fmt.Sprintf("hwmon/hwmon%d/temp%d_input", chip, i)] = "1000"
		}
	}
	files["hwmon/hwmon3/temp299_crit"] = "500"
	s := sensors{class: classWith(t, files)}
	got := s.all()
	if len(got) != machine.MaxSensors || got[0].Name != "hwmon3 temp299" || got[0].State != machine.Beyond || got[1].State != "" {
		t.Errorf("%d, first %+v", len(got), got[0])
	}
	for i, x := range got[1 : 1+2*maxSound] {
		if want := fmt.Sprintf("hwmon%d temp%d", i/maxSound, i%maxSound); x.Name != want {
			t.Errorf("%s is in the place of %s", x.Name, want)
		}
	}
}

// A sensor that does not answer keeps nobody waiting, is asked once, and hides no other.
func TestSilentSensor(t *testing.T) {
	class := classWith(t, map[string]string{"hwmon/hwmon0/name": "nvme", "hwmon/hwmon1/name": "coretemp", "hwmon/hwmon1/temp1_input": "45000", "hwmon/hwmon1/temp1_crit": "100000"})
	file := filepath.Join(class, "hwmon/hwmon0/temp1_input")
	must(t, syscall.Mkfifo(file, 0o600)) // who opens it waits for somebody who writes
	s := sensors{class: class}
	const sound = "coretemp temp1: 45 °C, limit 100 °C"
	eventually(t, "what the other says", func() bool { return slices.Equal(words(s.now()), []string{sound}) })
	begun := time.Now()
	for range 3 {
		s.now()
	}
	if d := time.Since(begun); d > 30*sensorsWithin {
		t.Errorf("three looks took %v", d)
	}
	must(t, os.WriteFile(filepath.Join(class, "hwmon/hwmon1/temp1_input"), []byte("101000"), 0o644))
	s.mu.Lock()
	for _, c := range s.chips {
		c.begun = c.begun.Add(-sensorsLate)
	}
	s.mu.Unlock()
	want := []string{"nvme: does not answer (does not answer)", "coretemp temp1: 101 °C, limit 100 °C (beyond its limit)"}
	eventually(t, "a minute later", func() bool { return slices.Equal(words(s.now()), want) })
	w, err := os.OpenFile(file, os.O_WRONLY, 0)
	must(t, err)
	_, err = w.WriteString("31000\n")
	must(t, err)
	w.Close()
	eventually(t, "the answer", func() bool { return slices.Contains(words(s.said()), "nvme temp1: 31 °C") })
}

// A driver may be for a processor.
func TestDriversByProcessor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "modalias")
	must(t, os.WriteFile(file, []byte("cpu:type:x86,ven0000fam0006mod006A:feature:,0000,01C0,01C2\n"), 0o644))
	found, err := findDevices(machineWith(t, flashDisk), file)
	must(t, err)
	for pattern, want := range map[string]bool{"cpu:type:x86,ven0000fam*mod*:feature:*01C0*": true, "cpu:type:x86,ven0002fam*mod*:feature:*01C0*": false, "cpu:type:x86,ven0000fam*mod*:feature:*01C1*": false} {
		if at, got, err := (moduleLine{"/m/coretemp.ko", []string{pattern}}).wanted(found); got != want || err != nil || got && at != "the processors" {
			t.Errorf("%s: for %q, %t, %v", pattern, at, got, err)
		}
	}
	if _, err := findDevices(machineWith(t), t.TempDir()); err == nil {
		t.Error("processors that cannot be read are none")
	}
}
