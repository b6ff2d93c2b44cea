package appliance

import (
	"crypto/x509"
	"fmt"

	"github.com/keyrelease/krabox/appliance/release"
	"github.com/keyrelease/krabox/appliance/store"
)

// platformsOf are the domains of a state whose platforms may be decryptors.
func platformsOf(st *store.State, persons *release.Anchors) (*release.Platforms, error) {
	var all []release.PlatformDomain
	for _, p := range st.Platforms() {
		root, err := x509.ParseCertificate(p.Root)
		if err != nil {
			return nil, fmt.Errorf("load domain of platforms %q: %w", p.Alias, err)
		}
		d := release.PlatformDomain{Alias: p.Alias, Domain: p.Domain, Root: root}
		for _, l := range p.Labels {
			d.Labels = append(d.Labels, release.PlatformLabel{Label: l.Label, As: l.As, Document: l.Document})
		}
		all = append(all, d)
	}
	return release.NewPlatforms(all, persons)
}
