package appliance

import (
	"fmt"
	"time"

	"github.com/keyrelease/krabox/appliance/external"
	"github.com/keyrelease/krabox/appliance/store"
)

// servicesOf are the external services of a state, as they are asked.
func servicesOf(st *store.State, dial dial, now func() time.Time) ([]external.Service, error) {
	var all []external.Service
	for _, s := range st.Sources() {
		if s.Kind() != store.ServiceSource {
			continue
		}
		x, err := serviceOf(s)
		x.Dial, x.Now = dial, now
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", s.Alias, err)
		}
		all = append(all, x)
	}
	return all, external.Check(all)
}

func serviceOf(s store.Source) (external.Service, error) {
	stamp, err := stampOf(s)
	if err != nil {
		return external.Service{}, err
	}
	pool, err := roots(s.Service.CA)
	x := external.Service{Alias: string(s.Alias), URL: s.Service.URL, Roots: pool, Mode: external.Verify, Charge: external.Subject,
		Timeout: time.Duration(s.Service.TimeoutMS) * time.Millisecond, InFlight: s.Service.InFlight, Stamp: stamp}
	if s.Service.Mode == store.Reserve {
		x.Mode = external.Reserve
	}
	if s.Service.Charge == store.ChargePlatform {
		x.Charge, x.Value = external.Platform, s.Service.Value.Bytes
	}
	return x, err
}
