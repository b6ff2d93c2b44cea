package release

import (
	"encoding/json"
	"net/http"
)

// PathHealth is the path of HealthHandler.
const PathHealth = "/healthz"

// HealthHandler answers PathHealth: 200 while healthy, else 503 with the reason. It is for a listener of its own, which
// the release port's clients do not reach.
func HealthHandler(health func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		switch {
		case r.URL.Path != PathHealth:
			w.WriteHeader(http.StatusNotFound)
			return
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", http.MethodGet)
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		answer := struct {
			Healthy bool   `json:"healthy"`
			Reason  string `json:"reason,omitempty"`
		}{Healthy: true}
		if err := health(); err != nil {
			answer.Healthy, answer.Reason = false, err.Error()
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(answer) // a client that has gone cannot be told
	})
}

// HealthServer returns a server for HealthHandler, with limits. Whoever calls it serves and shuts it down.
func HealthServer(health func() error) *http.Server {
	return &http.Server{Handler: HealthHandler(health), ReadHeaderTimeout: headWithin, ReadTimeout: headWithin,
		WriteTimeout: headWithin, IdleTimeout: idleWithin, MaxHeaderBytes: maxHeadBytes}
}
