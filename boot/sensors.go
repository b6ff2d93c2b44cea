package boot

import (
	"cmp"
	"io"
	"maps"
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
	maxChips     = 64
	maxChipFiles = 2048
	maxSound     = 12 // of a chip that are told, beside those that something is wrong with
	maxTrips     = 16
	maxSysText   = 60             // bytes of a file
	maxMilli     = int64(1) << 40 // nothing that a machine has is beyond it
)

// Times of the sensors.
const (
	sensorsEvery  = 4 * time.Second        // they are read at most
	sensorsWithin = 200 * time.Millisecond // is waited for what they say
	sensorsLate   = time.Minute            // then they are said to be silent
)

// Sensors are the machine's. Each chip is read beside all others and everything else: a disk that does not tell its temperature keeps nobody
// waiting, and hides no processor that is hot.
type sensors struct {
	class string

	mu    sync.Mutex // guards all below
	chips map[string]*chip
}

// A chip is a folder with sensors, and what they said last.
type chip struct {
	name  string
	last  []machine.Sensor
	begun time.Time     // of the last reading
	done  chan struct{} // closed when that has ended; nil: it has
}

// now returns what the sensors said last: those that something is wrong with come first.
func (s *sensors) now() []machine.Sensor {
	asked := s.ask()
	late := time.NewTimer(sensorsWithin)
	defer late.Stop()
	for _, done := range asked {
		select {
		case <-done:
			continue
		case <-late.C:
		}
		break
	}
	return s.said()
}

// ask begins to read the chips that there are now, and returns what ends with each reading that is under way.
func (s *sensors) ask() (asked []<-chan struct{}) {
	found := findChips(s.class)
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.chips
	s.chips = map[string]*chip{}
	for path, name := range found {
		c := was[path]
		if c == nil || c.name != name {
			c = &chip{name: name}
		}
		s.chips[path] = c
		if c.done == nil && time.Since(c.begun) >= sensorsEvery {
			c.begun, c.done = time.Now(), make(chan struct{})
			go s.read(path, c, c.done)
		}
		if c.done != nil {
			asked = append(asked, c.done)
		}
	}
	return asked
}

func (s *sensors) read(path string, c *chip, done chan<- struct{}) {
	all := readChip(path, c.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	c.last, c.done = all, nil
	close(done)
}

func (s *sensors) said() (all []machine.Sensor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, path := range slices.SortedFunc(maps.Keys(s.chips), byNumber) {
		c := s.chips[path]
		if c.done != nil && time.Since(c.begun) >= sensorsLate {
			all = append(all, machine.Sensor{Name: c.name, State: machine.Silent})
			continue
		}
		all = append(all, c.last...)
	}
	slices.SortStableFunc(all, func(a, b machine.Sensor) int { return cmp.Compare(urgency(a), urgency(b)) })
	return all[:min(len(all), machine.MaxSensors)]
}

// byNumber sorts hwmon2 before hwmon10.
func byNumber(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }

// findChips are the folders of sensors with their names. What of a thermal zone is a chip too is not said twice.
func findChips(class string) map[string]string {
	all, known := map[string]string{}, map[string]bool{}
	for _, path := range folders(filepath.Join(class, "hwmon", "hwmon*")) {
		name, _ := sysText(filepath.Join(path, "name"))
		known[name] = true
		all[path] = cmp.Or(name, filepath.Base(path))
	}
	for _, path := range folders(filepath.Join(class, "thermal", "thermal_zone*")) {
		if name, _ := sysText(filepath.Join(path, "type")); !known[strings.ReplaceAll(name, "-", "_")] {
			all[path] = cmp.Or(name, filepath.Base(path))
		}
	}
	return all
}

// readChip reads what there is. What fails is left out: a status is not worth an error. Of those with which nothing is wrong there is a part,
// for one chip may have one for each core of a processor.
func readChip(path, name string) []machine.Sensor {
	if strings.HasPrefix(filepath.Base(path), "hwmon") {
		all, sound := chipSensors(path, name), 0
		return slices.DeleteFunc(all, func(x machine.Sensor) bool {
			if x.State == "" {
				sound++
			}
			return x.State == "" && sound > maxSound
		})
	}
	milli, err := sysNumber(filepath.Join(path, "temp"))
	if err != nil {
		return nil
	}
	x := machine.Sensor{Name: name, Unit: machine.Celsius, Milli: milli, Most: criticalTrip(path)}
	x.State = judged(x, false)
	return []machine.Sensor{x}
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
	slices.SortFunc(stems, byNumber)
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
	limits := map[string]*int64{k.most: &x.Most, k.least: &x.Least}
	for file, to := range limits {
		if n, err := sysNumber(stem + "_" + file); file != "" && err == nil {
			*to = n * k.mul / k.div
		}
	}
	alarmed := slices.ContainsFunc(alarms, func(file string) bool {
		if to := limits[strings.TrimSuffix(file, "_alarm")]; to != nil && *to != 0 {
			return false // the reading says so itself, and some chips go on with the alarm until a restart
		}
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
