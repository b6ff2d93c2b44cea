package appliance

import (
	"net/http"

	"github.com/keyrelease/krabox/appliance/usage"
)

// pathMetrics is where monitoring reads counts.
const pathMetrics = "/metrics"

// monitor answers pathMetrics, and has health answer the rest.
func (h *health) monitor(health http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != pathMetrics || r.Method != http.MethodGet {
			health.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(h.meter.Metrics(h.gauges()...)) // a client that has gone cannot be told
	})
}

func (h *health) gauges() []usage.Gauge {
	healthy := 1.0
	if h.port() != nil {
		healthy = 0
	}
	trusted := 0.0
	if _, ok := h.open.clock.now(); ok {
		trusted = 1
	}
	return append([]usage.Gauge{
		{Name: "kra_healthy", Help: "1 while keys can be released.", Value: healthy},
		{Name: "kra_clock_trusted", Help: "1 while rules about time can pass.", Value: trusted},
		{Name: "kra_log_records", Help: "Records in the release log.", Value: float64(h.open.log.Head().Size)},
		{Name: "kra_book_version", Help: "Version of the rules that decide.", Value: float64(h.board.book().Version())},
	}, h.board.behind()...)
}
