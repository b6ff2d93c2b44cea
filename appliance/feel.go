package appliance

import (
	"context"
	"fmt"
	"time"

	"github.com/keyrelease/krabox/boot/machine"
)

// feel asks process 1 for the machine's sensors. What does not answer is no warning: it says nothing of the machine.
func (a *agent) feel(ctx context.Context, h *health) {
	if a.machine == nil {
		return
	}
	for t := time.NewTicker(sensorsEvery); ; {
		m, err := a.machine.Status(ctx)
		if err != nil {
			m.Sensors = nil // what was is no word of what is
		}
		hot := warnings(m.Sensors)
		h.hot.Store(&hot)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// maxWarnings bounds what is said of sensors in one line.
const maxWarnings = 4

// warnings are those of the sensors with which something is wrong.
func warnings(all []machine.Sensor) (bad []string) {
	for _, s := range all {
		if s.State != "" {
			bad = append(bad, "sensor "+s.String())
		}
	}
	if more := len(bad) - maxWarnings; more > 0 {
		bad = append(bad[:maxWarnings], fmt.Sprintf("%d more sensors (status)", more))
	}
	return bad
}
