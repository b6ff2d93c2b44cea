package boot

import (
	"cmp"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keyrelease/krabox/boot/machine"
)

// sensorClasses is where the kernel shows the machine's sensors (its documentation: hwmon/sysfs-interface, driver-api/thermal/sysfs-api).
const sensorClasses = "/sys/class"

// Limits of what is read there.
const (
	maxChips       = 64
	maxChipFiles   = 2048
	maxSensorsRead = 512
	maxTrips       = 16
	maxSysText     = 60             // bytes of a file
	maxMilli       = int64(1) << 40 // nothing that a machine has is beyond it
)

// Times of the sensors.
const (
	sensorsEvery  = 4 * time.Second        // they are read at most
	sensorsWithin = 200 * time.Millisecond // is waited for what they say
	sensorsLate   = time.Minute            // then they are said to be silent
)

// Sensors are the machine's, read beside everything else: a disk that does not tell its temperature keeps nobody waiting.
type sensors struct {
	class string

	mu    sync.Mutex // guards all below
	last  []machine.Sensor
	begun time.Time // of the last reading
	done  chan struct{}
}

// now returns what the sensors said last.
func (s *sensors) now() []machine.Sensor {
	s.mu.Lock()
	if s.done == nil && time.Since(s.begun) >= sensorsEvery {
		s.begun, s.done = time.Now(), make(chan struct{})
		go s.read(s.done)
	}
	done := s.done
	s.mu.Unlock()
	if done != nil {
		select {
		case <-done:
		case <-time.After(sensorsWithin):
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done != nil && time.Since(s.begun) >= sensorsLate {
		return []machine.Sensor{{Name: "machine", State: machine.Silent}}
	}
	return s.last
}

func (s *sensors) read(done chan struct{}) {
	all := readSensors(s.class)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.done = all, nil
	close(done)
}

// readSensors reads what there is. What fails is left out: a status is not worth an error.
func readSensors(class string) []machine.Sensor {
	var all []machine.Sensor
	known := map[string]bool{}
	for _, chip := range folders(filepath.Join(class, "hwmon", "hwmon*")) {
		name, _ := sysText(filepath.Join(chip, "name"))
		known[name] = true
		all = append(all, chipSensors(chip, cmp.Or(name, filepath.Base(chip)))...)
	}
	for _, zone := range folders(filepath.Join(class, "thermal", "thermal_zone*")) {
		name, _ := sysText(filepath.Join(zone, "type"))
		milli, err := sysNumber(filepath.Join(zone, "temp"))
		if err != nil || known[strings.ReplaceAll(name, "-", "_")] { // the kernel shows some zones as chips too
			continue
		}
		x := machine.Sensor{Name: cmp.Or(name, filepath.Base(zone)), Unit: machine.Celsius, Milli: milli, Most: criticalTrip(zone)}
		x.State = judged(x, false)
		all = append(all, x)
	}
	all = all[:min(len(all), maxSensorsRead)]
	slices.SortStableFunc(all, func(a, b machine.Sensor) int { return cmp.Compare(urgency(a), urgency(b)) })
	return all[:min(len(all), machine.MaxSensors)]
}

func urgency(s machine.Sensor) int {
	if s.State != "" {
		return 0
	}
	return 1
}

func folders(pattern string) []string {
	all, _ := filepath.Glob(pattern) // the pattern is ours
	return all[:min(len(all), maxChips)]
}

// A sensorKind is a kind of files of a chip.
type sensorKind struct {
	unit        machine.Unit
	mul, div    int64  // from the kernel's number to thousandths of the unit
	most, least string // the files of its limits; beyond them it is in danger, not only unusual
}

var sensorKinds = map[string]sensorKind{
	"temp":  {machine.Celsius, 1, 1, "crit", "lcrit"},
	"fan":   {machine.Revolutions, 1000, 1, "", "min"},
	"in":    {machine.Volt, 1, 1, "crit", "lcrit"},
	"curr":  {machine.Ampere, 1, 1, "crit", "lcrit"},
	"power": {machine.Watt, 1, 1000, "crit", ""},
}

var sensorFile = regexp.MustCompile(`^(temp|fan|in|curr|power)([0-9]{1,3})_(input|fault)$`)

// chipSensors are those of one chip, in the order of their kinds and numbers.
func chipSensors(chip, name string) (all []machine.Sensor) {
	d, err := os.Open(chip)
	if err != nil {
		return nil
	}
	defer d.Close()
	files, _ := d.Readdirnames(maxChipFiles)
	var stems []string
	for _, f := range files {
		if m := sensorFile.FindStringSubmatch(f); m != nil {
			stems = append(stems, m[1]+m[2])
		}
	}
	slices.SortFunc(stems, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	for _, stem := range slices.Compact(stems) {
		if x, err := chipSensor(filepath.Join(chip, stem), sensorKinds[strings.TrimRight(stem, "0123456789")]); err == nil {
			label, err := sysText(filepath.Join(chip, stem+"_label"))
			if err != nil || label == "" {
				label = stem
			}
			x.Name = name + " " + label
			all = append(all, x)
		}
	}
	return all
}

// alarms are the files by which a chip says that something is not as it is to be.
var alarms = []string{"alarm", "crit_alarm", "lcrit_alarm", "emergency_alarm", "min_alarm", "max_alarm"}

// chipSensor reads the files that begin with stem.
func chipSensor(stem string, k sensorKind) (machine.Sensor, error) {
	x := machine.Sensor{Unit: k.unit}
	if n, err := sysNumber(stem + "_fault"); err == nil && n != 0 {
		x.State = machine.Broken
		return x, nil
	}
	n, err := sysNumber(stem + "_input")
	if err != nil {
		return x, err
	}
	x.Milli = n * k.mul / k.div
	for file, to := range map[string]*int64{k.most: &x.Most, k.least: &x.Least} {
		if n, err := sysNumber(stem + "_" + file); file != "" && err == nil {
			*to = n * k.mul / k.div
		}
	}
	alarmed := slices.ContainsFunc(alarms, func(file string) bool {
		n, err := sysNumber(stem + "_" + file)
		return err == nil && n != 0
	})
	x.State = judged(x, alarmed)
	return x, nil
}

func judged(x machine.Sensor, alarmed bool) machine.SensorState {
	switch {
	case x.Most != 0 && x.Milli >= x.Most, x.Least != 0 && x.Milli < x.Least:
		return machine.Beyond
	case alarmed:
		return machine.Alarm
	}
	return ""
}

// criticalTrip is the temperature at which the kernel switches the machine off; 0 if it tells none.
func criticalTrip(zone string) int64 {
	for i := range maxTrips {
		trip := filepath.Join(zone, "trip_point_"+strconv.Itoa(i))
		kind, err := sysText(trip + "_type")
		if err != nil {
			return 0
		}
		if n, err := sysNumber(trip + "_temp"); kind == "critical" && err == nil {
			return n
		}
	}
	return 0
}

// sysText reads the beginning of a file of the kernel's: what of it can be printed.
func sysText(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSysText))
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, string(b))), nil
}

func sysNumber(path string) (int64, error) {
	text, err := sysText(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n > maxMilli || n < -maxMilli {
		return 0, strconv.ErrRange
	}
	return n, nil
}
