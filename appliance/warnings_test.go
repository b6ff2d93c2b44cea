package appliance

import (
	"slices"
	"testing"

	"github.com/keyrelease/krabox/boot/machine"
)

func TestWarnings(t *testing.T) {
	sound := machine.Sensor{Name: "a", Unit: machine.Celsius, Milli: 45000}
	hot := machine.Sensor{Name: "b", Unit: machine.Celsius, Milli: 101000, Most: 100000, State: machine.Beyond}
	if got := warnings([]machine.Sensor{sound, hot, sound}); !slices.Equal(got, []string{"sensor b: 101 °C, limit 100 °C"}) {
		t.Errorf("warnings = %q", got)
	}
	if got := warnings(slices.Repeat([]machine.Sensor{hot}, maxWarnings+3)); len(got) != maxWarnings+1 || got[maxWarnings] != "3 more sensors (status)" {
		t.Errorf("many warnings = %q", got)
	}
}
