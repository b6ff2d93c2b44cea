package machine

import "fmt"

// MaxSensors is how many sensors are told of at most; those that something is wrong with come first.
const MaxSensors = 48

// A Sensor is one reading of the machine, as its kernel tells it.
type Sensor struct {
	Name  string      `json:"name"`
	Unit  Unit        `json:"unit"`
	Milli int64       `json:"milli"` // thousandths of the unit
	Most  int64       `json:"most,omitempty"`
	Least int64       `json:"least,omitempty"` // likewise; 0: the machine tells no limit
	State SensorState `json:"state,omitempty"`
}

// A Unit is what a sensor counts in.
type Unit string

// The units.
const (
	Celsius     Unit = "°C"
	Revolutions Unit = "rpm"
	Volt        Unit = "V"
	Ampere      Unit = "A"
	Watt        Unit = "W"
)

// A SensorState says what is wrong with what a sensor feels, or with itself. The zero state is: nothing.
type SensorState string

// The states.
const (
	Beyond SensorState = "beyond its limit"
	Alarm  SensorState = "alarm"
	Broken SensorState = "broken"
	Silent SensorState = "does not answer"
)

// String is the sensor in words, such as "coretemp Package id 0: 101 °C, limit 100 °C".
func (s Sensor) String() string {
	if s.State == Broken || s.State == Silent {
		return s.Name + ": " + string(s.State)
	}
	text := s.Name + ": " + s.Unit.amount(s.Milli)
	if s.Most != 0 {
		text += ", limit " + s.Unit.amount(s.Most)
	}
	if s.Least != 0 {
		text += ", at least " + s.Unit.amount(s.Least)
	}
	if s.State == Alarm {
		text += ", alarm"
	}
	return text
}

func (u Unit) amount(milli int64) string {
	digits := map[Unit]int{Volt: 2, Ampere: 2, Watt: 1}[u]
	return fmt.Sprintf("%.*f %s", digits, float64(milli)/1000, u)
}
