package usage

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/kra/receipt"
)

// maxAccess is how many access identifiers the meter tells apart.
const maxAccess = 4096

// A journal is the release log.
type journal interface {
	Append(ctx context.Context, entries ...audit.Entry) (audit.Committed, error)
}

// A Meter counts what is appended to a log since the agent started. Decryptors are not told apart: anybody who can read
// metrics would learn of them, and there are too many.
type Meter struct {
	log journal

	mu       sync.Mutex
	released map[string]uint64 // by access identifier
	refused  uint64
	failed   uint64 // appends
}

// NewMeter returns a meter before a log.
func NewMeter(log journal) *Meter { return &Meter{log: log, released: map[string]uint64{}} }

// Append appends to the log and counts what is durable.
func (m *Meter) Append(ctx context.Context, entries ...audit.Entry) (audit.Committed, error) {
	done, err := m.log.Append(ctx, entries...)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.failed++
		return done, err
	}
	for _, e := range entries {
		switch e.Kind {
		case receipt.Release:
			m.release(e.Access)
		case receipt.Refusal:
			m.refused++
		}
	}
	return done, nil
}

func (m *Meter) release(access string) {
	if _, ok := m.released[access]; !ok && len(m.released) >= maxAccess {
		access = others
	}
	m.released[access]++
}

// A Gauge is a number that goes up and down, as it is now.
type Gauge struct {
	Name, Help string
	Value      float64
}

// Metrics returns the counts and the gauges in the text format of Prometheus, version 0.0.4.
func (m *Meter) Metrics(gauges ...Gauge) []byte {
	m.mu.Lock()
	released, refused, failed := maps.Clone(m.released), m.refused, m.failed
	m.mu.Unlock()
	var b bytes.Buffer
	head(&b, "kra_releases_total", "counter", "Keys released since the agent started, by access identifier.")
	for _, access := range slices.Sorted(maps.Keys(released)) {
		fmt.Fprintf(&b, "kra_releases_total{access=%q} %d\n", access, released[access])
	}
	head(&b, "kra_refusals_total", "counter", "Requests refused since the agent started.")
	fmt.Fprintf(&b, "kra_refusals_total %d\n", refused)
	head(&b, "kra_log_failures_total", "counter", "Appends to the release log that failed, since the agent started.")
	fmt.Fprintf(&b, "kra_log_failures_total %d\n", failed)
	for _, g := range gauges {
		head(&b, g.Name, "gauge", g.Help)
		fmt.Fprintf(&b, "%s %g\n", g.Name, g.Value)
	}
	return b.Bytes()
}

func head(b *bytes.Buffer, name, kind, help string) {
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}
